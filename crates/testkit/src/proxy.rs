//! A chaos proxy: a TCP proxy between a client and a server that cuts, delays, goes silent, gets slow, and comes back.
//!
//! It runs on threads of its own, so that a busy test does not slow it down.

mod pump;
mod route;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use route::Route;

/// The socket buffer of a connection towards the client, on each side, in bytes.
const BUFFER: usize = 64 * 1024;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// From the client to the server.
    Server,
    /// From the server to the client.
    Client,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides see an orderly end (FIN).
    Fin,
    /// Both sides see a reset (RST).
    Reset,
}

/// The state of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flow {
    /// Nothing is read any more, without FIN or RST.
    pub(crate) silent: bool,
    /// Each piece is delayed by so much.
    pub(crate) delay: Duration,
    /// The most bytes per second; `None` for no limit.
    pub(crate) rate: Option<u32>,
}

/// The settings that all connections follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Weather {
    pub(crate) to_server: Flow,
    pub(crate) to_client: Flow,
    /// A number that grows at each cut. Connections that exist then end as `cut` says.
    pub(crate) cuts: u64,
    pub(crate) cut: Option<Cut>,
}

impl Weather {
    pub(crate) fn flow(&self, toward: Toward) -> Flow {
        match toward {
            Toward::Server => self.to_server,
            Toward::Client => self.to_client,
        }
    }

    fn flow_mut(&mut self, toward: Toward) -> &mut Flow {
        match toward {
            Toward::Server => &mut self.to_server,
            Toward::Client => &mut self.to_client,
        }
    }
}

/// A proxy on a free port of 127.0.0.1. Dropped, it stops and cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    route: Arc<Mutex<Route>>,
    weather: watch::Sender<Weather>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Runtime>,
}

/// A proxy to `target` that forwards everything at once, until a test changes it.
///
/// # Panics
/// When there is no free port.
pub fn proxy(target: SocketAddr) -> Proxy {
    Proxy::on(Route::to(target))
}

impl Proxy {
    /// A proxy with this route.
    pub(crate) fn on(route: Route) -> Self {
        let runtime = crate::receiver::runtime(1);
        let (listener, addr) = crate::receiver::bind(&runtime, SocketAddr::from(([127, 0, 0, 1], 0)));
        let route = Arc::new(Mutex::new(route));
        let weather = watch::Sender::new(Weather::default());
        let accepting = runtime.spawn(accept(listener, Arc::clone(&route), weather.subscribe()));
        Self { addr, route, weather, accepting: Mutex::new(Some(accepting)), runtime: Some(runtime) }
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Forwards new connections to another address, such as that of a restarted server.
    pub fn retarget(&self, target: SocketAddr) {
        self.reroute(Route::to(target));
    }

    /// Sets the route of new connections.
    pub(crate) fn reroute(&self, route: Route) {
        *self.route.lock() = route;
    }

    /// How many connections it carries now.
    pub fn connections(&self) -> usize {
        // The listener holds one receiver, and each connection's two pumps hold one each.
        let listening = usize::from(self.accepting.lock().is_some());
        (self.weather.receiver_count() - listening) / 2
    }

    /// Stops forwarding in both directions without FIN or RST. New connections are accepted, and silent too.
    pub fn go_silent(&self) {
        self.weather.send_modify(|weather| {
            weather.to_server.silent = true;
            weather.to_client.silent = true;
        });
    }

    /// Stops forwarding in one direction, without FIN or RST.
    pub fn silence(&self, toward: Toward) {
        self.weather.send_modify(|weather| weather.flow_mut(toward).silent = true);
    }

    /// Delays every piece of one direction by so much; the order stays.
    pub fn delay(&self, toward: Toward, delay: Duration) {
        self.weather.send_modify(|weather| weather.flow_mut(toward).delay = delay);
    }

    /// Limits one direction to so many bytes per second.
    pub fn throttle(&self, toward: Toward, bytes_per_second: u32) {
        self.weather.send_modify(|weather| weather.flow_mut(toward).rate = Some(bytes_per_second.max(1)));
    }

    /// Cuts every connection. New ones are accepted.
    pub fn cut(&self, how: Cut) {
        self.weather.send_modify(|weather| {
            weather.cuts += 1;
            weather.cut = Some(how);
        });
    }

    /// Cuts every connection and stops listening: new ones are refused.
    pub async fn go_down(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(task) = accepting {
            task.abort();
            task.await.ok();
        }
        self.cut(Cut::Reset);
    }

    /// Forwards everything at once again, and listens again at the same address if it was down.
    ///
    /// # Panics
    /// When another program took the port meanwhile.
    pub fn come_back(&self) {
        self.weather.send_modify(|weather| {
            weather.to_server = Flow::default();
            weather.to_client = Flow::default();
        });
        let mut accepting = self.accepting.lock();
        if let (None, Some(runtime)) = (accepting.as_ref(), self.runtime.as_ref()) {
            let (listener, _) = crate::receiver::bind(runtime, self.addr);
            *accepting = Some(runtime.spawn(accept(listener, Arc::clone(&self.route), self.weather.subscribe())));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, route: Arc<Mutex<Route>>, weather: watch::Receiver<Weather>) {
    while let Ok((client, _)) = listener.accept().await {
        let route = *route.lock();
        tokio::spawn(carry(client, route, weather.clone(), weather.clone()));
    }
}

/// Forwards one connection until one side has gone or the proxy cuts it.
async fn carry(
    client: TcpStream,
    route: Route,
    mut up_weather: watch::Receiver<Weather>,
    mut down_weather: watch::Receiver<Weather>,
) {
    let target = route.of(&client).await;
    #[expect(clippy::disallowed_methods, reason = "the proxy is a client of the server under test")]
    let Ok(server) = TcpStream::connect(target).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    // Small buffers, so that the sender soon notices a reader that does not read.
    SockRef::from(&server).set_recv_buffer_size(BUFFER).ok();
    SockRef::from(&client).set_send_buffer_size(BUFFER).ok();
    let cuts = up_weather.borrow().cuts;
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    let up = pump::pump(&mut client_reads, &mut server_writes, Toward::Server, cuts, &mut up_weather);
    let down = pump::pump(&mut server_reads, &mut client_writes, Toward::Client, cuts, &mut down_weather);
    // A FIN of one side is passed on, and the other direction goes on.
    let how = tokio::try_join!(up, down).err();
    if how == Some(Cut::Reset) {
        for stream in [client_reads.reunite(client_writes), server_reads.reunite(server_writes)].into_iter().flatten() {
            // Closing a socket with SO_LINGER 0 sends RST.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}
