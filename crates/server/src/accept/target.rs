//! Which host a request is for, decided before anything else looks at it (RFC 9112 § 3.2, § 3.3).
//!
//! Ambiguous requests are refused: several `Host` lines, none where HTTP requires one, or one that is no host. If the
//! target has an authority (an absolute URL), that replaces the `Host` line.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, Version};
use tidings_wire::{ProblemDetails, ProblemKind};

/// Normalizes a request to a path and at most one `Host`.
///
/// # Errors
/// When the host is missing, ambiguous or malformed.
pub(super) fn normalize(request: &mut Request<Body>) -> Result<(), InvalidHost> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(InvalidHost("the request has two Host lines", "send one")),
        (None, None) if request.version() == Version::HTTP_11 => {
            return Err(InvalidHost("the request has no Host line", "HTTP/1.1 requires one: send the host of the URL"));
        }
        (Some(host), None) if !is_host(host.as_bytes()) => {
            return Err(InvalidHost(
                "the Host line holds no host",
                "send the host of the URL, with its port if it has one",
            ));
        }
        _ => {}
    }
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).ok().filter(|host| is_host(host.as_bytes()));
        let host = host.ok_or(InvalidHost("the request's target holds no host", "send a path, or the whole URL"))?;
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::from(path);
    }
    // `OPTIONS *` asks about the server as a whole.
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        *request.uri_mut() = Uri::from_static("/");
    }
    Ok(())
}

/// Whether this is a name or an address, maybe with a port; empty stands for a URL without a host. Characters that
/// could end a host, or hide one behind a user name, are refused.
fn is_host(host: &[u8]) -> bool {
    // Patterns become a table of bits: every request is looked through.
    let ends_host = |byte| matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\' | b',');
    let is_delimiter = |byte| matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}');
    host.iter().all(|&byte| byte.is_ascii_graphic() && !ends_host(byte) && !is_delimiter(byte))
}

/// What is wrong with the host, and what to do about it.
#[derive(Debug)]
pub(super) struct InvalidHost(&'static str, &'static str);

impl IntoResponse for InvalidHost {
    fn into_response(self) -> Response {
        let Self(detail, remedy) = self;
        let kind = ProblemKind::INVALID_REQUEST;
        let problem = ProblemDetails { kind, detail, field: Some("Host"), remedy: Some(remedy) };
        ([(CONNECTION, "close")], problem.response().map(Body::from)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The host and the path that a request is for.
    fn settled(version: Version, target: &str, hosts: &[&str]) -> Result<(Option<String>, String), u16> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let mut request = request.body(Body::empty()).unwrap();
        normalize(&mut request).map_err(|wrong| wrong.into_response().status().as_u16())?;
        let host = request.headers().get(HOST).map(|host| host.to_str().unwrap().to_owned());
        Ok((host, request.uri().to_string()))
    }

    // covers: G221
    #[test]
    fn a_request_is_for_one_host() {
        let fine = |target: &str, hosts: &[&str], host: &str, path: &str| {
            let expected = Ok((Some(host.to_owned()), path.to_owned()));
            assert_eq!(settled(Version::HTTP_11, target, hosts), expected, "{target} {hosts:?}");
        };
        fine("/x?y=1", &["a.example:8000"], "a.example:8000", "/x?y=1");
        fine("/", &["[::1]:80"], "[::1]:80", "/");
        fine("/", &[""], "", "/");
        fine("http://b.example/x?y=1", &["a.example"], "b.example", "/x?y=1");
        fine("http://b.example:81", &["b.example"], "b.example:81", "/");
        assert_eq!(settled(Version::HTTP_10, "/x", &[]), Ok((None, "/x".to_owned())));
        for (target, hosts) in [
            ("/", &[][..]),
            ("http://b.example/", &[]),
            ("/", &["a.example", "a.example"]),
            ("/", &["a.example", "b.example"]),
            ("/", &["a.example/x"]),
            ("/", &["a.example b.example"]),
            ("/", &["a.example, b.example"]),
            ("/", &["me@a.example"]),
            ("http://me@b.example/", &["b.example"]),
        ] {
            assert_eq!(settled(Version::HTTP_11, target, hosts), Err(400), "{target} {hosts:?}");
        }
        assert_eq!(settled(Version::HTTP_10, "/", &["a.example", "b.example"]), Err(400));
    }

    #[test]
    fn an_asterisk_is_the_root() {
        let mut request =
            Request::builder().method(Method::OPTIONS).uri("*").header(HOST, "a").body(Body::empty()).unwrap();
        normalize(&mut request).unwrap();
        assert_eq!(request.uri(), "/");
    }
}
