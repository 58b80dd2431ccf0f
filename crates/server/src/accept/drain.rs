//! Reads on what a client still sends after its answer, so that the answer reaches it.
//!
//! A connection that is closed while something of it is unread is reset, and a reset takes an answer back that its client has not
//! read yet (RFC 9112 § 9.6).

use std::time::Duration;

use tidings_live::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How much is read at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    time: Duration,
    bytes: u64,
}

/// Of a connection that was refused unheard.
pub(super) const BRIEF: Bounds = Bounds { time: Duration::from_secs(1), bytes: 1 << 20 };

/// Sends a client its last words, and reads what it sends meanwhile until it hangs up.
pub(super) async fn part(mut socket: Socket, words: &[u8], bounds: Bounds) {
    let parting = async {
        socket.write_all(words).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut (&mut socket).take(bounds.bytes), &mut tokio::io::sink()).await
    };
    // It may hang up, or not, as it likes.
    drop(timeout(bounds.time, parting).await);
}
