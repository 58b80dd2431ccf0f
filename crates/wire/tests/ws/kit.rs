//! A client's frames as bytes, and what our decoder and tungstenite's return for them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use tidings_wire::ws::{Decoder, Incoming, Violation};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// A frame as a client sends it.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub(crate) first: u8,
    pub(crate) mask: [u8; 4],
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(first: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first, mask: [0x37, 0xfa, 0x21, 0x3d], payload: payload.into() }
    }

    /// The frame's bytes, masked one by one: slow, to check the decoder's fast unmasking against.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        match self.payload.len() {
            short @ 0..=125 => bytes.push(0x80 | short as u8),
            long @ 126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((long as u16).to_be_bytes());
            }
            long => {
                bytes.push(0x80 | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(self.mask);
        bytes.extend(self.payload.iter().enumerate().map(|(at, byte)| byte ^ self.mask[at % 4]));
        bytes
    }
}

/// An owned [`Incoming`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All bytes were taken; more may come.
    Open,
    /// With a close frame; later bytes were ignored.
    Closed,
    Refused(Violation),
    /// Refused by tungstenite, with its error text.
    RefusedByThem,
}

/// The stream cut at these places, each a number of bytes.
pub(crate) fn cut(stream: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
    let mut rest = stream;
    let mut cut: Vec<_> = pieces
        .iter()
        .map(|&len| {
            let (piece, behind) = rest.split_at(len.min(rest.len()));
            rest = behind;
            piece.to_vec()
        })
        .collect();
    cut.push(rest.to_vec());
    cut
}

/// What our decoder returns for the pieces.
pub(crate) fn ours(max_message: usize, pieces: Vec<Vec<u8>>) -> (Vec<Heard>, End) {
    let mut decoder = Decoder::new(max_message);
    let mut heard = Vec::new();
    for mut piece in pieces {
        let mut input = &mut piece[..];
        loop {
            let said = match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Incoming::Text(text))) => Heard::Text(text.to_owned()),
                Ok(Some(Incoming::Binary(bytes))) => Heard::Binary(bytes.to_vec()),
                Ok(Some(Incoming::Ping(bytes))) => Heard::Ping(bytes.to_vec()),
                Ok(Some(Incoming::Pong(bytes))) => Heard::Pong(bytes.to_vec()),
                Ok(Some(Incoming::Close(close))) => {
                    heard.push(Heard::Close(close.map(|(code, reason)| (code, reason.to_owned()))));
                    return (heard, End::Closed);
                }
                Err(violation) => return (heard, End::Refused(violation)),
            };
            heard.push(said);
        }
        assert!(input.is_empty(), "{} bytes were left", input.len());
    }
    (heard, End::Open)
}

/// What tungstenite returns for the pieces.
pub(crate) fn theirs(max_message: usize, pieces: Vec<Vec<u8>>) -> (Vec<Heard>, End) {
    let config =
        WebSocketConfig::default().max_message_size(Some(max_message)).max_frame_size(Some(max_message.max(125)));
    let mut socket = WebSocket::from_raw_socket(Pieces(pieces.into()), Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.read() {
            Ok(Message::Text(text)) => Heard::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Heard::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Heard::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Heard::Pong(bytes.to_vec()),
            Ok(Message::Close(None)) => {
                heard.push(Heard::Close(None));
                return (heard, End::Closed);
            }
            // This is what it tells of a close frame with a code that must not be sent.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                return (heard, End::RefusedByThem);
            }
            Ok(Message::Close(Some(close))) => {
                heard.push(Heard::Close(Some((close.code.into(), close.reason.as_str().to_owned()))));
                return (heard, End::Closed);
            }
            Ok(Message::Frame(frame)) => panic!("a raw frame: {frame:?}"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return (heard, End::Open),
            Err(_) => return (heard, End::RefusedByThem),
        });
    }
}

/// A socket that returns one piece per read and accepts all writes.
struct Pieces(VecDeque<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.0.front().is_some_and(Vec::is_empty) {
            self.0.pop_front();
        }
        let Some(piece) = self.0.front_mut() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let count = piece.len().min(into.len());
        into[..count].copy_from_slice(&piece[..count]);
        piece.drain(..count);
        Ok(count)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
