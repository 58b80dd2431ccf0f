//! Which IP addresses are public: the classifier behind the policy.
//!
//! Called by [`policy`](super::policy) only. It guarantees that no address of the ranges below counts as public, and
//! that an IPv4 address gets the same verdict in each IPv6 form that embeds it (mapped, compatible, translated, NAT64,
//! 6to4, ISATAP). Sources: the IANA special-purpose registries (RFC 6890, RFC 8190), RFC 4291, RFC 6052, RFC 3056, RFC
//! 5214, RFC 8215.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks (network, prefix length) that are not the public internet.
const SPECIAL_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),          // "this network"; 0.0.0.0 reaches the host itself
    (Ipv4Addr::new(10, 0, 0, 0), 8),         // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),      // shared by carriers (RFC 6598)
    (Ipv4Addr::new(127, 0, 0, 0), 8),        // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32),   // Azure's platform endpoint: a public number, served by the hypervisor
    (Ipv4Addr::new(169, 254, 0, 0), 16),     // link local, and the metadata services of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),      // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),       // IETF protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),       // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),     // former 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),     // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),      // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24),    // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),     // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),        // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),        // reserved
    (Ipv4Addr::new(255, 255, 255, 255), 32), // broadcast
];

/// IPv6 networks inside 2000::/3 that are not the public internet. Everything outside 2000::/3 is refused without a
/// list: loopback, unique local, link local, site local, multicast, discard-only (100::/64), segment routing
/// (5f00::/16), local-use NAT64 (64:ff9b:1::/48).
const SPECIAL_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF protocol assignments: Teredo, ORCHID, benchmarking
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// The addresses that decide what dialling `ip` reaches: `ip` itself, or the IPv4 address that it embeds, or both.
/// All of them have to be acceptable.
pub(super) fn effective(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let (first, second) = match ip {
        IpAddr::V4(_) => (ip, None),
        IpAddr::V6(v6) => effective_v6(v6),
    };
    std::iter::once(first).chain(second)
}

/// Whether `ip` is a unicast address of the public internet, also if an IPv6 form embeds it.
pub fn is_public(ip: IpAddr) -> bool {
    effective(ip).all(is_public_by_itself)
}

/// True if `ip`, taken by itself, is a unicast address of the public internet. It does not look at embedded IPv4
/// addresses: call it with what [`effective`] returns.
pub(super) fn is_public_by_itself(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            !SPECIAL_V4.iter().any(|&(net, len)| v4.to_bits() >> (32 - len) == net.to_bits() >> (32 - len))
        }
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xe000 == 0x2000
                && !SPECIAL_V6.iter().any(|&(net, len)| v6.to_bits() >> (128 - len) == net.to_bits() >> (128 - len))
        }
    }
}

fn effective_v6(v6: Ipv6Addr) -> (IpAddr, Option<IpAddr>) {
    let outer = IpAddr::V6(v6);
    let s = v6.segments();
    let last = v4(s[6], s[7]);
    match s {
        // IPv4-compatible (this includes :: and ::1), IPv4-mapped, IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0, 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => (last, None),
        // ISATAP without a prefix of its own (RFC 5214, section 6.1).
        [0, 0, 0, 0, 0 | 0x100 | 0x200 | 0x300, 0x5efe, ..] => (last, None),
        // Local-use NAT64 is refused as such; the embedded address matters only to `deny`.
        [0x64, 0xff9b, 1, ..] => (outer, Some(last)),
        // 6to4, whose interface part may be ISATAP again.
        [0x2002, high, low, ..] => (v4(high, low), is_isatap(&s).then_some(last)),
        _ if is_isatap(&s) => (outer, Some(last)),
        _ => (outer, None),
    }
}

fn is_isatap(segments: &[u16; 8]) -> bool {
    // The two bits that RFC 5214 leaves free are "universal/local" and "group".
    segments[4] & 0xfcff == 0 && segments[5] == 0x5efe
}

fn v4(high: u16, low: u16) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}
