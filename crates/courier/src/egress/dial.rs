//! From a URI to a connected socket: resolve once, vet everything, dial what was vetted.
//!
//! Called by the connection pool through [`Connector`] if it has no connection for a destination. Names and IP literals
//! take the same path, which ends in [`Dialer::connect`]: the only place where the server opens a TCP connection. It
//! checks the policy once more for exactly the address that it dials.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tower::Service;

use super::error::{Phase, SendError};
use super::failure::{self, tls_failure};
use super::observe::DialObserver;
use super::policy::{Policy, is_localhost};
use super::resolve::Resolve;
use super::stream::Stream;
use super::tunnel::Proxy;

/// How many of a name's addresses are tried. All of them are vetted.
const TRIED_ADDRESSES: usize = 8;
/// The receive buffer of a socket, in bytes. The system allocates about twice as much.
const RECEIVE_BUFFER: u32 = 64 << 10;

/// What the pool dials with: [`Dialer`], then TLS for `https`, all within the connect timeout.
#[derive(Clone)]
pub(super) struct Connector(Arc<ConnectorShared>);

struct ConnectorShared {
    https: HttpsConnector<Dialer>,
    connect_timeout: Duration,
    open: Arc<AtomicUsize>,
}

/// The TCP half of a [`Connector`].
#[derive(Clone)]
pub(super) struct Dialer(Arc<DialerShared>);

struct DialerShared {
    policy: Arc<Policy>,
    resolver: Arc<dyn Resolve>,
    observer: Option<Arc<dyn DialObserver>>,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    open: Arc<AtomicUsize>,
}

/// The peer of a TCP connection.
#[derive(Clone, Copy)]
enum Peer {
    /// A tenant's receiver: subject to the policy.
    Receiver(SocketAddr),
    /// The operator's own proxy: exempt.
    Proxy(SocketAddr),
}

impl Connector {
    pub(super) fn new(dialer: Dialer, tls: rustls::ClientConfig) -> Connector {
        let connect_timeout = dialer.0.connect_timeout;
        let open = Arc::clone(&dialer.0.open);
        Connector(Arc::new(ConnectorShared { https: HttpsConnector::from((dialer, tls)), connect_timeout, open }))
    }

    /// How many connections are open, used or idle.
    pub(super) fn open_connections(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Stream>;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, SendError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut https = self.0.https.clone();
        let bound = self.0.connect_timeout;
        Box::pin(async move {
            match timeout(bound, https.call(uri)).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(match error.downcast::<SendError>() {
                    Ok(own) => *own,
                    // The dialler's errors are ours; any other comes from the TLS layer around it.
                    Err(other) => tls_failure(other.as_ref()),
                }),
                Err(_) => Err(connect_timed_out(bound)),
            }
        })
    }
}

impl Service<Uri> for Dialer {
    type Response = Stream;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, SendError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.open(&uri).await })
    }
}

impl Dialer {
    pub(super) fn new(
        policy: Arc<Policy>,
        resolver: Arc<dyn Resolve>,
        observer: Option<Arc<dyn DialObserver>>,
        proxy: Option<Proxy>,
        connect_timeout: Duration,
    ) -> Dialer {
        Dialer(Arc::new(DialerShared { policy, resolver, observer, proxy, connect_timeout, open: Arc::default() }))
    }

    /// Tries the vetted addresses of `uri` in order. Each gets an equal share of the time that is left.
    async fn open(&self, uri: &Uri) -> Result<Stream, SendError> {
        let started = Instant::now();
        let port = match uri.port_u16() {
            Some(port) => port,
            None if uri.scheme_str() == Some("https") => 443,
            None => 80,
        };
        let mut addrs = self.vetted(uri.host().unwrap_or_default()).await?;
        addrs.truncate(TRIED_ADDRESSES);

        let mut failure = connect_timed_out(self.0.connect_timeout);
        let tries = addrs.len();
        for (done, ip) in addrs.into_iter().enumerate() {
            let left = self.0.connect_timeout.saturating_sub(started.elapsed());
            // At most TRIED_ADDRESSES are left, so the conversion loses nothing.
            let share = left / u32::try_from(tries - done).unwrap_or(1);
            let addr = SocketAddr::new(ip, port);
            match timeout(share, self.reach(addr)).await {
                Ok(Ok(io)) => return Ok(Stream::new(TokioIo::new(io), addr, &self.0.open)),
                Ok(Err(error @ SendError::Shortage { .. })) => return Err(error),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = connect_timed_out(self.0.connect_timeout),
            }
        }
        Err(failure)
    }

    /// The addresses of `host`, in the resolver's order. Fails if the policy refuses any of them.
    async fn vetted(&self, host: &str) -> Result<Vec<IpAddr>, SendError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(literal) = bare.parse::<IpAddr>() {
            self.0.policy.check_literal(literal)?;
            return Ok(vec![literal]);
        }
        if is_localhost(host) {
            return Ok(self.0.policy.loopback()?);
        }
        let addrs = self.lookup(host).await?;
        for ip in &addrs {
            // One refused address refuses the name: dialling the rest would tell an attacker which ones are filtered,
            // and a legitimate receiver has no private address beside its public one.
            self.0.policy.check_ip(*ip)?;
        }
        Ok(addrs)
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, SendError> {
        if let Some(observer) = &self.0.observer {
            observer.resolving(host);
        }
        let failed = |reason: String| SendError::Dns { host: host.to_owned(), reason };
        let found = self.0.resolver.resolve(host).await;
        let addrs = found.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => SendError::Shortage { reason: error.to_string() },
            _ if failure::is_shortage(&error) => SendError::Shortage { reason: error.to_string() },
            _ => failed(error.to_string()),
        })?;
        if addrs.is_empty() {
            return Err(failed("it has no address".to_owned()));
        }
        Ok(addrs)
    }

    /// A byte stream to the vetted address `addr`, directly or through the proxy.
    async fn reach(&self, addr: SocketAddr) -> Result<TcpStream, SendError> {
        let Some(proxy) = &self.0.proxy else {
            return self.connect(Peer::Receiver(addr)).await;
        };
        // The proxy dials in our place, so the policy is checked here, as it is before our own dials.
        self.0.policy.check_addr(addr)?;
        let proxy_addr = self.proxy_addr(proxy).await?;
        let io = self.connect(Peer::Proxy(proxy_addr)).await;
        let io = io.map_err(|error| match error {
            SendError::Shortage { .. } => error,
            error => SendError::Proxy { reason: error.to_string() },
        })?;
        proxy.tunnel(io, addr).await
    }

    async fn proxy_addr(&self, proxy: &Proxy) -> Result<SocketAddr, SendError> {
        let ip = match proxy.literal() {
            Some(ip) => ip,
            None => {
                let found = self.lookup(proxy.host()).await;
                let addrs = found.map_err(|error| match error {
                    SendError::Shortage { .. } => error,
                    _ => SendError::Proxy { reason: "its name could not be resolved".to_owned() },
                })?;
                *addrs.first().ok_or_else(|| SendError::Proxy { reason: "its name has no address".to_owned() })?
            }
        };
        Ok(SocketAddr::new(ip, proxy.port()))
    }

    /// Opens one TCP connection. Every address of a receiver is checked here, immediately before the dial, however it
    /// was obtained.
    async fn connect(&self, peer: Peer) -> Result<TcpStream, SendError> {
        let addr = match peer {
            Peer::Receiver(addr) => {
                self.0.policy.check_addr(addr)?;
                addr
            }
            Peer::Proxy(addr) => addr,
        };
        if let Some(observer) = &self.0.observer {
            observer.dialing(addr);
        }
        let io = match socket_with_small_buffer(addr) {
            Ok(socket) => socket.connect(addr).await,
            Err(error) => Err(error),
        };
        let io = io.map_err(|error| failure::of_dial(&error, addr))?;
        // Requests are written whole, so Nagle's algorithm would only delay them. A socket that refuses the option
        // still works.
        if let Err(error) = io.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        Ok(io)
    }
}

/// A socket with a small receive buffer: we read only the beginning of a large response.
fn socket_with_small_buffer(addr: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(socket)
}

/// The vetted address that a connection leads to.
pub(super) fn remote_of(io: &MaybeHttpsStream<Stream>) -> SocketAddr {
    match io {
        MaybeHttpsStream::Http(io) => io.remote(),
        MaybeHttpsStream::Https(io) => io.inner().get_ref().0.inner().remote(),
    }
}

fn connect_timed_out(after: Duration) -> SendError {
    SendError::Timeout { phase: Phase::Connect, after }
}
