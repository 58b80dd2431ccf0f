//! Which pages of which sites may connect: the `Origin` that browsers send (RFC 6454), against an app's list.

/// Whether a list of origins has this one. `*` is all of them; else an entry is `scheme://host[:port]`, and a host that
/// begins with `*.` stands for all hosts below it.
pub(crate) fn is_allowed(list: &[String], origin: &str) -> bool {
    list.iter().any(|entry| entry == "*" || matches(entry, origin))
}

fn matches(entry: &str, origin: &str) -> bool {
    let (Some(entry), Some(origin)) = (parts(entry), parts(origin)) else { return false };
    let host = match entry.host.strip_prefix("*.") {
        Some(domain) => {
            let within = origin.host.len().checked_sub(domain.len() + 1);
            within.is_some_and(|dot| {
                dot > 0
                    && origin.host.as_bytes()[dot] == b'.'
                    && origin.host.as_bytes()[dot + 1..].eq_ignore_ascii_case(domain.as_bytes())
            })
        }
        None => entry.host.eq_ignore_ascii_case(origin.host),
    };
    host && entry.scheme.eq_ignore_ascii_case(origin.scheme) && entry.port == origin.port
}

struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<&'a str>,
}

/// An origin's parts, its port only where it isn't its scheme's.
fn parts(origin: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = origin.split_once("://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        // What follows the last colon of a bare IPv6 address is no port.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let usual = match scheme {
        "https" => Some("443"),
        "http" => Some("80"),
        _ => None,
    };
    Some(Parts { scheme, host, port: port.filter(|_| port != usual) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_if_the_list_has_it() {
        let table: [(&str, &str, bool); 20] = [
            ("*", "null", true),
            ("*", "https://a.example", true),
            ("https://a.example", "https://a.example", true),
            ("https://a.example/", "https://A.example", true),
            ("https://a.example:443", "https://a.example", true),
            ("http://a.example", "http://a.example:80", true),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("https://*.example", "https://a.example", true),
            ("https://*.example", "https://b.a.EXAMPLE", true),
            ("https://*.example", "https://example", false),
            ("https://*.example", "https://.example", false),
            ("https://*.example", "https://aexample", false),
            ("https://*.example", "https://a.example.evil", false),
            ("https://*.example", "https://é.example", true),
            ("https://*.example", "http://a.example", false),
            ("https://*.example", "https://a.example:8443", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "null", false),
            ("a.example", "a.example", false),
        ];
        for (entry, origin, allowed) in table {
            assert_eq!(is_allowed(&[entry.to_owned()], origin), allowed, "{entry} {origin}");
        }
        assert!(!is_allowed(&[], "https://a.example"));
    }
}
