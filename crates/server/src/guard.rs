//! Access control: keys and their roles, origins, host names, and rates.

use crate::app::App;
use crate::callers::client_address;
use crate::error::ServerError;
use crate::listener::Refusal;
use crate::options::ServerOptions;
use crate::record::RequestRecord;
use crate::routes::{compat, stream};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// Prefix of the subprotocol with which browsers send a key: they cannot set headers of a
/// WebSocket.
const SUBPROTOCOL_KEY_PREFIX: &str = "sottovoce-key.";

/// Digests of keys: of equal length, and without the keys themselves in memory.
struct Digests(Vec<[u8; 32]>);

impl Digests {
    fn of(keys: &[String]) -> Digests {
        let digest = |key: &String| Sha256::digest(key.as_bytes()).into();
        Digests(keys.iter().map(digest).collect())
    }

    /// Whether `key` is valid, in constant time.
    fn accept(&self, key: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let known = self.0.iter();
        let found = known.fold(Choice::from(0), |found, known| found | known.ct_eq(&digest));
        found.into()
    }
}

/// Access that a call requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// None: the page and health checks.
    Open,
    /// A key that may speak, if the server has keys.
    Speak,
    /// A key that may change settings.
    Administer,
}

impl Access {
    /// Access required by `method` on `route`.
    fn of(method: &Method, route: &str, options: &ServerOptions) -> Access {
        let reads = method == Method::GET || method == Method::HEAD;
        match route {
            "/models/load" | "/models/unload" | "/memory/trim" | "/memory/profile" => {
                Access::Administer
            }
            "/v1/audio/aliases/{alias}" | "/models/{name}/download" => Access::Administer,
            "/" | "/page/{file}" => Access::Open,
            _ if is_probe(route) => Access::Open,
            "/metrics" if options.open_metrics => Access::Open,
            "/v1/models" | "/v1/models/{id}" | "/v1/audio/models" | "/v1/audio/voices"
                if options.open_lists && reads =>
            {
                Access::Open
            }
            _ if options.open_lists && reads && compat::lists().any(|list| list == route) => {
                Access::Open
            }
            _ => Access::Speak,
        }
    }
}

/// Whether the path is a health check, which other requests must never delay.
pub(crate) fn is_probe(path: &str) -> bool {
    matches!(
        path,
        "/health" | "/health/live" | "/health/ready" | "/health/startup"
    ) || compat::is_probe(path)
}

/// Keys by role.
pub(crate) struct Keys {
    speak: Digests,
    /// Keys that may change settings and speak; if empty, every key may.
    administer: Digests,
    /// Whether calls may change settings at all.
    remote_settings: bool,
}

impl Keys {
    pub(crate) fn new(options: &ServerOptions) -> Keys {
        Keys {
            speak: Digests::of(&options.api_keys),
            administer: Digests::of(&options.admin_keys),
            remote_settings: options.remote_settings,
        }
    }

    /// Whether speaking needs no key.
    fn is_open(&self) -> bool {
        self.speak.0.is_empty()
    }

    fn check(&self, access: Access, headers: &HeaderMap) -> Result<(), ServerError> {
        let key = carried_key(headers);
        let speaks = |key| self.speak.accept(key);
        let administers = |key| self.administer.accept(key);
        match access {
            Access::Open => Ok(()),
            Access::Administer if !self.remote_settings => Err(ServerError::SettingsLocked),
            Access::Administer if !self.administer.0.is_empty() => match key {
                Some(key) if administers(key) => Ok(()),
                Some(key) if speaks(key) => Err(ServerError::NotAdministrator),
                None if self.is_open() => Err(ServerError::NotAdministrator),
                _ => Err(ServerError::Unauthorized),
            },
            _ if self.is_open() => Ok(()),
            // Both checks always run, so that timing reveals nothing.
            _ => match key.map(|key| speaks(key) | administers(key)) {
                Some(true) => Ok(()),
                _ => Err(ServerError::Unauthorized),
            },
        }
    }
}

fn carried_key(headers: &HeaderMap) -> Option<&str> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
    };
    if let Some(value) = text(header::AUTHORIZATION) {
        let (scheme, key) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(key.trim());
    }
    text(header::SEC_WEBSOCKET_PROTOCOL)?
        .split(',')
        .find_map(|protocol| protocol.trim().strip_prefix(SUBPROTOCOL_KEY_PREFIX))
}

/// Refuses pages of other origins. Otherwise any page in the user's browser could call a server on
/// loopback.
fn check_origin(
    headers: &HeaderMap,
    host: Option<&str>,
    allowed: &[String],
) -> Result<(), ServerError> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let own = host.is_some_and(|host| {
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    });
    if own || allowed.iter().any(|known| known == "*" || *known == origin) {
        Ok(())
    } else {
        Err(ServerError::ForeignOrigin {
            origin: origin.into_owned(),
        })
    }
}

/// Host name or address of the request, with port.
fn host(request: &Request) -> Option<&str> {
    let header = request.headers().get(header::HOST);
    header.and_then(|host| host.to_str().ok()).or_else(|| {
        request
            .uri()
            .authority()
            .map(|authority| authority.as_str())
    })
}

/// Refuses unknown host names, as a defence against DNS rebinding: a foreign page lets its own name
/// resolve to this address and so shares its origin. Requests by address or by localhost cannot
/// come from such a page.
fn check_host(host: Option<&str>, allowed: &[String]) -> Result<(), ServerError> {
    // Browsers always send it.
    let Some(host) = host else {
        return Ok(());
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let local = name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || literal.parse::<IpAddr>().is_ok();
    let known = |known: &String| known == "*" || known.eq_ignore_ascii_case(name);
    if local || allowed.iter().any(known) {
        Ok(())
    } else {
        Err(ServerError::ForeignHost { host: name.into() })
    }
}

/// Middleware that passes a request on or refuses it.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&app, &mut request) {
        Ok(()) => next.run(request).await,
        // Browsers hide the status of a failed WebSocket handshake from the page, so the refusal is
        // sent over the WebSocket.
        Err(error) => match stream::refuse(&app, request, &error).await {
            Some(response) => response,
            None => error.into_response(),
        },
    }
}

/// Checks a request before its handler runs.
fn admit(app: &App, request: &mut Request) -> Result<(), ServerError> {
    let options = &app.options;
    let extensions = request.extensions();
    let route = extensions.get::<MatchedPath>();
    // A path without a route is refused after the key is checked, so that nothing is revealed
    // without a key.
    let access = route.map_or(Access::Speak, |route| {
        Access::of(request.method(), route.as_str(), options)
    });
    let probe = route.is_some_and(|route| is_probe(route.as_str()));
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |info| info.0.ip());
    let caller = client_address(peer, request.headers(), &options.trusted_proxies);
    if !probe {
        if let Some(refusal) = extensions.get::<Refusal>() {
            return Err(refusal.error());
        }
        app.rates.check(caller)?;
        // A proxy's connection belongs to no caller; the calls over it count for their own callers.
        if caller != peer
            && let Some(record) = extensions.get::<Arc<RequestRecord>>()
        {
            let most = options.limits.connections_per_caller;
            let share = app.connections.take(caller, most);
            record.hold(share.ok_or_else(|| Refusal::Caller.error())?);
        }
    }
    let host = host(request);
    check_origin(request.headers(), host, &options.allowed_origins)?;
    if app.keys.is_open() {
        check_host(host, &options.allowed_hosts)?;
    }
    app.keys.check(access, request.headers())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn keys(speak: &[&str], administer: &[&str], remote_settings: bool) -> Keys {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Keys::new(&ServerOptions {
            api_keys: owned(speak),
            admin_keys: owned(administer),
            remote_settings,
            ..ServerOptions::default()
        })
    }

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a_key_is_taken_from_the_bearer_header_or_the_subprotocol() {
        let keys = keys(&["one", "two"], &[], true);
        for (name, value, accepted) in [
            (header::AUTHORIZATION, "Bearer two", true),
            (header::AUTHORIZATION, "bearer one", true),
            (header::AUTHORIZATION, "Bearer three", false),
            (header::AUTHORIZATION, "Basic one", false),
            (header::AUTHORIZATION, "one", false),
            (
                header::SEC_WEBSOCKET_PROTOCOL,
                "sottovoce, sottovoce-key.one",
                true,
            ),
            (header::SEC_WEBSOCKET_PROTOCOL, "sottovoce-key.", false),
        ] {
            let verdict = (keys.check(Access::Speak, &headers(&[(name.clone(), value)]))).is_ok();
            assert_eq!(verdict, accepted, "{name}: {value}");
        }
        let none = HeaderMap::new();
        assert!(keys.check(Access::Speak, &none).is_err());
        assert!(keys.check(Access::Open, &none).is_ok());
        let open = super::tests::keys(&[], &[], true);
        assert!(
            open.check(Access::Speak, &none).is_ok(),
            "no keys are asked for"
        );
    }

    #[test]
    fn a_key_that_may_speak_may_not_change_settings_where_others_may() {
        use Access::{Administer, Speak};
        for (speaking, administering, remote, key, access, status) in [
            (&["s"][..], &["a"][..], true, "s", Speak, 200),
            (&["s"], &["a"], true, "a", Speak, 200),
            (&["s"], &["a"], true, "s", Administer, 403),
            (&["s"], &["a"], true, "a", Administer, 200),
            (&["s"], &["a"], true, "x", Administer, 401),
            (&["s"], &["a"], true, "", Administer, 401),
            (&["s"], &[], true, "s", Administer, 200),
            (&[], &["a"], true, "", Speak, 200),
            (&[], &["a"], true, "", Administer, 403),
            (&[], &["a"], true, "a", Administer, 200),
            (&[], &[], true, "", Administer, 200),
            (&[], &[], false, "", Administer, 403),
            (&["s"], &["a"], false, "a", Administer, 403),
        ] {
            let bearer = format!("Bearer {key}");
            let carried = match key {
                "" => HeaderMap::new(),
                _ => headers(&[(header::AUTHORIZATION, &bearer)]),
            };
            let verdict = keys(speaking, administering, remote).check(access, &carried);
            let answered = verdict.map_or_else(|error| error.status().as_u16(), |()| 200);
            assert_eq!(
                answered, status,
                "{key:?} of {speaking:?}, {administering:?}: {access:?}"
            );
        }
    }

    #[test]
    fn what_changes_the_server_is_for_administrators_and_lists_open_on_request() {
        let closed = ServerOptions::default();
        let open = ServerOptions {
            open_lists: true,
            open_metrics: true,
            ..ServerOptions::default()
        };
        for (method, route, options, access) in [
            (Method::POST, "/models/load", &open, Access::Administer),
            (Method::POST, "/memory/profile", &open, Access::Administer),
            (
                Method::PUT,
                "/v1/audio/aliases/{alias}",
                &open,
                Access::Administer,
            ),
            (Method::GET, "/v1/audio/voices", &closed, Access::Speak),
            (Method::GET, "/v1/audio/voices", &open, Access::Open),
            (Method::POST, "/v1/audio/voices", &open, Access::Speak),
            (Method::GET, "/metrics", &closed, Access::Speak),
            (Method::GET, "/metrics", &open, Access::Open),
            (Method::GET, "/health/ready", &closed, Access::Open),
            (Method::POST, "/v1/audio/speech", &open, Access::Speak),
        ] {
            assert_eq!(
                Access::of(&method, route, options),
                access,
                "{method} {route}"
            );
        }
    }

    #[test]
    fn only_own_and_allowed_origins_may_call() {
        let allowed = vec!["https://app.example".to_owned()];
        for (origin, accepted) in [
            ("http://localhost:8000", true),
            ("https://app.example", true),
            ("https://evil.example", false),
            ("null", false),
        ] {
            let headers = headers(&[(header::ORIGIN, origin)]);
            assert_eq!(
                check_origin(&headers, Some("localhost:8000"), &allowed).is_ok(),
                accepted,
                "{origin}"
            );
        }
        assert!(
            check_origin(&HeaderMap::new(), None, &allowed).is_ok(),
            "programs send no origin"
        );
    }

    #[test]
    fn only_addresses_localhost_and_given_names_reach_a_server_without_keys() {
        let allowed = vec!["speech.example".to_owned()];
        for (host, accepted) in [
            ("127.0.0.1:8000", true),
            ("192.168.1.7", true),
            ("[::1]:8000", true),
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("page.localhost:8000", true),
            ("speech.example:8000", true),
            ("evil.example", false),
            ("evil.example:8000", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(check_host(Some(host), &allowed).is_ok(), accepted, "{host}");
        }
        assert!(check_host(Some("any.example"), &["*".to_owned()]).is_ok());
        assert!(check_host(None, &[]).is_ok(), "old programs send no host");
    }
}
