//! The opening handshake, as the server sees it (RFC 6455 § 4.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use sha1::{Digest, Sha1};

/// Appended to the client's key before it is hashed (§ 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request that may be upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The value of `Sec-WebSocket-Accept` in the response.
    pub accept: String,
    /// The subprotocols that the client offers, in its order. The response names one of them or none.
    pub protocols: Vec<String>,
}

/// Why a request cannot be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The method is not GET.
    #[error("a WebSocket is opened with GET")]
    NotGet,
    /// The request asks for no upgrade to WebSocket.
    #[error("this address is for WebSockets: the request needs `Connection: Upgrade` and `Upgrade: websocket`")]
    NoUpgrade,
    /// A version other than 13; the response names the supported one.
    #[error("only version 13 of the WebSocket protocol is supported")]
    BadVersion,
    /// No key, or one that is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    BadKey,
}

impl Refusal {
    /// The status of the response. A response to `NotGet` also needs `Allow: GET`; one to `BadVersion` and `NoUpgrade`
    /// needs `Upgrade: websocket` and `Sec-WebSocket-Version: 13` (RFC 9110 § 15.5).
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade | Self::BadVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BadKey => StatusCode::BAD_REQUEST,
        }
    }
}

/// The value of `Sec-WebSocket-Accept` for a client's key (§ 4.2.2).
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Checks a request's method and headers. The caller must make sure that the request came as HTTP/1.1 (HTTP/2 has no
/// upgrade, and hyper offers none for older versions), and must check `Host` and `Origin`.
///
/// # Errors
/// [`Refusal`].
pub fn check(method: &Method, headers: &HeaderMap) -> Result<Accept, Refusal> {
    if method != Method::GET {
        return Err(Refusal::NotGet);
    }
    if !names(headers, &CONNECTION, "upgrade") || !names(headers, &UPGRADE, "websocket") {
        return Err(Refusal::NoUpgrade);
    }
    if once(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Refusal::BadVersion);
    }
    let key = once(headers, &SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)).ok_or(Refusal::BadKey)?;
    let protocols = words(headers, &SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect();
    Ok(Accept { accept: accept_key(key), protocols })
}

fn names(headers: &HeaderMap, header: &HeaderName, word: &str) -> bool {
    words(headers, header).any(|found| found.eq_ignore_ascii_case(word))
}

/// The value of a header that may occur only once (§ 11.3).
fn once<'a>(headers: &'a HeaderMap, header: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(header).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

/// The words of a header that is a list, over all of its lines.
fn words<'a>(headers: &'a HeaderMap, header: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(change: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        .iter()
        .chain(change)
        {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_good_request_gets_the_specifications_answer() {
        let accept = check(&Method::GET, &headers(&[("sec-websocket-protocol", "a, b")])).unwrap();
        assert_eq!(accept.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept.protocols, ["a", "b"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |change: &[(&'static str, &'static str)]| check(&Method::GET, &headers(change)).unwrap_err();
        assert_eq!(check(&Method::POST, &headers(&[])), Err(Refusal::NotGet));
        assert_eq!(refused(&[("connection", "keep-alive")]), Refusal::NoUpgrade);
        assert_eq!(refused(&[("upgrade", "h2c")]), Refusal::NoUpgrade);
        assert_eq!(refused(&[("sec-websocket-version", "8")]), Refusal::BadVersion);
        for key in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZXM="] {
            let mut bad = headers(&[]);
            bad.insert(SEC_WEBSOCKET_KEY, key.parse().unwrap());
            assert_eq!(check(&Method::GET, &bad), Err(Refusal::BadKey), "{key}");
        }
        assert_eq!(check(&Method::GET, &HeaderMap::new()), Err(Refusal::NoUpgrade));
        for (header, refusal) in
            [("sec-websocket-version", Refusal::BadVersion), ("sec-websocket-key", Refusal::BadKey)]
        {
            let mut twice = headers(&[]);
            twice.append(header, twice[header].clone());
            assert_eq!(check(&Method::GET, &twice), Err(refusal), "{header} twice");
            let mut none = headers(&[]);
            none.remove(header);
            assert_eq!(check(&Method::GET, &none), Err(refusal), "no {header}");
        }
    }

    #[test]
    fn a_refusal_knows_its_status() {
        let all = [Refusal::NotGet, Refusal::NoUpgrade, Refusal::BadVersion, Refusal::BadKey];
        assert_eq!(all.map(|refusal| refusal.status().as_u16()), [405, 426, 426, 400]);
    }

    #[test]
    fn lists_may_stand_in_several_lines() {
        let mut many = headers(&[("connection", "keep-alive"), ("sec-websocket-protocol", " a,, b ")]);
        many.append("connection", "x,UPGRADE".parse().unwrap());
        many.append("sec-websocket-protocol", "c".parse().unwrap());
        assert_eq!(check(&Method::GET, &many).unwrap().protocols, ["a", "b", "c"]);
    }
}
