//! The classifier, through `check_url` with literal hosts: every listed range, every IPv6 form of an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use tidings_courier::egress::{Egress, EgressConfig};
use url::Url;

use super::kit::Client;

const V4: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
];

const V6: [&str; 12] = [
    "::/128",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "2001:db8::/32",
    "3fff::/20",
    "100::/64",
    "5f00::/16",
    "2001::/32",
    "64:ff9b:1::/48",
];

/// The forms in which an IPv6 address carries an IPv4 address that decides about it.
fn disguises(v4: Ipv4Addr) -> [(&'static str, Ipv6Addr); 9] {
    let bits = u128::from(v4.to_bits());
    let at = |prefix: &str| Ipv6Addr::from_bits(prefix.parse::<Ipv6Addr>().unwrap().to_bits() | bits);
    [
        ("mapped", at("::ffff:0:0")),
        ("compatible", at("::")),
        ("translated", at("::ffff:0:0:0")),
        ("NAT64", at("64:ff9b::")),
        ("ISATAP", at("::5efe:0:0")),
        ("ISATAP, global bit", at("::200:5efe:0:0")),
        ("ISATAP, public prefix", at("2a00:1450::5efe:0:0")),
        ("ISATAP, public prefix, global bit", at("2a00:1450::200:5efe:0:0")),
        ("6to4", Ipv6Addr::from_bits((0x2002 << 112) | (bits << 80) | 1)),
    ]
}

fn refused(egress: &Egress, ip: IpAddr) -> bool {
    let url = match ip {
        IpAddr::V4(v4) => format!("https://{v4}/"),
        IpAddr::V6(v6) => format!("https://[{v6}]/"),
    };
    match egress.check_url(&Url::parse(&url).unwrap()) {
        Ok(()) => false,
        Err(refusal) => {
            assert_eq!(refusal.code(), "blocked_address", "{ip}");
            true
        }
    }
}

fn strict() -> Egress {
    Egress::new(EgressConfig::default()).unwrap()
}

// covers: S03, S04, S05
#[test]
fn both_ends_of_each_listed_range_are_refused_and_in_each_disguise() {
    let egress = strict();
    for net in V4.map(|net| net.parse::<Ipv4Net>().unwrap()) {
        for v4 in [net.network(), net.broadcast()] {
            assert!(refused(&egress, v4.into()), "{v4}");
            for (form, v6) in disguises(v4) {
                assert!(refused(&egress, v6.into()), "{form} {v6} of {v4}");
            }
        }
    }
    for net in V6.map(|net| net.parse::<Ipv6Net>().unwrap()) {
        assert!(refused(&egress, net.network().into()), "{net}");
        assert!(refused(&egress, net.broadcast().into()), "{net}");
    }
}

// covers: S03, S04, S05
#[test]
fn neighbours_of_the_ranges_are_public() {
    let public = [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2606:4700::1111",
        "3ffe:ffff::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];
    let egress = strict();
    for ip in public {
        assert!(!refused(&egress, ip.parse().unwrap()), "{ip}");
    }
}

// covers: S03, S04, S05
#[test]
fn named_targets_of_known_attacks_are_refused() {
    let egress = strict();
    let targets = [
        "169.254.169.254", // most clouds
        "fd00:ec2::254",   // AWS over IPv6
        "100.100.100.200", // Alibaba
        "192.0.0.192",     // Oracle
        "168.63.129.16",   // Azure
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "2002:a9fe:a9fe::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", // Teredo
        "fe80::5efe:808:808",                   // ISATAP with a public IPv4 address on a private prefix
        "2002:808:808::5efe:7f00:1",            // ISATAP inside of 6to4
    ];
    for ip in targets {
        assert!(refused(&egress, ip.parse().unwrap()), "{ip}");
    }
}

// covers: S06
#[tokio::test]
async fn bracketed_literals_are_not_dialled() {
    let client = Client::allowing(&[]);
    for host in ["[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]", "[fd00::1]"]
    {
        for url in [format!("http://{host}/"), format!("https://{host}:8443/")] {
            client.assert_blocked(&url).await;
        }
    }
}

// covers: S15
#[test]
fn allow_and_deny_see_through_disguises() {
    let config = EgressConfig {
        allow: vec!["10.1.0.0/16".parse().unwrap(), "::ffff:172.16.5.0/120".parse().unwrap()],
        deny: vec!["10.1.2.0/24".parse().unwrap(), "9.9.9.9/32".parse().unwrap()],
        ..EgressConfig::default()
    };
    let egress = Egress::new(config).unwrap();
    let cases = [
        ("10.1.0.1", false),
        ("10.1.2.1", true),
        ("10.2.0.1", true),
        ("172.16.5.1", false),
        ("172.16.6.1", true),
        ("9.9.9.9", true),
        ("9.9.9.10", false),
    ];
    for (ip, expected) in cases {
        let v4: Ipv4Addr = ip.parse().unwrap();
        assert_eq!(refused(&egress, v4.into()), expected, "{ip}");
        for (form, v6) in disguises(v4) {
            assert_eq!(refused(&egress, v6.into()), expected, "{form} of {ip}");
        }
    }
}

// covers: S05, S15
#[test]
fn a_carrier_can_be_allowed_or_denied_as_such() {
    let config = EgressConfig {
        allow: vec!["64:ff9b:1::/48".parse().unwrap()],
        deny: vec!["64:ff9b::/96".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        ..EgressConfig::default()
    };
    let egress = Egress::new(config).unwrap();
    let cases = [
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b:1::8.8.8.8", false),
        ("64:ff9b:1::10.0.0.1", true),
        ("64:ff9b:2::8.8.8.8", true),
        ("8.8.8.8", false),
    ];
    for (ip, expected) in cases {
        assert_eq!(refused(&egress, ip.parse().unwrap()), expected, "{ip}");
    }
}

proptest! {
    // covers: S03, S05
    #[test]
    fn nothing_inside_a_listed_v4_range_is_public(which in 0..V4.len(), bits: u32) {
        let net: Ipv4Net = V4[which].parse().unwrap();
        let host = bits & net.hostmask().to_bits();
        let v4 = Ipv4Addr::from_bits(net.network().to_bits() | host);
        let egress = cached();
        prop_assert!(refused(egress, v4.into()), "{}", v4);
        for (form, v6) in disguises(v4) {
            prop_assert!(refused(egress, v6.into()), "{} {}", form, v6);
        }
    }

    // covers: S04
    #[test]
    fn nothing_inside_a_listed_v6_range_is_public(which in 0..V6.len(), bits: u128) {
        let net: Ipv6Net = V6[which].parse().unwrap();
        let host = bits & net.hostmask().to_bits();
        let v6 = Ipv6Addr::from_bits(net.network().to_bits() | host);
        prop_assert!(refused(cached(), v6.into()), "{}", v6);
    }

    // covers: S05
    #[test]
    fn an_address_and_its_disguises_get_one_verdict(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        let expected = refused(cached(), v4.into());
        for (form, v6) in disguises(v4) {
            prop_assert_eq!(refused(cached(), v6.into()), expected, "{} {}", form, v6);
        }
    }

    // covers: S04
    #[test]
    fn outside_2000_3_only_disguises_are_public(bits: u128) {
        let v6 = Ipv6Addr::from_bits(bits);
        let top = v6.segments()[0];
        prop_assume!(top & 0xe000 != 0x2000 && top > 0x64);
        prop_assert!(refused(cached(), v6.into()), "{}", v6);
    }
}

/// One client for all cases: making one loads the certificate authorities.
fn cached() -> &'static Egress {
    static CACHED: std::sync::LazyLock<Egress> = std::sync::LazyLock::new(strict);
    &CACHED
}
