//! The page, from the program itself: nothing is fetched from elsewhere.

use crate::error::ServerError;
use axum::extract::Path;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

const FILES: [(&str, &str, &str); 4] = [
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("../page/style.css"),
    ),
    (
        "app.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/app.js"),
    ),
    (
        "dashboard.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/dashboard.js"),
    ),
    (
        "player.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/player.js"),
    ),
];

/// Keeps the page from loading or sending anything elsewhere, and others from framing it.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    (headers, text).into_response()
}

/// The page itself.
pub(crate) async fn index() -> Response {
    answer(
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    )
}

/// A file of the page, by a name in the list above; never a path.
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, ServerError> {
    FILES
        .iter()
        .find(|(known, _, _)| *known == name)
        .map(|(_, kind, text)| answer(kind, text))
        .ok_or_else(|| ServerError::NotFound {
            what: format!("the page's file {name:?}"),
        })
}
