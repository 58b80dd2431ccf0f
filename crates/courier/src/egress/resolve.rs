//! Names to addresses: the [`Resolve`] trait and the system's resolver.
//!
//! The dialler resolves once per dial and vets every address of the answer, so policy does not depend on the resolver.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How many lookups may block a thread at once. The runtime's blocking pool has 512 threads and serves the store as
/// well: hosts whose name servers never answer must not take all of them.
const CONCURRENT_LOOKUPS: usize = 128;
/// How long a lookup waits for a thread. After that it fails as a shortage of this machine, not of the receiver.
const THREAD_WAIT: Duration = Duration::from_secs(2);

/// Looks up the addresses of a host.
#[async_trait::async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, in the order in which they should be tried. `host` is never an IP literal and never a
    /// `localhost` name.
    ///
    /// # Errors
    /// The name could not be resolved; the error's text is shown to the tenant. The dialler treats an empty answer as
    /// an error too. [`io::ErrorKind::WouldBlock`] means that no lookup could be made now: it does not count against
    /// the receiver.
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
        let free = timeout(THREAD_WAIT, Arc::clone(&self.lookups).acquire_owned()).await;
        let busy = |_| io::Error::new(io::ErrorKind::WouldBlock, "too many names are being looked up");
        let permit = free.map_err(busy)?.map_err(io::Error::other)?;
        let host = host.to_owned();
        let lookup = move || {
            // A lookup cannot be cancelled. So its thread holds the permit, not the future, which may be dropped
            // earlier.
            let _permit = permit;
            let found = (host.as_str(), 0).to_socket_addrs()?;
            Ok(found.map(|addr| addr.ip()).collect())
        };
        tokio::task::spawn_blocking(lookup).await.map_err(io::Error::other)?
    }
}
