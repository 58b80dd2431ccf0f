//! Which client sent a request: the peer of the connection, or the address that a trusted proxy reports.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::HeaderMap;
use ipnet::IpNet;
use tidings_courier::egress::is_public;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";

/// The proxies whose `X-Forwarded-For` is believed (`trusted_proxies`).
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: Vec<IpNet>,
    /// The log has a warning of a proxy that seems to be missing in the list.
    has_warned: AtomicBool,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// The address stands for one client, so default limits per address apply: it is public, and as far as we can tell
    /// no proxy's. Behind a private address or an unlisted proxy there may be many clients.
    pub(super) is_single: bool,
}

impl Proxies {
    pub(super) fn new(trusted: Vec<IpNet>) -> Self {
        Self { trusted, has_warned: AtomicBool::new(false) }
    }

    /// Whether this address is a proxy's.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether a proxy that is not listed forwarded this request from `peer`. The first such request is logged.
    pub(super) fn is_unlisted(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let is_forwarded = headers.contains_key(FORWARDED_FOR) || headers.contains_key(FORWARDED);
        if !is_forwarded || self.trusts(peer) {
            return false;
        }
        if !self.has_warned.load(Relaxed) && !self.has_warned.swap(true, Relaxed) {
            tracing::warn!(
                %peer,
                "X-Forwarded-For or Forwarded ignored: the peer is not in trusted_proxies, so all clients behind it \
                count as one; if it is a proxy of yours, list it there"
            );
        }
        true
    }

    /// The client of a request that came from `peer`.
    ///
    /// Each proxy appends its own peer to `X-Forwarded-For`. So the list is read from its end, as long as trusted
    /// proxies wrote the entries: the first address that is no trusted proxy's is the client's. The client may have
    /// made up all entries before it.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let mut address = peer.to_canonical();
        if self.is_unlisted(peer, headers) {
            return Client { address, is_single: false };
        }
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        // A line that is not ASCII ends the search, like an entry that is no address.
        let entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for entry in entries {
            if !self.trusts(address) {
                break;
            }
            let Some(before) = read_address(entry.trim()) else { break };
            address = before;
        }
        Client { address, is_single: is_public(address) && !self.trusts(address) }
    }
}

/// An address with or without a port: proxies write both.
fn read_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let read = bare.parse::<IpAddr>().or_else(|_| text.parse::<std::net::SocketAddr>().map(|address| address.ip()));
    read.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_whom_the_first_proxy_saw() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let check = |peer: &str, lines: &[&str], client: &str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let found = proxies.client(peer.parse().unwrap(), &headers);
            assert_eq!(found.address, client.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        };
        check("203.0.113.9", &[], "203.0.113.9");
        // Not a proxy of ours: what it says counts for nothing.
        check("203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("fd00::1", &["2001:db8::7"], "2001:db8::7");
        check("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7");
        check("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1");
        // What the client sent itself stands further left.
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1", "198.51.100.1,10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1", "10.0.0.3 , 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["1.1.1.1, "], "10.0.0.1");
        let nobody = Proxies::new(Vec::new());
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, "198.51.100.1".parse().unwrap());
        assert_eq!(nobody.client("10.0.0.1".parse().unwrap(), &headers).address.to_string(), "10.0.0.1");
    }

    // covers: G064
    #[test]
    fn only_a_public_address_that_is_no_proxys_is_taken_for_one_client() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "9.9.9.9/32".parse().unwrap()]);
        let is_single = |peer: &str, header: Option<(&'static str, &str)>| {
            let headers = header.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            proxies.client(peer.parse().unwrap(), &headers.into_iter().collect()).is_single
        };
        assert!(is_single("8.8.8.8", None));
        assert!(is_single("2606:4700::1", None));
        assert!(is_single("::ffff:8.8.8.8", None));
        assert!(is_single("10.0.0.1", Some((FORWARDED_FOR, "8.8.8.8"))), "a listed proxy names its client");
        for private in ["127.0.0.1", "::1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1", "fe80::1", "10.0.0.1"]
        {
            assert!(!is_single(private, None), "{private}");
        }
        assert!(!is_single("9.9.9.9", None), "a listed proxy that says nothing");
        assert!(!is_single("10.0.0.1", Some((FORWARDED_FOR, "192.168.1.1"))));
        assert!(!proxies.has_warned.load(Relaxed));
        assert!(!is_single("8.8.8.8", Some((FORWARDED_FOR, "1.1.1.1"))), "a proxy that is not listed");
        assert!(!is_single("8.8.8.8", Some((FORWARDED, "for=1.1.1.1"))));
        assert!(proxies.has_warned.load(Relaxed));
    }
}
