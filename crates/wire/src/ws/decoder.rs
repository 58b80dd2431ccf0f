//! What clients send: bytes in, whole messages out.
//!
//! A frame that lies whole in the input is unmasked there and handed out without a copy. Only what isn't whole yet is kept,
//! in a box that is there for as long as it is needed: an idle session owns nothing.

use super::header::{Header, Opcode, Violation, may_close_with, unmask};

/// Something whole that a client has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A message of text.
    Text(&'a str),
    /// A message of bytes.
    Binary(&'a [u8]),
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// The client closes, with a code and a reason if it gave any.
    Close(Option<(u16, &'a str)>),
}

/// Decodes one client's bytes. After a [`Violation`] it is of no more use.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    kept: Option<Box<Kept>>,
}

/// What must outlive the input that it came in.
#[derive(Debug, Default)]
struct Kept {
    /// The beginning of a frame, as it came.
    frame: Vec<u8>,
    /// The fragments of a message so far, unmasked.
    message: Vec<u8>,
    /// What kind of message it is, while one is under way.
    kind: Option<Opcode>,
    /// How much of a text's fragments is known to be UTF-8.
    checked: usize,
    /// What was handed out last, when it wasn't handed out of the input.
    out: Vec<u8>,
}

/// A whole frame's payload, unmasked: still in the input, or put together from pieces.
enum Payload<'i> {
    Given(&'i [u8]),
    Joined(Vec<u8>),
}

/// What a frame makes of a message.
enum Step {
    /// It is a whole message, or a control frame, by itself.
    Alone,
    /// It is a part of a message that goes on.
    Part,
    /// It is the last part of one.
    Last,
}

impl Decoder {
    /// A decoder of messages up to `max_message` bytes, fragments together.
    pub fn new(max_message: usize) -> Self {
        Self { max_message, kept: None }
    }

    /// Takes bytes off the front of `input` until something is whole. `None`: the input is used up, and what isn't whole yet
    /// is kept for the next call.
    ///
    /// # Errors
    /// [`Violation`]: the connection is to be closed with its code.
    pub fn next<'o, 'i: 'o>(&'o mut self, input: &mut &'i mut [u8]) -> Result<Option<Incoming<'o>>, Violation> {
        if self.kept.as_ref().is_some_and(|kept| !kept.is_needed()) {
            self.kept = None;
        }
        while let Some((header, payload)) = self.frame(input)? {
            let bytes = match &payload {
                Payload::Given(bytes) => bytes,
                Payload::Joined(bytes) => bytes.as_slice(),
            };
            match (self.step(&header, bytes)?, payload) {
                (Step::Part, _) => {}
                (Step::Last, _) => {
                    let kept = self.kept.get_or_insert_default();
                    kept.out = std::mem::take(&mut kept.message);
                    let kind = kept.kind.take().unwrap_or(Opcode::Binary);
                    return incoming(kind, &kept.out).map(Some);
                }
                (Step::Alone, Payload::Given(bytes)) => return incoming(header.opcode, bytes).map(Some),
                (Step::Alone, Payload::Joined(bytes)) => {
                    let kept = self.kept.get_or_insert_default();
                    kept.out = bytes;
                    return incoming(header.opcode, &kept.out).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The next whole frame; `None` when there is none, and what there is of it is kept.
    fn frame<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<(Header, Payload<'i>)>, Violation> {
        if self.kept.as_ref().is_some_and(|kept| !kept.frame.is_empty()) {
            return self.rest_of_frame(input);
        }
        let header = Header::parse(input)?;
        if let Some(header) = header {
            self.check(&header)?;
            if input.len() >= header.len + header.payload {
                let (frame, rest) = std::mem::take(input).split_at_mut(header.len + header.payload);
                *input = rest;
                let payload = &mut frame[header.len..];
                unmask(payload, header.mask);
                return Ok(Some((header, Payload::Given(payload))));
            }
        }
        if !input.is_empty() {
            self.kept.get_or_insert_default().frame.extend_from_slice(input);
            *input = &mut [];
        }
        Ok(None)
    }

    /// Goes on with a frame whose beginning is kept.
    fn rest_of_frame<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<(Header, Payload<'i>)>, Violation> {
        loop {
            let kept = self.kept.get_or_insert_default();
            let header = Header::parse(&kept.frame)?;
            // A byte at a time until the header is whole: what stands behind it may be of the next frame.
            let missing = header.map_or(1, |header| header.len + header.payload - kept.frame.len());
            let Some(header) = header.filter(|_| missing == 0) else {
                if input.is_empty() {
                    return Ok(None);
                }
                if let Some(header) = &header {
                    self.check(header)?;
                }
                let taken = missing.min(input.len());
                let (piece, rest) = std::mem::take(input).split_at_mut(taken);
                self.kept.get_or_insert_default().frame.extend_from_slice(piece);
                *input = rest;
                continue;
            };
            self.check(&header)?;
            let mut frame = std::mem::take(&mut self.kept.get_or_insert_default().frame);
            frame.drain(..header.len);
            unmask(&mut frame, header.mask);
            return Ok(Some((header, Payload::Joined(frame))));
        }
    }

    /// Whether a frame may come here, and is not too long: told before its payload is waited for.
    fn check(&self, header: &Header) -> Result<(), Violation> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let begun = self.kept.as_ref().filter(|kept| kept.kind.is_some());
        match (header.opcode == Opcode::Continuation, begun) {
            (true, None) => Err(Violation::NothingToContinue),
            (false, Some(_)) => Err(Violation::Interrupted),
            (_, begun) => {
                let room = self.max_message - begun.map_or(0, |kept| kept.message.len());
                if header.payload > room { Err(Violation::TooLong) } else { Ok(()) }
            }
        }
    }

    /// Adds a frame to the message that it is a part of.
    fn step(&mut self, header: &Header, payload: &[u8]) -> Result<Step, Violation> {
        let alone = header.opcode.is_control() || (header.is_final && header.opcode != Opcode::Continuation);
        if alone {
            return Ok(Step::Alone);
        }
        let kept = self.kept.get_or_insert_default();
        if header.opcode != Opcode::Continuation {
            kept.kind = Some(header.opcode);
            kept.checked = 0;
        }
        kept.message.extend_from_slice(payload);
        if kept.kind == Some(Opcode::Text) {
            kept.check_text()?;
        }
        Ok(if header.is_final { Step::Last } else { Step::Part })
    }
}

impl Kept {
    fn is_needed(&self) -> bool {
        !self.frame.is_empty() || self.kind.is_some()
    }

    /// Looks for bytes that no later fragment can make UTF-8.
    fn check_text(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }
}

/// What a whole message, or a control frame, says.
fn incoming(opcode: Opcode, payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Violation::NotUtf8);
    Ok(match opcode {
        Opcode::Text => Incoming::Text(text(payload)?),
        Opcode::Binary | Opcode::Continuation => Incoming::Binary(payload),
        Opcode::Ping => Incoming::Ping(payload),
        Opcode::Pong => Incoming::Pong(payload),
        Opcode::Close => match payload.split_first_chunk() {
            None if payload.is_empty() => Incoming::Close(None),
            None => return Err(Violation::BadClose),
            Some((code, reason)) => {
                let code = u16::from_be_bytes(*code);
                if !may_close_with(code) {
                    return Err(Violation::BadClose);
                }
                Incoming::Close(Some((code, text(reason)?)))
            }
        },
    })
}
