//! `allowed_origins`: the origins of web pages that may connect.

use url::Url;

use super::check::Check;

/// Normalizes the patterns for the comparison with browsers' `Origin` headers: in lower case, without the scheme's
/// default port.
pub(super) fn resolve(path: &str, given: &[String], check: &mut Check) -> Vec<String> {
    let mut patterns = Vec::with_capacity(given.len());
    for (n, text) in given.iter().enumerate() {
        match pattern(text) {
            Some(pattern) => patterns.push(pattern),
            None => check.wrong(
                &format!("{path}[{n}]"),
                format!(
                    "{text:?} is not an origin; write it as https://example.com, https://example.com:8443, \
                    https://*.example.com or *"
                ),
            ),
        }
    }
    patterns
}

/// `*`, or a scheme, `://`, a host with `*.` in front for all below it, and a port (RFC 6454 § 6.2).
fn pattern(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let (scheme, rest) = text.split_once("://")?;
    let (below, host) = match rest.strip_prefix("*.") {
        Some(host) => ("*.", host),
        None => ("", rest),
    };
    if host.contains(['/', '?', '#', '@', '*', '\\']) {
        return None;
    }
    // The parser converts names to lower case and Punycode, and drops default ports.
    let url = Url::parse(&format!("{scheme}://{host}")).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{below}{host}{port}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (text, read) in [
            ("*", Some("*")),
            ("https://example.com", Some("https://example.com")),
            ("HTTPS://Example.COM:443", Some("https://example.com")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("https://*.example.com:8443", Some("https://*.example.com:8443")),
            ("https://bücher.example", Some("https://xn--bcher-kva.example")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("example.com", None),
            ("*.example.com", None),
            ("https://", None),
            ("https://*", None),
            ("https://example.com/", None),
            ("https://a.*.example.com", None),
            ("https://user@example.com", None),
            ("https://example.com:99999", None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(pattern(text).as_deref(), read, "{text:?}");
        }
    }
}
