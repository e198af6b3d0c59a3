//! Callers: their addresses, also behind proxies, their rate limits and their connection limits.

use crate::error::ServerError;
use axum::http::HeaderMap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::{IpNet, Ipv6Net};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

/// Callers that the rate limiter tracks. Further ones share one allowance until idle ones are
/// forgotten.
const CALLERS_MAX: usize = 10_000;
/// Key of the shared allowance beyond [`CALLERS_MAX`]; no caller has this address.
const FURTHER_CALLERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// An IPv6 customer usually has a whole network of this prefix, so its addresses count as one
/// caller.
const IPV6_CALLER_PREFIX: u8 = 64;

/// Parses a proxy's address or network, such as `10.0.0.7` or `10.0.0.0/8`.
///
/// # Errors
/// If it is neither.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        format!("{text:?} is no address or network; write 10.0.0.7, 10.0.0.0/8 or fd00::/8")
    })
}

/// The unit that counts as one caller: an IPv4 address, or a 64-bit IPv6 network.
pub(crate) fn caller_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Net::new(address, IPV6_CALLER_PREFIX)
            .map_or(IpAddr::V6(address), |net| IpAddr::V6(net.network())),
        address => address,
    }
}

/// Whether `address` is a trusted proxy.
pub(crate) fn is_trusted(address: IpAddr, proxies: &[IpNet]) -> bool {
    let address = address.to_canonical();
    proxies.iter().any(|network| network.contains(&address))
}

/// Address of the caller behind `peer`: the last entry of `X-Forwarded-For` that is not a trusted
/// proxy. Earlier entries are unverified claims.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let mut address = peer;
    if !is_trusted(peer, proxies) {
        return address;
    }
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else {
            return address;
        };
        for entry in line.rsplit(',') {
            let Some(found) = forwarded_address(entry) else {
                return address;
            };
            address = found;
            if !is_trusted(address, proxies) {
                return address;
            }
        }
    }
    address
}

/// Parses an entry of `X-Forwarded-For`; some proxies add a port.
fn forwarded_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bracketed = entry
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    if let Some(address) = bracketed {
        return address.parse().ok();
    }
    let address = entry.parse().ok();
    address.or_else(|| {
        entry
            .split_once(':')?
            .0
            .parse::<Ipv4Addr>()
            .ok()
            .map(IpAddr::V4)
    })
}

/// Rate limiter of callers.
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

    /// Counts a request of `caller`.
    ///
    /// # Errors
    /// If the caller exceeds its rate.
    pub(crate) fn check(&self, caller: IpAddr) -> Result<(), ServerError> {
        let mut caller = caller_of(caller);
        if self.limiter.len() >= CALLERS_MAX {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            if self.limiter.len() >= CALLERS_MAX {
                caller = FURTHER_CALLERS;
            }
        }
        self.limiter
            .check_key(&caller)
            .map_err(|refusal| ServerError::TooMany {
                reason: "this address asks more often than it may".into(),
                retry_after: refusal.wait_time_from(DefaultClock::default().now()),
            })
    }
}

/// Number of connections per caller.
#[derive(Clone, Default)]
pub(crate) struct CallerConnections(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of a caller; released on drop.
pub(crate) struct CallerConnection {
    connections: CallerConnections,
    caller: IpAddr,
}

impl CallerConnections {
    /// Counts a connection for the caller at `address`, unless it has `most` already.
    pub(crate) fn take(&self, address: IpAddr, most: usize) -> Option<CallerConnection> {
        let caller = caller_of(address);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.get(&caller).is_some_and(|held| *held >= most) || most == 0 {
            return None;
        }
        *table.entry(caller).or_default() += 1;
        Some(CallerConnection {
            connections: self.clone(),
            caller,
        })
    }
}

impl Drop for CallerConnection {
    fn drop(&mut self) {
        let mut table = (self.connections.0.lock()).unwrap_or_else(PoisonError::into_inner);
        let left = table
            .get(&self.caller)
            .map_or(0, |held| held.saturating_sub(1));
        if left == 0 {
            table.remove(&self.caller);
        } else {
            table.insert(self.caller, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_trusted_proxy_names_its_caller_and_nobody_else_is_believed() {
        let proxies = [
            parse_network("10.0.0.0/8").unwrap(),
            parse_network("::1").unwrap(),
        ];
        for (peer, lines, caller) in [
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("10.0.0.1", &["8.8.8.8, 203.0.113.9"], "203.0.113.9"),
            (
                "10.0.0.1",
                &["8.8.8.8", "203.0.113.9, 10.2.3.4"],
                "203.0.113.9",
            ),
            ("::ffff:10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("::1", &["[2001:db8::7]:80"], "2001:db8::7"),
            ("::1", &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &["203.0.113.9, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.9"], "10.0.0.9"),
            ("203.0.113.1", &["198.51.100.1"], "203.0.113.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            assert_eq!(
                client_address(address(peer), &headers, &proxies),
                address(caller),
                "{peer} with {lines:?}"
            );
        }
    }

    #[test]
    fn a_proxy_is_an_address_or_a_network() {
        for wrong in ["", "proxy.example", "10.0.0.0/33", "10.0.0.1:80"] {
            assert!(parse_network(wrong).is_err(), "{wrong:?} must be refused");
        }
        assert!(is_trusted(
            address("10.9.8.7"),
            &[parse_network(" 10.0.0.0/8 ").unwrap()]
        ));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_caller() {
        assert_eq!(
            caller_of(address("2001:db8:1:2:3::1")),
            caller_of(address("2001:db8:1:2:ffff::9"))
        );
        assert_ne!(
            caller_of(address("2001:db8:1:2::1")),
            caller_of(address("2001:db8:1:3::1"))
        );
        assert_eq!(
            caller_of(address("::ffff:203.0.113.9")),
            address("203.0.113.9")
        );
    }

    #[test]
    fn a_caller_holds_no_more_connections_than_it_may_and_leaves_no_trace() {
        let connections = CallerConnections::default();
        let (one, other) = (address("203.0.113.1"), address("203.0.113.2"));
        let first = connections.take(one, 2);
        let second = connections.take(one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(connections.take(one, 2).is_none());
        assert!(connections.take(other, 2).is_some());
        drop(first);
        assert!(connections.take(one, 2).is_some());
        drop(second);
        assert!(connections.0.lock().unwrap().is_empty());
        assert!(connections.take(one, 0).is_none());
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_back() {
        let rates = Rates::new(2);
        let caller = address("127.0.0.1");
        rates.check(caller).unwrap();
        rates.check(caller).unwrap();
        assert!(matches!(
            rates.check(caller),
            Err(ServerError::TooMany { retry_after, .. }) if !retry_after.is_zero()
        ));
        rates.check(address("127.0.0.2")).unwrap();
    }

    #[test]
    fn a_crowd_of_callers_does_not_grow_the_limiter_beyond_its_bound() {
        let rates = Rates::new(1);
        for number in 0..CALLERS_MAX as u32 + 500 {
            let _ = rates.check(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + number)));
        }
        assert!(rates.limiter.len() <= CALLERS_MAX + 1);
    }
}
