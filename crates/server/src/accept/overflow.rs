//! Connections for which there is no place: each is accepted all the same and answered at once, and some are served.
//!
//! A few descriptors are kept for them ([`Aside`]). A connection waits here until the head of its request is there.
//! Then a probe or a request with the operator's key is served, by itself, and any other is refused in the words of its
//! protocol. When more wait than may, the one that has waited longest is refused unheard: so a head that follows its
//! connection at once is read, however many others come and say nothing.
//!
//! [`Aside`]: super::aside::Aside

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderValue, Method, Request, Uri};
use tidings_live::{BorrowedConn, Guard, Socket};
use tidings_wire::has_head_end;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::aside::Waiting;
use super::places::Full;
use super::service::Service;
use super::{connection, requests};

/// How long the handshake and the head may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head that is read here.
const MAX_HEAD: usize = 8 << 10;
/// Its header lines at most.
const MAX_LINES: usize = 64;

/// Answers a connection that has no place.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, full: Full, waiting: Waiting, service: Arc<Service>) {
    let aside = Arc::clone(&waiting.aside);
    let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE.min(service.header_timeout)));
    let opened = tokio::select! {
        biased;
        opened = connection::open(stream, peer, &service) => opened,
        () = waiting.is_over.notified() => return,
        () = service.stopping.cancelled() => return,
        () = &mut patience => return,
    };
    let Ok(io) = opened else { return };
    let (mut socket, mut buffer) = (Socket::new(io, None), BytesMut::new());
    let head = tokio::select! {
        biased;
        head = read_head(&mut socket, &mut buffer) => head,
        () = waiting.is_over.notified() => None,
        () = service.stopping.cancelled() => None,
        () = &mut patience => None,
    };
    drop(waiting);
    let (io, _) = socket.into_parts();
    let proceed = async {
        if let Some(permit) = head.as_ref().and_then(|head| aside.exempt(head)) {
            let socket = Socket::new(io, Some(Guard::new(permit)));
            let (conn, handle) = BorrowedConn::new(socket, buffer.freeze());
            return requests::serve(conn, handle, peer, &service, false).await;
        }
        let is_proxys = |head: &Request<()>| service.proxies.is_unlisted(peer.ip(), head.headers());
        if full == (Full::Address { is_default: true })
            && head.as_ref().is_some_and(is_proxys)
            && let Ok(guard) = service.places.take(None)
        {
            return connection::serve_socket(Socket::new(io, Some(guard)), buffer, peer, &service).await;
        }
        let ids = &service.request_ids;
        let id = head.as_ref().map_or_else(|| ids.make(), |head| ids.of(head.headers()));
        aside.refuse(Socket::new(io, None), head.as_ref(), full, peer, &id).await;
    };
    tokio::select! {
        () = proceed => {}
        () = service.cut.cancelled() => {}
    }
}

/// The head of the first request, which stays in the buffer; `None` if there is none, or none that is short and
/// well-formed.
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
