//! Plain requests ([`PostReader`]) are read, answered and written here, for half of what hyper takes. Handlers see no
//! difference: they may answer with a stream, or take the connection.
//!
//! A connection begins here. At the first request that is anything else the rest of it is hyper's, with all that has
//! been read of that request. So whatever is unusual has one judge.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use tidings_live::{BorrowedConn, ConnHandle};
use tidings_model::clock::{Clock, Millis, SystemClock};
use tidings_wire::chunk::{LAST_CHUNK, chunk};
use tidings_wire::{NoPost, PostReader, response_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout_at};

use super::service::{JUST_MADE, Service};

/// Answers requests for as long as they are plain, beginning with what has been `read` already. Gives what has been
/// read of the first that isn't; `None` when the connection has ended.
pub(super) async fn serve(
    conn: &mut BorrowedConn,
    handle: &ConnHandle,
    read: BytesMut,
    peer: SocketAddr,
    service: &Service,
) -> Option<Bytes> {
    let clock = SystemClock::new();
    let (mut reader, mut buffer) = (PostReader::default(), read);
    let mut patience = std::pin::pin!(sleep(service.header_timeout));
    let mut stopping = std::pin::pin!(service.stopping.cancelled());
    let mut may_leave = Instant::now() + JUST_MADE;
    loop {
        let mut request = loop {
            let (needed, has_head) = match reader.next(&mut buffer) {
                Ok(request) => break request.map(Body::from),
                Err(NoPost::Other) => return Some(buffer.freeze()),
                Err(NoPost::Partial { needed, has_head }) => (needed, has_head),
            };
            buffer.reserve(needed);
            tokio::select! {
                biased;
                read = conn.read_buf(&mut buffer) => match read {
                    Ok(1..) => {}
                    _ => return None,
                },
                // A body takes its time by hyper's rules, and so does whatever has begun when the server stops.
                () = &mut patience => return has_head.then(|| buffer.freeze()),
                () = &mut stopping => {
                    if buffer.is_empty() {
                        timeout_at(may_leave, conn.read_buf(&mut buffer)).await.ok()?.ok()?;
                    }
                    return (!buffer.is_empty()).then(|| buffer.freeze());
                }
            }
        };
        request.extensions_mut().insert(handle.clone());
        let response = service.answer(request, peer).await;
        if handle.is_taken() {
            return None;
        }
        let closes = response.headers().contains_key(CONNECTION);
        write(conn, &mut buffer, response, clock.wall_ms()).await?;
        if closes {
            return None;
        }
        may_leave = Instant::now();
        patience.as_mut().reset(may_leave + service.header_timeout);
    }
}

/// So much of an answer is collected before it is written.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Writes a response. What the client sends meanwhile comes into `buffer`. `None` when the connection has ended, or the
/// body breaks off.
async fn write(conn: &mut BorrowedConn, buffer: &mut BytesMut, response: Response, now: Millis) -> Option<()> {
    let (mut parts, body) = response.into_parts();
    // What has no body by its status has no length of one either (RFC 9110, section 8.6).
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
        return conn.write_all(&response_head(parts.status, &parts.headers, now)).await.ok();
    }
    let length = body.size_hint().exact();
    if let Some(length) = length {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    } else {
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let head = response_head(parts.status, &parts.headers, now);
    write_body(conn, buffer, head, body, length.is_none()).await
}

/// Writes what was collected of a message, and its body as it comes.
async fn write_body(
    conn: &mut BorrowedConn,
    buffer: &mut BytesMut,
    mut message: BytesMut,
    mut body: Body,
    in_chunks: bool,
) -> Option<()> {
    loop {
        let ready = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
        let frame = match ready {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                conn.write_all(&message.split()).await.ok()?;
                next_frame(conn, buffer, &mut body).await?
            }
        };
        let Some(frame) = frame else { break };
        match frame.ok()?.into_data() {
            Ok(data) if !in_chunks => message.extend_from_slice(&data),
            // An empty chunk would be the last one.
            Ok(data) if !data.is_empty() => message.extend_from_slice(&chunk(&data)),
            _ => {}
        }
        if message.len() >= WRITTEN_AT_ONCE {
            conn.write_all(&message.split()).await.ok()?;
        }
    }
    if in_chunks {
        message.extend_from_slice(&LAST_CHUNK);
    }
    conn.write_all(&message).await.ok()
}

/// Waits for the next piece of a body, for as long as the client is there. One that sends its next request already is
/// not watched any longer, as with hyper.
async fn next_frame(
    conn: &mut BorrowedConn,
    buffer: &mut BytesMut,
    body: &mut Body,
) -> Option<Option<Result<Frame<Bytes>, axum::Error>>> {
    loop {
        tokio::select! {
            biased;
            frame = body.frame() => return Some(frame),
            read = conn.read_buf(buffer), if buffer.is_empty() => match read {
                Ok(1..) => {}
                _ => return None,
            },
        }
    }
}
