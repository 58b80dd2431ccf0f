//! One connection: its handshake, and then the reader of its requests (`plain`, then `requests`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_live::{BorrowedConn, Guard, Io, Socket};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::service::{JUST_MADE, Service};
use super::wrong_protocol::{PLAIN_ANSWER, WrongProtocol};
use super::{drain, plain, request_id, requests};

/// Serves a connection until it ends or leaves HTTP.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, guard: Guard, service: Arc<Service>) {
    let until = Instant::now() + JUST_MADE;
    let stopped = async {
        service.stopping.cancelled().await;
        sleep_until(until).await;
    };
    let opened = tokio::select! {
        opened = open(stream, peer, &service) => opened,
        () = stopped => return,
    };
    match opened {
        Ok(io) => serve_socket(Socket::new(io, Some(guard)), BytesMut::new(), peer, &service).await,
        Err(error) => tracing::debug!(%error, %peer, "the connection ended before its first request"),
    }
}

/// Serves a connection; `read` holds what has been read of it already.
pub(super) async fn serve_socket(socket: Socket, read: BytesMut, peer: SocketAddr, service: &Arc<Service>) {
    let (mut conn, handle) = BorrowedConn::new(socket, Bytes::new());
    let requests = async {
        if let Some(read) = plain::serve(&mut conn, &handle, read, peer, service).await {
            if let Some(what) = WrongProtocol::of(&read, false).filter(|_| service.tls.is_none()) {
                service.wrong_protocols.note(what, peer);
            }
            conn.put_back(read);
            requests::serve(conn, handle, peer, service, true).await;
        }
    };
    tokio::select! {
        () = requests => {}
        () = service.cut.cancelled() => {}
    }
}

/// Sets the socket's options and makes the TLS handshake, if the server has a certificate.
pub(super) async fn open(stream: TcpStream, peer: SocketAddr, service: &Service) -> io::Result<Io> {
    prepare(&stream, service.user_timeout)?;
    let Some(tls) = &service.tls else { return Ok(Io::Plain(stream)) };
    let until = Instant::now() + service.header_timeout;
    let mut first = [0; 16];
    let known = timeout_at(until, stream.peek(&mut first)).await??;
    if let Some(what) = WrongProtocol::of(&first[..known], true) {
        service.wrong_protocols.note(what, peer);
        if what == WrongProtocol::Plain {
            let answer = request_id::with_id(PLAIN_ANSWER, &service.request_ids.make());
            drain::lingering_close(Socket::from(stream), &answer, drain::BRIEF).await;
        }
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a TLS handshake"));
    }
    Ok(Io::Tls(Box::new(timeout_at(until, tls.acceptor().accept(stream)).await??)))
}

/// Sets `TCP_NODELAY`, so that small packets leave at once, and on Linux `TCP_USER_TIMEOUT`, so that a vanished client
/// is noticed long before the kernel would give up.
fn prepare(stream: &TcpStream, user_timeout: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    if let Ok(millis @ 1..) = u32::try_from(user_timeout.as_millis()) {
        rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = user_timeout;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::net::sockopt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_prepared_for_small_packets_and_vanished_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = tidings_testkit::dial(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream, Duration::ZERO).unwrap();
        assert_eq!((stream.nodelay().unwrap(), sockopt::tcp_user_timeout(&stream).unwrap()), (true, 0));
        prepare(&stream, Duration::from_secs(30)).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 30_000);
    }
}
