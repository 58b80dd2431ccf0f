//! Plain requests ([`PostReader`]) are read, answered and written here, for half of what hyper takes.
//!
//! A connection begins here. At the first request that is anything else the rest of it is hyper's, with all that has been
//! read of that request. So whatever is unusual has one judge.

use std::net::SocketAddr;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http_body_util::BodyExt;
use tidings_live::Socket;
use tidings_model::clock::{Clock, SystemClock};
use tidings_wire::{NoPost, PostReader, response_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::{JUST_MADE, Service, answer};

/// Answers requests for as long as they are plain, beginning with what has been `read` already. Gives what has been read of
/// the first that isn't; `None` when the connection has ended.
pub(super) async fn serve(socket: &mut Socket, read: BytesMut, peer: SocketAddr, service: &Service) -> Option<Bytes> {
    let clock = SystemClock::new();
    let (mut reader, mut buffer) = (PostReader::default(), read);
    let mut patience = std::pin::pin!(sleep(service.header_timeout));
    let mut stopping = std::pin::pin!(service.stopping.cancelled());
    let mut may_leave = Instant::now() + JUST_MADE;
    loop {
        let request = loop {
            let (needed, has_head) = match reader.next(&mut buffer) {
                Ok(request) => break request.map(Body::from),
                Err(NoPost::Other) => return Some(buffer.freeze()),
                Err(NoPost::Partial { needed, has_head }) => (needed, has_head),
            };
            buffer.reserve(needed);
            tokio::select! {
                biased;
                read = socket.read_buf(&mut buffer) => match read {
                    Ok(1..) => {}
                    _ => return None,
                },
                // A body takes its time by hyper's rules, and so does whatever has begun when the server stops.
                () = &mut patience => return has_head.then(|| buffer.freeze()),
                () = &mut stopping => {
                    if buffer.is_empty() {
                        timeout_at(may_leave, socket.read_buf(&mut buffer)).await.ok()?.ok()?;
                    }
                    return (!buffer.is_empty()).then(|| buffer.freeze());
                }
            }
        };
        let response = answer(service, request, peer).await;
        let closes = response.headers().contains_key(CONNECTION);
        let message = written(response, &clock).await?;
        socket.write_all(&message).await.ok()?;
        if closes {
            return None;
        }
        may_leave = Instant::now();
        patience.as_mut().reset(may_leave + service.header_timeout);
    }
}

/// A response as bytes; `None` if its body breaks off.
async fn written(response: Response, clock: &SystemClock) -> Option<BytesMut> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    // What has no body by its status has no length of one either (RFC 9110, section 8.6).
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
    } else {
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    let mut message = response_head(parts.status, &parts.headers, clock.wall_ms());
    message.extend_from_slice(&body);
    Some(message)
}
