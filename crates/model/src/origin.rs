//! Which pages' scripts may connect: a browser's `Origin` header against the list of an app.

/// Whether a list of origins has this one. `*` is all of them, `null` (a page without an origin) included; else an
/// entry is `scheme://host[:port]`, and a host that begins with `*.` is every host below it.
///
/// Browsers write neither the port that goes without saying nor a path (RFC 6454 § 6.2), so entries are to be written
/// alike.
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
    // The domain begins with its dot, and something has to stand before it.
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
