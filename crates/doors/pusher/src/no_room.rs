//! Refuses a client while the server is at its limit of connections: inside a WebSocket, because browsers show scripts
//! nothing else.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tidings_wire::ws::{self, handshake};

use crate::wire;
use crate::wire::codes::Code;

const REASON: &str = "As many clients are connected as may be; try again in a moment";

/// The response to a client that requests a session, and the WebSocket frames that refuse it; `None` for any other
/// request.
pub(crate) fn no_room(request: &Request<()>) -> Option<(StatusCode, HeaderMap, Vec<u8>)> {
    let path = request.uri().path();
    let below = path.strip_prefix("/a/").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    below.unwrap_or(path).strip_prefix("/app/")?;
    let accept = handshake::check(request.method(), request.headers()).ok()?;
    let headers = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept.accept).ok()?),
    ];
    let frames =
        [wire::error(Some(Code::OverCapacity), REASON), ws::close(Code::OverCapacity.number(), REASON)].concat();
    Some((StatusCode::SWITCHING_PROTOCOLS, headers.into_iter().collect(), frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Request<()> {
        Request::get(path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap()
    }

    #[test]
    fn a_client_is_told_and_other_requests_are_not() {
        for path in ["/app/KEY?protocol=7", "/a/1/app/KEY", "/app/KEY/"] {
            let (status, headers, frames) = no_room(&request(path)).unwrap();
            assert_eq!(status, 101);
            assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let text = String::from_utf8_lossy(&frames);
            assert!(text.contains(r#"{"event":"pusher:error","data":{"code":4100,"#), "{text}");
            assert!(
                frames.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 4100_u16.to_be_bytes()),
                "{frames:?}"
            );
        }
        assert!(no_room(&request("/v1/stream")).is_none());
        assert!(no_room(&Request::get("/app/KEY").body(()).unwrap()).is_none(), "no WebSocket");
    }
}
