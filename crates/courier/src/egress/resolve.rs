//! Names to addresses: the [`Resolve`] trait and the system's resolver.
//!
//! The dialler asks exactly once per dial and vets all that it is told, so a resolver is not trusted with policy.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How many lookups may block a thread at once. The runtime's blocking pool has 512 threads and serves the store as
/// well: hosts whose name servers never answer must not take all of them.
const CONCURRENT_LOOKUPS: usize = 128;
/// How long a lookup waits for a thread. After that the shortage is ours, and the name's owner has no part in it.
const UNTIL_THREAD: Duration = Duration::from_secs(2);

/// Looks up the addresses of a host.
#[async_trait::async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, in the order in which they should be tried. `host` is never an IP literal and never a
    /// `localhost` name.
    ///
    /// # Errors
    /// Any error means that the name could not be resolved; its text is shown to the tenant. An empty answer is taken
    /// as an error too. [`io::ErrorKind::WouldBlock`] means that nobody could be asked now: that is held against no
    /// receiver.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// `getaddrinfo`, with the system's configuration.
#[derive(Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        SystemResolver { lookups: Arc::new(Semaphore::new(CONCURRENT_LOOKUPS)) }
    }
}

#[async_trait::async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let free = timeout(UNTIL_THREAD, Arc::clone(&self.lookups).acquire_owned()).await;
        let busy = |_| io::Error::new(io::ErrorKind::WouldBlock, "too many names are being looked up");
        let permit = free.map_err(busy)?.map_err(io::Error::other)?;
        let host = host.to_owned();
        let lookup = move || {
            // A lookup cannot be cancelled: the permit belongs to its thread, not to the future that gave up.
            let _permit = permit;
            let found = (host.as_str(), 0).to_socket_addrs()?;
            Ok(found.map(|addr| addr.ip()).collect())
        };
        tokio::task::spawn_blocking(lookup).await.map_err(io::Error::other)?
    }
}
