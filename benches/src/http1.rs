//! A keep-alive HTTP connection that costs the load generator little: it parses only status and length.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection to the server with at most one request in flight.
pub(crate) struct Connection {
    stream: TcpStream,
    head: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects; requests will be `POST path`, as JSON, with `key`.
    pub(crate) async fn open(addr: SocketAddr, key: &str, path: &str) -> anyhow::Result<Self> {
        let stream = tidings_testkit::dial(addr).await;
        stream.set_nodelay(true)?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        );
        Ok(Self { stream, head, request: Vec::new(), answer: Vec::new() })
    }

    /// Sends `body` and returns the status, once the whole answer has arrived.
    pub(crate) async fn post(&mut self, body: &str) -> anyhow::Result<u16> {
        self.request.clear();
        self.request.extend_from_slice(self.head.as_bytes());
        self.request.extend_from_slice(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the server closed a connection in the middle of an answer");
            }
            let Some(head) = head_len(&self.answer) else { continue };
            if self.answer.len() >= head + content_length(&self.answer[..head]) {
                let status = self.answer.get(9..12).context("no status line")?;
                return Ok(std::str::from_utf8(status)?.parse()?);
            }
        }
    }

    /// The answer to the last request, head and body.
    pub(crate) fn answer(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

/// The length of a head with its empty line, once it is complete.
pub(crate) fn head_len(bytes: &[u8]) -> Option<usize> {
    find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The Content-Length of a complete head.
pub(crate) fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
    line.and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()).unwrap_or(0)
}

/// The position of `wanted`.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
