//! Announces the service to the local network (multicast DNS), so that Home Assistant finds it.

use crate::error::ServerError;
use mdns_sd::{ServiceDaemon, ServiceInfo, UnregisterStatus};
use std::net::SocketAddr;
use std::time::Duration;

/// The service's type, as Home Assistant looks for it.
const SERVICE: &str = "_wyoming._tcp.local.";
/// Longest name of a service (RFC 6763, section 4.1.1).
const NAME_BYTES_MAX: usize = 63;
/// How long the withdrawal may take at the end.
const WITHDRAWAL_MAX: Duration = Duration::from_secs(1);

/// Refuses a name that no service can have.
pub(crate) fn check(name: &str) -> Result<(), ServerError> {
    let control = name.chars().any(char::is_control);
    match name.trim().is_empty() || name.len() > NAME_BYTES_MAX || control {
        false => Ok(()),
        true => Err(ServerError::Setting {
            option: "announce",
            value: format!("{name:?}"),
            reason: format!("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters"),
        }),
    }
}

/// An announced service; dropping it withdraws the announcement.
pub(crate) struct Announcement {
    daemon: ServiceDaemon,
    full_name: String,
}

impl Announcement {
    /// Announces the service at `address` as `name`; at the unspecified address, all addresses of
    /// this machine.
    pub(crate) fn new(name: &str, address: SocketAddr) -> Result<Announcement, ServerError> {
        let failed = |error: mdns_sd::Error| ServerError::Setting {
            option: "announce",
            value: format!("{name:?}"),
            reason: format!("the network does not let services be announced: {error}"),
        };
        let daemon = ServiceDaemon::new().map_err(failed)?;
        // The host's own name belongs to the host's own service.
        let host = format!("sottovoce-{:08x}.local.", fastrand::u32(..));
        let own = (!address.ip().is_unspecified()).then(|| address.ip());
        let addresses = own.into_iter().collect::<Vec<_>>();
        let properties: &[(&str, &str)] = &[];
        let service = ServiceInfo::new(
            SERVICE,
            name,
            &host,
            &addresses[..],
            address.port(),
            properties,
        );
        let mut service = service.map_err(failed)?;
        if own.is_none() {
            service = service.enable_addr_auto();
        }
        let full_name = service.get_fullname().to_owned();
        daemon.register(service).map_err(failed)?;
        Ok(Announcement { daemon, full_name })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Ok(withdrawn) = self.daemon.unregister(&self.full_name) {
            let _: Result<UnregisterStatus, _> = withdrawn.recv_timeout(WITHDRAWAL_MAX);
        }
        let _ = self.daemon.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_a_service() {
        for name in ["kitchen", "Büro oben"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", " ", "a\nb", &"x".repeat(64)] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }
}
