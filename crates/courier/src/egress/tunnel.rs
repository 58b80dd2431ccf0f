//! The operator's proxy: an HTTP CONNECT tunnel to an address that we have vetted (RFC 9110, section 9.3.6).
//!
//! Called by the dialler. The proxy gets an IP address and never a name, so it cannot resolve the name to another
//! address. `http` and `https` both go through a tunnel. The proxy is set in the configuration only.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::{Host, Url};

use super::error::{EgressError, SendError};

/// Bound on the head of the proxy's answer, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// The proxy's address, and the credentials for it.
pub(super) struct Proxy {
    host: Host<String>,
    port: u16,
    /// The whole `Proxy-Authorization` header line, with its line end; empty without credentials.
    authorization: String,
}

impl Proxy {
    pub(super) fn from_url(url: &Url) -> Result<Proxy, EgressError> {
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !bare {
            return Err(EgressError::Proxy);
        }
        Ok(Proxy {
            host: url.host().ok_or(EgressError::Proxy)?.to_owned(),
            port: url.port_or_known_default().ok_or(EgressError::Proxy)?,
            authorization: authorization(url),
        })
    }

    /// The proxy's address, if the configured host is an IP address.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(v6)),
            Host::Domain(_) => None,
        }
    }

    /// The proxy's name; empty if it has none.
    pub(super) fn host(&self) -> &str {
        match &self.host {
            Host::Domain(name) => name,
            Host::Ipv4(_) | Host::Ipv6(_) => "",
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Asks the proxy at the other end of `io` for a tunnel to `target`. On success `io` is that tunnel.
    pub(super) async fn tunnel(&self, mut io: TcpStream, target: SocketAddr) -> Result<TcpStream, SendError> {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{}\r\n", self.authorization);
        let sent = io.write_all(request.as_bytes()).await;
        sent.map_err(|error| failed(super::failure::io_text(&error)))?;
        let head = read_head(&mut io).await?;
        match status_of(&head) {
            Some(200..=299) => Ok(io),
            Some(407) => Err(failed("it rejected the credentials (407)".to_owned())),
            Some(status) => Err(failed(format!("it answered {status}"))),
            None => Err(failed("it does not speak HTTP".to_owned())),
        }
    }
}

/// Reads up to the empty line. Nothing may follow it yet: the receiver behind the tunnel speaks only after we do.
async fn read_head(io: &mut TcpStream) -> Result<Vec<u8>, SendError> {
    let mut head = Vec::with_capacity(256);
    loop {
        let read = io.read_buf(&mut head).await;
        let read = read.map_err(|error| failed(super::failure::io_text(&error)))?;
        if read == 0 {
            return Err(failed("it closed the connection".to_owned()));
        }
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            if end + 4 != head.len() {
                return Err(failed("it sent data after its response".to_owned()));
            }
            return Ok(head);
        }
        if head.len() > MAX_HEAD {
            return Err(failed("its response is too long".to_owned()));
        }
    }
}

fn status_of(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn authorization(url: &Url) -> String {
    if url.username().is_empty() && url.password().is_none() {
        return String::new();
    }
    let mut pair = percent_decoded(url.username());
    pair.push(b':');
    pair.extend(percent_decoded(url.password().unwrap_or_default()));
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

/// Undoes the percent-encoding that a URL needs for the user info.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

fn failed(reason: String) -> SendError {
    SendError::Proxy { reason }
}
