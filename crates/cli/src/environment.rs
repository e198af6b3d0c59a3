//! All environment variables of the program.

use sottovoce_hub::HubSettings;
use sottovoce_memory::pool::VARIABLES as ALLOCATOR_VARIABLES;
use std::ffi::OsString;
use std::path::PathBuf;

/// All variables that the program reads, and what they set.
pub const VARIABLES: [(&str, &str); 14] = [
    ("SOTTOVOCE_VOICES", "folder of named voices"),
    (
        "XDG_DATA_HOME",
        "folder of a user's data, in which voices lie by default",
    ),
    (
        "SOTTOVOCE_CACHE",
        "folder of converted weights and of voices prepared from recordings",
    ),
    (
        "XDG_CACHE_HOME",
        "folder of a user's caches, in which that one lies by default",
    ),
    ("HF_ENDPOINT", "server from which models are downloaded"),
    ("HF_HUB_CACHE", "folder of downloaded models"),
    (
        "HF_HOME",
        "folder in which that of downloaded models lies by default",
    ),
    ("HF_HUB_OFFLINE", "whether nothing is downloaded"),
    ("HF_TOKEN", "key for models that need one"),
    (
        "SOTTOVOCE_ALLOC_CONF",
        "options of the caching pool, in PyTorch's language",
    ),
    (
        "PYTORCH_ALLOC_CONF",
        "the same, where the one before is not set",
    ),
    (
        "PYTORCH_CUDA_ALLOC_CONF",
        "the same, where neither of those before is set",
    ),
    ("TERM", "`dumb` for a terminal without control codes"),
    (
        "HOME",
        "home folder; `USERPROFILE`, or the system's record of the user, where it is not set",
    ),
];

/// The hub clients' common variables: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN.
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

/// The cache folder: SOTTOVOCE_CACHE, or `sottovoce` in the platform's folder of caches.
pub fn cache_folder() -> PathBuf {
    path("SOTTOVOCE_CACHE").unwrap_or_else(|| {
        let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| {
            home().join(match std::env::consts::OS {
                "macos" => "Library/Caches",
                "windows" => "AppData/Local",
                _ => ".cache",
            })
        });
        caches.join("sottovoce")
    })
}

/// Allocator options and the variable that holds them: the first one set of SOTTOVOCE_ALLOC_CONF,
/// PYTORCH_ALLOC_CONF and PYTORCH_CUDA_ALLOC_CONF.
pub fn allocator_options() -> Option<(&'static str, String)> {
    (ALLOCATOR_VARIABLES.into_iter()).find_map(|name| Some((name, text(name)?)))
}

/// The first of these variables that is set, or "default".
pub fn origin(variables: &[&'static str]) -> &'static str {
    let set = |name: &&&'static str| variable(name).is_some();
    variables.iter().find(set).copied().unwrap_or("default")
}

/// Whether the terminal lacks control codes (`TERM=dumb`).
pub fn terminal_is_dumb() -> bool {
    text("TERM").is_some_and(|terminal| terminal == "dumb")
}

fn home() -> PathBuf {
    path("HOME")
        .or_else(|| path("USERPROFILE"))
        // A service may have neither; the system knows its user's.
        .or_else(std::env::home_dir)
        .unwrap_or_default()
}

/// A variable's text, if it is set and not empty.
pub fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

fn path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// An empty variable counts as unset.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
