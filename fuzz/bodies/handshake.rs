//! Whatever headers a request has: it is refused with a status, or answered with what belongs to its key.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidings_wire::ws::handshake;

/// Lines of `name: value`; the first one is the method.
pub(crate) fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(Ok(method)) = lines.next().map(Method::from_bytes) else { return };
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    match handshake::check(&method, &headers) {
        Ok(accept) => {
            assert_eq!(method, Method::GET);
            let key = headers["sec-websocket-key"].to_str().map(str::trim);
            assert_eq!(key.map(handshake::accept_key).ok(), Some(accept.accept));
            let is_name = |name: &String| !name.is_empty() && name.trim() == name && !name.contains(',');
            assert!(accept.protocols.iter().all(is_name), "{:?}", accept.protocols);
        }
        Err(refusal) => {
            assert!(matches!(refusal.status().as_u16(), 400 | 405 | 426));
            assert!(!refusal.to_string().is_empty());
        }
    }
}
