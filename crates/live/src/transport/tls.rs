//! A socket with TLS terminated here, driven by hand: rustls does no I/O of its own.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

/// A TLS connection and its socket. The encrypted bytes that rustls buffers are bounded: it gets no new plaintext until
/// the socket has taken the last.
#[derive(Debug)]
pub(crate) struct Tls {
    socket: TcpStream,
    session: ServerConnection,
    close_notify_sent: bool,
}

impl Tls {
    pub(crate) fn new(socket: TcpStream, session: ServerConnection) -> Self {
        Self { socket, session, close_notify_sent: false }
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads plaintext: first what rustls has already decrypted, which no event of the socket would ever announce.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer closed its socket without close_notify. Frames have lengths, so a truncation is noticed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            // 0 is the end of the socket; the next read of the reader reports it.
            self.session.read_tls(&mut self.socket)?;
            let processed = self.session.process_new_packets();
            // Sends a response of TLS itself, or an alert.
            self.flush()?;
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // rustls takes as much as its buffer holds. The buffer is empty now, so it always takes something.
        let written = self.session.writer().write_vectored(pieces)?;
        self.flush()?;
        Ok(written)
    }

    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub(crate) fn finish(&mut self) -> io::Result<bool> {
        if !std::mem::replace(&mut self.close_notify_sent, true) {
            self.session.send_close_notify();
        }
        if !self.flush()? {
            return Ok(false);
        }
        self.socket.shutdown(Shutdown::Write)?;
        Ok(true)
    }
}
