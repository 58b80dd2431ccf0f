//! Checks a browser's `Origin` header against an app's list of allowed origins.

/// Whether a list of origins allows this one. `*` allows all, including `null` (a page without an origin). Any other
/// entry
/// is `scheme://host[:port]`; a host that begins with `*.` stands for all of its subdomains.
///
/// Browsers write neither the default port nor a path (RFC 6454 § 6.2), so entries must not have them either.
pub fn is_allowed(list: &[String], origin: &str) -> bool {
    list.iter().any(|entry| entry == "*" || matches(entry, origin))
}

fn matches(entry: &str, origin: &str) -> bool {
    let (Some((scheme, host)), Some((from, named))) = (entry.split_once("://"), origin.split_once("://")) else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case(from) || named.contains(['/', '@', '?', '#']) {
        return false;
    }
    let Some(domain) = host.strip_prefix('*') else { return host.eq_ignore_ascii_case(named) };
    // The domain begins with its dot, and there must be a subdomain before it.
    let below = named.len().checked_sub(domain.len()).filter(|&below| below > 0 && domain.starts_with('.'));
    below.and_then(|below| named.get(below..)).is_some_and(|end| end.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn an_origin_is_allowed_if_the_list_has_it() {
        for (entry, origin, allowed) in [
            ("*", "https://a.example", true),
            ("*", "null", true),
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "HTTPS://A.Example", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example:8443", "https://a.example:8443", true),
            ("https://a.example", "https://a.example.evil", false),
            ("https://a.example", "null", false),
            ("https://a.example", "", false),
            ("https://*.a.example", "https://b.a.example", true),
            ("https://*.a.example", "https://c.b.a.example", true),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://.a.example", false),
            ("https://*.a.example", "https://evila.example", false),
            ("https://*.a.example", "https://evil/.a.example", false),
            ("https://*.a.example", "https://evil@b.a.example", false),
            ("https://*.a.example", "https://b.a.example:8443", false),
            ("https://*.a.example:8443", "https://b.a.example:8443", true),
            ("https://*", "https://a.example", false),
            ("a.example", "https://a.example", false),
        ] {
            assert_eq!(is_allowed(&[entry.to_owned()], origin), allowed, "{entry} {origin}");
        }
        assert!(!is_allowed(&[], "https://a.example"));
    }
}
