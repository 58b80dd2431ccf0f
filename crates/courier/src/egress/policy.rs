//! The rules that decide what may be dialled: [`Policy`].
//!
//! Called by [`Egress::check_url`](super::Egress::check_url) (when a listener is created, and before each send) and by
//! the dialler, once more, immediately before each connection. It does no I/O. It guarantees that an address is
//! accepted only if it is public or allowed, and never if it is denied. Allow and deny lists also apply to IPv4
//! addresses embedded in IPv6 ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use url::{Host, Url};

use super::address::{effective, is_public_by_itself};
use super::config::EgressConfig;
use super::error::Refusal;

/// The addresses of `localhost` and of names below it (RFC 6761, section 6.3). These names are not looked up, so that a
/// resolver cannot give them other addresses.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The vetted part of an [`EgressConfig`].
#[derive(Debug)]
pub(super) struct Policy {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    deny_ports: Vec<u16>,
    https_only: bool,
}

impl Policy {
    pub(super) fn new(config: &EgressConfig) -> Policy {
        Policy {
            allow: config.allow.iter().map(unmapped).collect(),
            deny: config.deny.iter().map(unmapped).collect(),
            deny_ports: config.deny_ports.clone(),
            https_only: config.https_only,
        }
    }

    /// Checks everything about a URL that can be checked without looking up its host.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        match url.scheme() {
            "https" => {}
            "http" if self.https_only => return Err(Refusal::HttpsOnly),
            "http" => {}
            _ => return Err(Refusal::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Userinfo);
        }
        let port = url.port_or_known_default().ok_or(Refusal::NoHost)?;
        self.check_port(port)?;
        match url.host().ok_or(Refusal::NoHost)? {
            Host::Ipv4(v4) => self.check_literal(IpAddr::V4(v4)),
            Host::Ipv6(v6) => self.check_literal(IpAddr::V6(v6)),
            Host::Domain(name) if is_localhost(name) => self.loopback().map(drop),
            Host::Domain(_) => Ok(()),
        }
    }

    /// The final check of one address, immediately before it is dialled.
    pub(super) fn check_addr(&self, addr: SocketAddr) -> Result<(), Refusal> {
        self.check_port(addr.port())?;
        self.check_ip(addr.ip())
    }

    /// As [`check_ip`](Self::check_ip), for an address that the URL itself contains. The refusal may name it: that
    /// reveals nothing.
    pub(super) fn check_literal(&self, ip: IpAddr) -> Result<(), Refusal> {
        self.check_ip(ip).map_err(|refusal| match refusal {
            Refusal::NotPublic { .. } => Refusal::NotPublic { remedy: Some(IpNet::from(ip)) },
            other => other,
        })
    }

    /// Vets one address. The refusal does not say which address it was.
    pub(super) fn check_ip(&self, ip: IpAddr) -> Result<(), Refusal> {
        let denied = |ip: &IpAddr| self.deny.iter().any(|net| net.contains(ip));
        if denied(&ip) || effective(ip).any(|ip| denied(&ip)) {
            return Err(Refusal::Denied);
        }
        let allowed = |ip: &IpAddr| self.allow.iter().any(|net| net.contains(ip));
        if effective(ip).all(|ip| is_public_by_itself(ip) || allowed(&ip)) || allowed(&ip) {
            return Ok(());
        }
        Err(Refusal::NotPublic { remedy: None })
    }

    /// The loopback addresses that may be dialled for a `localhost` name, at least one. For any other name, one refused
    /// address refuses all. Here the others may still be used: no attacker can add addresses, and an operator who
    /// allows 127.0.0.0/8 does not think of ::1.
    pub(super) fn loopback(&self) -> Result<Vec<IpAddr>, Refusal> {
        let mut refused = None;
        let mut usable = Vec::with_capacity(LOOPBACK.len());
        for ip in LOOPBACK {
            match self.check_ip(ip) {
                Ok(()) => usable.push(ip),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match refused {
            Some(refusal) if usable.is_empty() => Err(match refusal {
                Refusal::NotPublic { .. } => {
                    Refusal::NotPublic { remedy: Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).ok().map(IpNet::V4) }
                }
                other => other,
            }),
            _ => Ok(usable),
        }
    }

    fn check_port(&self, port: u16) -> Result<(), Refusal> {
        if port == 0 || self.deny_ports.contains(&port) {
            return Err(Refusal::Port(port));
        }
        Ok(())
    }
}

impl EgressConfig {
    /// Checks `url` as [`Egress::check_url`](super::Egress::check_url) does, for callers that have no client yet.
    ///
    /// # Errors
    /// The [`Refusal`] with which a send would fail.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        Policy::new(self).check_url(url)
    }
}

/// True for `localhost`, names below it, and both with a trailing dot, in any case.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

/// A network written in IPv4-mapped form means the IPv4 network.
fn unmapped(net: &IpNet) -> IpNet {
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
            .addr()
            .to_ipv4_mapped()
            .and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96).ok())
            .map_or(*net, IpNet::V4),
        _ => *net,
    }
}
