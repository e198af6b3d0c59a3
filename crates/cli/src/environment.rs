//! Every environment variable that the program reads, in one place.

use sottovoce_hub::HubSettings;
use sottovoce_memory::pool::VARIABLES;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the hub's own clients read: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN.
pub fn hub_settings() -> HubSettings {
    let cache = path("HF_HUB_CACHE").or_else(|| Some(path("HF_HOME")?.join("hub")));
    HubSettings {
        endpoint: text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
        cache: cache.unwrap_or_else(|| home().join(".cache/huggingface/hub")),
        offline: text("HF_HUB_OFFLINE").is_some_and(|value| {
            !matches!(
                value.to_ascii_lowercase().as_str(),
                "0" | "false" | "no" | "off"
            )
        }),
        token: text("HF_TOKEN"),
    }
}

/// The folder of named voices: SOTTOVOCE_VOICES, or `sottovoce/voices` in XDG_DATA_HOME or in the
/// home folder.
pub fn voices_folder() -> PathBuf {
    path("SOTTOVOCE_VOICES").unwrap_or_else(|| {
        let data = path("XDG_DATA_HOME").unwrap_or_else(|| home().join(".local/share"));
        data.join("sottovoce/voices")
    })
}

/// The allocator's options and the variable that holds them: the first that is set of
/// SOTTOVOCE_ALLOC_CONF, PYTORCH_ALLOC_CONF and PYTORCH_CUDA_ALLOC_CONF.
pub fn allocator_options() -> Option<(&'static str, String)> {
    (VARIABLES.into_iter()).find_map(|name| Some((name, text(name)?)))
}

/// The first of these variables that is set, or "default".
pub fn origin(variables: &[&'static str]) -> &'static str {
    let set = |name: &&&'static str| variable(name).is_some();
    variables.iter().find(set).copied().unwrap_or("default")
}

/// Whether the terminal knows no control codes.
pub fn terminal_is_dumb() -> bool {
    text("TERM").is_some_and(|terminal| terminal == "dumb")
}

fn home() -> PathBuf {
    path("HOME")
        .or_else(|| path("USERPROFILE"))
        .unwrap_or_default()
}

/// A variable's text, if it is set and not empty.
pub fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

fn path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// An empty variable counts as none.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
