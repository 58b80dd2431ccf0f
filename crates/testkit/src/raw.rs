//! A receiver that sends raw bytes, for answers that no HTTP library would write: broken status lines, endless headers,
//! bodies one byte at a time.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A listening socket whose connections a function of the test serves. Runs on a thread of its own; stops when dropped.
#[derive(Debug)]
pub struct RawReceiver {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl RawReceiver {
    /// Starts listening on a free port; each connection is given to `serve` on a task of its own.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start<S, F>(serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = crate::receiver::runtime(1);
        let (listener, addr) = crate::receiver::bind(&runtime, SocketAddr::from(([127, 0, 0, 1], 0)));
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { addr, connections, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of `path` on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reads one request with a Content-Length, and returns all its bytes; if the connection ends early, those that came.
pub async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        if let Some(len) = request_len(&bytes)
            && bytes.len() >= len
        {
            return bytes;
        }
        match stream.read(&mut chunk).await {
            Ok(len @ 1..) => bytes.extend_from_slice(&chunk[..len]),
            Ok(0) | Err(_) => return bytes,
        }
    }
}

/// The length of the whole request, once its head is complete.
fn request_len(bytes: &[u8]) -> Option<usize> {
    let head_len = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_len]).to_ascii_lowercase();
    let body_len =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()).unwrap_or(0);
    Some(head_len + body_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn a_request_ends_where_its_length_says() {
        assert_eq!(request_len(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n"), None);
        assert_eq!(request_len(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(request_len(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), Some(41));
    }

    #[tokio::test]
    async fn the_test_answers_with_any_bytes() {
        let receiver = RawReceiver::start(|mut stream| async move {
            let request = read_request(&mut stream).await;
            assert!(request.ends_with(b"abc"));
            stream.write_all(b"NONSENSE\r\n\r\n").await.unwrap();
        });
        let mut stream = crate::dial(receiver.addr()).await;
        stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "NONSENSE\r\n\r\n");
        assert_eq!(receiver.connections(), 1);
    }
}
