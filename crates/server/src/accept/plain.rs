//! Reads and answers plain requests ([`PostReader`]) for half of the CPU time that hyper needs. Handlers see no
//! difference: they may answer with a stream, or take the connection.
//!
//! Every connection begins here. At the first request that is not plain, hyper takes over the connection, with all that
//! has been read of that request. So hyper alone decides about everything unusual.

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

/// Answers requests as long as they are plain, beginning with what has been `read` already. Returns what has been read
/// of the first that is not; `None` when the connection has ended.
pub(super) async fn serve(
    conn: &mut BorrowedConn,
    handle: &ConnHandle,
    read: BytesMut,
    peer: SocketAddr,
    service: &Service,
) -> Option<Bytes> {
    let clock = SystemClock::new();
    let (mut reader, mut buffer) = (PostReader::default(), read);
    let mut deadline = std::pin::pin!(sleep(service.header_timeout));
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
                // hyper takes over a body that is slow, and a request that has begun when the server stops.
                () = &mut deadline => return has_head.then(|| buffer.freeze()),
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
        deadline.as_mut().reset(may_leave + service.header_timeout);
    }
}

/// An answer is collected up to so many bytes before it is written.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Writes a response. What the client sends meanwhile goes to `buffer`. `None` when the connection has ended, or the
/// body breaks off.
async fn write(conn: &mut BorrowedConn, buffer: &mut BytesMut, response: Response, now: Millis) -> Option<()> {
    let (mut parts, body) = response.into_parts();
    // A status without a body has no Content-Length either (RFC 9110 § 8.6).
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

/// Writes the head of a message, and its body as it is produced.
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
            // An empty chunk would end the body.
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

/// Waits for the next piece of a body, and stops when the client goes away. A client that has sent its next request
/// already is not watched any longer, as with hyper.
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
