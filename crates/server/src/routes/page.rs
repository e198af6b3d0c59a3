//! The web page, embedded in the program. It loads nothing from other hosts.

use crate::error::{ErrorBody, ServerError};
use crate::routes::PathName;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A file in the page's folder, by name.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_str!(concat!("../page/", $name)))
    };
}

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and text of each file of the page except itself.
const FILES: [(&str, &str, &str); 25] = [
    (
        "style.css",
        STYLE,
        concat!(
            include_str!("../page/theme.css"),
            include_str!("../page/controls.css"),
            include_str!("../page/speak.css"),
            include_str!("../page/vendor/uPlot.min.css"),
            include_str!("../page/memory.css"),
        ),
    ),
    file!("api.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("history-plots.js", SCRIPT),
    file!("knobs.js", SCRIPT),
    file!("ledgers.js", SCRIPT),
    file!("memory.js", SCRIPT),
    file!("models.js", SCRIPT),
    file!("player.js", SCRIPT),
    file!("plots.js", SCRIPT),
    file!("recorder.js", SCRIPT),
    file!("settings.js", SCRIPT),
    file!("snippets.js", SCRIPT),
    file!("sound.js", SCRIPT),
    file!("speak.js", SCRIPT),
    file!("speech.js", SCRIPT),
    file!("take-store.js", SCRIPT),
    file!("takes.js", SCRIPT),
    file!("theme.js", SCRIPT),
    file!("voices.js", SCRIPT),
    file!("waveform.js", SCRIPT),
    file!("words.js", SCRIPT),
    // The library sets a global variable, but the page's modules need an import.
    (
        "uPlot.js",
        SCRIPT,
        concat!(
            include_str!("../page/vendor/uPlot.iife.min.js"),
            "\nexport default uPlot;\n"
        ),
    ),
];

/// Content security policy: the page loads from and sends to its own server only, and cannot be
/// framed.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Permissions policy: the page uses the microphone only.
const PERMISSIONS: &str = "microphone=(self), camera=(), geolocation=()";

/// Entity tag of a text: weak, because a compressed answer has the same.
fn entity_tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// Answers with a text of the page; without it where the browser's copy, named by `If-None-Match`
/// among `asked`, is the same.
fn answer(asked: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let tag = entity_tag(text);
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == tag);
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (HeaderName::from_static("permissions-policy"), PERMISSIONS),
    ];
    let tagged = [(header::ETAG, tag)];
    if known {
        return (StatusCode::NOT_MODIFIED, tagged, headers).into_response();
    }
    (tagged, headers, text).into_response()
}

/// The page itself.
#[utoipa::path(get, path = "/", tag = "page",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(crate) async fn index(asked: HeaderMap) -> Response {
    answer(
        &asked,
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    )
}

/// A file of the page, by a name in the list above; never a path.
#[utoipa::path(get, path = "/page/{file}", tag = "page", params(("file" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file", content((String = "text/css"), (String = "text/javascript"))),
        (status = 404, description = "Unknown", body = ErrorBody)))]
pub(crate) async fn file(
    asked: HeaderMap,
    PathName(name): PathName,
) -> Result<Response, ServerError> {
    FILES
        .iter()
        .find(|(known, _, _)| *known == name)
        .map(|(_, kind, text)| answer(&asked, kind, text))
        .ok_or_else(|| ServerError::NotFound {
            what: format!("the page's file {name:?}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce::options::Domain;
    use sottovoce::{EngineOptions, OptionTable};
    use std::collections::BTreeSet;

    const INDEX: &str = include_str!("../page/index.html");

    /// Names after `/page/` in a text.
    fn named(text: &str) -> impl Iterator<Item = &str> {
        let parts = text.split("\"/page/").skip(1);
        parts.filter_map(|part| part.split('"').next())
    }

    #[test]
    fn every_file_that_is_named_is_served_and_every_served_one_is_named() {
        let served: BTreeSet<&str> = FILES.iter().map(|(name, _, _)| *name).collect();
        assert_eq!(served.len(), FILES.len(), "no name twice");
        let own = FILES.iter().filter(|(name, _, _)| *name != "uPlot.js");
        let texts = own.map(|(_, _, text)| *text).chain([INDEX]);
        let named: BTreeSet<&str> = texts.flat_map(named).collect();
        assert_eq!(named, served);
    }

    #[test]
    fn what_a_browser_has_already_is_not_sent_again() {
        let asked = |tag: Option<&str>| {
            let pair = tag.map(|tag| (header::IF_NONE_MATCH, tag.parse().unwrap()));
            answer(&pair.into_iter().collect(), STYLE, "a {}")
        };
        let first = asked(None);
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_ne!(tag, entity_tag("b {}"));
        assert_eq!(asked(Some(&tag)).status(), StatusCode::NOT_MODIFIED);
        let several = format!("W/\"0\", {tag}");
        assert_eq!(asked(Some(&several)).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(asked(Some("W/\"0\"")).status(), StatusCode::OK);
    }

    #[test]
    fn what_the_page_imports_at_once_is_fetched_at_once() {
        let preloaded: BTreeSet<&str> = (INDEX.lines())
            .filter(|line| line.contains("modulepreload"))
            .flat_map(named)
            .collect();
        let imported: BTreeSet<&str> = (FILES.iter())
            .filter(|(name, _, _)| preloaded.contains(name) || *name == "app.js")
            .flat_map(|(_, _, text)| text.lines())
            .filter(|line| line.starts_with("import ") || line.starts_with("} from "))
            .flat_map(named)
            .collect();
        assert_eq!(preloaded, imported);
    }

    #[test]
    fn the_page_offers_the_words_of_the_table_of_options() {
        for name in ["profile", "precision"] {
            let option = EngineOptions::description(name).unwrap();
            let Domain::Choice { words } = option.domain else {
                panic!("{name} is a choice");
            };
            let offered: String = (words.iter())
                .map(|word| format!("<option>{word}</option>"))
                .collect();
            assert!(INDEX.contains(&offered), "{name}: {offered}");
        }
    }
}
