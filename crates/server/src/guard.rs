//! Who may call: keys, origins, and how often.

use crate::app::App;
use crate::error::ServerError;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// The prefix with which a browser's WebSocket carries a key: browsers cannot set its headers.
const SUBPROTOCOL_KEY_PREFIX: &str = "sottovoce-key.";
/// Callers remembered by the limiter before old ones are dropped.
const CALLERS_MAX: usize = 10_000;

/// Digests of the keys: equal lengths, and no key in memory.
pub(crate) struct Keys(Vec<[u8; 32]>);

impl Keys {
    pub(crate) fn new(keys: &[String]) -> Keys {
        Keys(
            keys.iter()
                .map(|key| Sha256::digest(key.as_bytes()).into())
                .collect(),
        )
    }

    /// Whether `key` is one of them; takes the same time whichever it is.
    fn accept(&self, key: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let found = self
            .0
            .iter()
            .fold(Choice::from(0), |found, known| found | known.ct_eq(&digest));
        found.into()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), ServerError> {
        if self.is_empty() || carried_key(headers).is_some_and(|key| self.accept(key)) {
            Ok(())
        } else {
            Err(ServerError::Unauthorized)
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

/// Refuses pages of other origins. Without this any page in the user's browser could call a server on loopback.
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

/// The name or address, with its port, by which the request calls this server.
fn host(request: &Request) -> Option<&str> {
    let header = request.headers().get(header::HOST);
    header.and_then(|host| host.to_str().ok()).or_else(|| {
        request
            .uri()
            .authority()
            .map(|authority| authority.as_str())
    })
}

/// Refuses names that nobody gave this server. A foreign page can have its own name changed to this address, and is then of the same
/// origin for its browser; it cannot have itself called by an address or localhost.
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

/// How often each caller may ask.
pub(crate) struct Rates {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
}

impl Rates {
    pub(crate) fn new(requests_per_minute: u32) -> Rates {
        let per_minute = NonZeroU32::new(requests_per_minute).unwrap_or(NonZeroU32::MIN);
        Rates {
            limiter: RateLimiter::keyed(Quota::per_minute(per_minute)),
        }
    }

    fn check(&self, caller: IpAddr) -> Result<(), ServerError> {
        if self.limiter.len() > CALLERS_MAX {
            self.limiter.retain_recent();
        }
        self.limiter
            .check_key(&caller)
            .map_err(|refusal| ServerError::TooMany {
                reason: "this address asks more often than it may".into(),
                retry_after: refusal.wait_time_from(DefaultClock::default().now()),
            })
    }
}

/// Lets a request through, or answers it.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let caller = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |info| info.0.ip());
    let path = request.uri().path();
    let open = matches!(path, "/" | "/health" | "/health/live" | "/health/ready")
        || path.starts_with("/page/")
        || (path == "/metrics" && app.options.open_metrics);
    let verdict = app.rates.check(caller).and_then(|()| {
        let host = host(&request);
        check_origin(request.headers(), host, &app.options.allowed_origins)?;
        if app.keys.is_empty() {
            check_host(host, &app.options.allowed_hosts)
        } else if open {
            Ok(())
        } else {
            app.keys.check(request.headers())
        }
    });
    match verdict {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a_key_is_taken_from_the_bearer_header_or_the_subprotocol() {
        let keys = Keys::new(&["one".into(), "two".into()]);
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
            let verdict = keys.check(&headers(&[(name.clone(), value)])).is_ok();
            assert_eq!(verdict, accepted, "{name}: {value}");
        }
        assert!(keys.check(&HeaderMap::new()).is_err(), "no key is no key");
        assert!(
            Keys::new(&[]).check(&HeaderMap::new()).is_ok(),
            "no keys are asked for"
        );
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

    #[test]
    fn who_asks_too_often_is_told_when_to_come_back() {
        let rates = Rates::new(2);
        let caller = IpAddr::V4(Ipv4Addr::LOCALHOST);
        rates.check(caller).unwrap();
        rates.check(caller).unwrap();
        assert!(matches!(
            rates.check(caller),
            Err(ServerError::TooMany { retry_after, .. }) if !retry_after.is_zero()
        ));
    }
}
