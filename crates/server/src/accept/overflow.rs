//! Connections beyond the limits: each is accepted all the same and answered at once, and some are served.
//!
//! A few descriptors are reserved for them ([`Reserve`]). A connection waits here until the head of its request has
//! arrived. A probe or a request with the operator's key is then served, as the only request of its connection; any
//! other is refused in its own protocol. When too many connections wait, the one that has waited longest is refused
//! without being read. So a client that sends its head at once is answered, however many others connect and send
//! nothing.
//!
//! [`Reserve`]: super::reserve::Reserve

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderValue, Method, Request, Uri};
use tidings_live::{BorrowedConn, Guard, Socket};
use tidings_wire::has_head_end;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::connection_limiter::LimitReached;
use super::reserve::Waiting;
use super::service::Service;
use super::{connection, requests};

/// How long the TLS handshake and the head may take together.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head that is read here, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// The most header lines of such a head.
const MAX_LINES: usize = 64;

/// Answers a connection that `reached` refused.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    reached: LimitReached,
    waiting: Waiting,
    service: Arc<Service>,
) {
    let reserve = Arc::clone(&waiting.reserve);
    let mut deadline = std::pin::pin!(tokio::time::sleep(HEAD_TIMEOUT.min(service.header_timeout)));
    let opened = tokio::select! {
        biased;
        opened = connection::open(stream, peer, &service) => opened,
        () = waiting.evicted.notified() => return,
        () = service.stopping.cancelled() => return,
        () = &mut deadline => return,
    };
    let Ok(io) = opened else { return };
    let (mut socket, mut buffer) = (Socket::new(io, None), BytesMut::new());
    let head = tokio::select! {
        biased;
        head = read_head(&mut socket, &mut buffer) => head,
        () = waiting.evicted.notified() => None,
        () = service.stopping.cancelled() => None,
        () = &mut deadline => None,
    };
    drop(waiting);
    let (io, _) = socket.into_parts();
    let proceed = async {
        if let Some(permit) = head.as_ref().and_then(|head| reserve.exempt(head)) {
            let socket = Socket::new(io, Some(Guard::new(permit)));
            let (conn, handle) = BorrowedConn::new(socket, buffer.freeze());
            return requests::serve(conn, handle, peer, &service, false).await;
        }
        let is_forwarded = |head: &Request<()>| service.proxies.is_unlisted(peer.ip(), head.headers());
        if reached == (LimitReached::Address { is_default: true })
            && head.as_ref().is_some_and(is_forwarded)
            && let Ok(guard) = service.limiter.acquire(None)
        {
            return connection::serve_socket(Socket::new(io, Some(guard)), buffer, peer, &service).await;
        }
        let ids = &service.request_ids;
        let id = head.as_ref().map_or_else(|| ids.make(), |head| ids.of(head.headers()));
        reserve.refuse(Socket::new(io, None), head.as_ref(), reached, peer, &id).await;
    };
    tokio::select! {
        () = proceed => {}
        () = service.cut.cancelled() => {}
    }
}

/// Reads the head of the first request, which stays in the buffer; `None` if none comes, or if it is too long or
/// malformed.
async fn read_head(socket: &mut Socket, buffer: &mut BytesMut) -> Option<Request<()>> {
    buffer.reserve(MAX_HEAD);
    let mut searched = 0;
    while !has_head_end(buffer, searched) {
        searched = buffer.len();
        if searched >= MAX_HEAD || socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    let Ok(httparse::Status::Complete(_)) = parsed.parse(buffer) else { return None };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(parsed.path?).ok()?;
    for line in &*parsed.headers {
        let name = http::HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some(request)
}
