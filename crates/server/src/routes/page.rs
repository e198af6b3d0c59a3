//! The page, from the program itself: nothing is fetched from elsewhere.

use crate::error::{ErrorBody, ServerError};
use crate::routes::PathName;
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
#[utoipa::path(get, path = "/", tag = "page",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(crate) async fn index() -> Response {
    answer(
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    )
}

/// A file of the page, by a name in the list above; never a path.
#[utoipa::path(get, path = "/page/{file}", tag = "page", params(("file" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file", content((String = "text/css"), (String = "text/javascript"))),
        (status = 404, description = "Unknown", body = ErrorBody)))]
pub(crate) async fn file(PathName(name): PathName) -> Result<Response, ServerError> {
    FILES
        .iter()
        .find(|(known, _, _)| *known == name)
        .map(|(_, kind, text)| answer(kind, text))
        .ok_or_else(|| ServerError::NotFound {
            what: format!("the page's file {name:?}"),
        })
}
