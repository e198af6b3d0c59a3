//! Origins of web pages, as browsers send them.

use crate::error::ServerError;
use axum::http::Uri;

/// Refuses an origin in a form that no browser sends, since it could never match.
///
/// # Errors
/// Names the form that browsers send, if it is known.
pub(crate) fn check(origin: &str) -> Result<(), ServerError> {
    // Pages from files and sandboxed frames send `null`.
    if matches!(origin, "*" | "null") {
        return Ok(());
    }
    let refuse = |reason: String| {
        Err(ServerError::Setting {
            option: "allow-origin",
            value: origin.to_owned(),
            reason,
        })
    };
    if !origin.is_ascii() {
        let reason = "browsers write such a name in its ASCII form, which begins with xn--";
        return refuse(reason.into());
    }
    let Some((scheme, rest)) = origin.split_once("://") else {
        let advice = format!("an origin begins with its scheme: try https://{origin}");
        return refuse(advice);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = match authority.strip_suffix(default_port) {
        Some(name) if !default_port.is_empty() => name,
        _ => &authority,
    };
    let sent = format!("{scheme}://{authority}");
    let plain = format!("{sent}/").parse::<Uri>().is_ok() && !authority.is_empty();
    if !plain || sent.contains(['*', ' ']) {
        return refuse("it is no origin; write one as https://app.example or *".into());
    }
    if sent != origin {
        return refuse(format!("browsers send this origin as {sent}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_taken() {
        for origin in [
            "*",
            "null",
            "https://app.example",
            "http://localhost:3000",
            "https://app.example:8443",
            "http://192.168.1.7",
            "http://[::1]:8000",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(check(origin).is_ok(), "{origin}");
        }
    }

    #[test]
    fn what_can_never_match_is_refused_with_what_would() {
        for (origin, advice) in [
            ("https://app.example/", "https://app.example"),
            ("https://App.Example", "https://app.example"),
            ("HTTPS://app.example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example/path?x", "https://app.example"),
            ("https://user@app.example", "https://app.example"),
            ("app.example", "https://app.example"),
            ("https://käse.example", "xn--"),
            ("https://*.example", "no origin"),
            ("https://", "no origin"),
            ("https://app .example", "no origin"),
            ("", "scheme"),
        ] {
            let refusal = check(origin).err().map(|error| error.to_string());
            let refusal = refusal.unwrap_or_default();
            assert!(refusal.contains(advice), "{origin:?}: {refusal:?}");
            assert!(refusal.contains("allow-origin"), "{refusal:?}");
        }
    }
}
