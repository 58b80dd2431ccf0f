//! Turns errors of the HTTP, TLS and socket layers into [`SendError`].
//!
//! Called by the exchange and the dialler. The kind of a failure is decided by the types in the chain of sources, never
//! by their texts.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use tidings_tls::causes;

use super::error::SendError;
use super::tls;

/// Why a head or a body could not be read.
pub(super) fn of_http(error: &(dyn Error + 'static)) -> SendError {
    let mut reason = None;
    for cause in causes(error) {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return SendError::Tls { reason: tls::explain(tls) };
        }
        if let Some(http) = cause.downcast_ref::<hyper::Error>() {
            if http.is_parse_too_large() {
                return SendError::TooLarge;
            }
            reason = Some(if http.is_incomplete_message() { CLOSED_EARLY.to_owned() } else { http.to_string() });
        } else if let Some(io) = cause.downcast_ref::<io::Error>() {
            reason = Some(io_text(io));
        }
    }
    SendError::Protocol { reason: reason.unwrap_or_else(|| error.to_string()) }
}

/// Why the TLS handshake failed.
pub(super) fn tls_failure(error: &(dyn Error + 'static)) -> SendError {
    let mut reason = error.to_string();
    for cause in causes(error) {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            reason = tls::explain(tls);
        } else if let Some(io) = cause.downcast_ref::<io::Error>() {
            reason = io_text(io);
        }
    }
    SendError::Tls { reason }
}

/// Why a socket was not opened or not connected to `addr`: a shortage on this machine, or a failure of the connection.
pub(super) fn of_dial(error: &io::Error, addr: SocketAddr) -> SendError {
    // For IPv4 it means that no local port is free. For IPv6 it may mean that this machine has no IPv6 address at all,
    // which waiting does not change.
    let no_port = error.kind() == io::ErrorKind::AddrNotAvailable && addr.is_ipv4();
    if no_port || is_shortage(error) {
        return SendError::Shortage { reason: error.to_string() };
    }
    SendError::Connect { reason: io_text(error) }
}

/// Whether the system had no descriptor, memory or buffer left.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    const SHORT: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|errno| SHORT.contains(&errno))
}

/// The text of an I/O error. Common errors get the same text on each platform, without the error number.
pub(super) fn io_text(error: &io::Error) -> String {
    let known = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "the connection was reset",
        io::ErrorKind::ConnectionAborted => "the connection was aborted",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::TimedOut => "the connection timed out",
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => CLOSED_EARLY,
        _ => return error.to_string(),
    };
    known.to_owned()
}

const CLOSED_EARLY: &str = "the connection closed before the message was complete";
