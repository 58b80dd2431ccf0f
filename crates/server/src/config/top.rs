//! Keys outside any section: `listen` and `shutdown_delay`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::check::Check;
use super::value::RawDuration;

/// The default of `listen`.
pub(crate) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// No load balancer checks more rarely.
const LONGEST_DELAY: Duration = Duration::from_secs(600);

pub(super) fn listen(given: Option<&str>, check: &mut Check) -> SocketAddr {
    match given.map(address) {
        None => DEFAULT_LISTEN,
        Some(Ok(address)) => address,
        Some(Err(message)) => {
            check.wrong("listen", message);
            DEFAULT_LISTEN
        }
    }
}

/// Reads an address as `listen` and `--listen` write it.
///
/// # Errors
/// A sentence for the author of the value.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let numbers = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numbers.parse().map_err(|_| {
        format!("{text:?} is not an address and a port; write it as 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000")
    })
}

pub(super) fn shutdown_delay(given: Option<RawDuration>, check: &mut Check) -> Duration {
    let given = given.map_or(Duration::ZERO, |raw| raw.0);
    if given > LONGEST_DELAY {
        check.wrong("shutdown_delay", "shutdown_delay must be at most 10m");
    }
    given
}
