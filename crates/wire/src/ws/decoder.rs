//! Decodes what clients send: bytes in, complete messages out.
//!
//! A frame that is complete in the input is unmasked in place and returned without a copy. Only incomplete frames and
//! messages are kept, in a box that exists only while it is needed: an idle session owns no buffer. The output depends
//! on the bytes alone, not on how reads happened to split them.

use super::header::{Header, MAX_HEADER, Opcode, Violation, may_close_with, unmask};

/// Up to this many bytes a buffer is allocated as long as the frame announces. A larger buffer grows with the bytes
/// that have arrived, so that a client cannot make the server allocate memory by announcing it.
const PREALLOCATED: usize = 4096;

/// A complete message or control frame from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong, solicited or not.
    Pong(&'a [u8]),
    /// The client closes, with a code and a reason if it gave any. Bytes after that are ignored.
    Close(Option<(u16, &'a str)>),
}

/// Decodes one client's bytes. It cannot be used after a [`Violation`].
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    kept: Option<Box<Kept>>,
}

/// State that must outlive the input that it came in. It is dropped with its message: the next one gets a new box.
#[derive(Debug, Default)]
struct Kept {
    /// The first bytes of an incomplete header.
    head: Head,
    /// The incomplete frame.
    open: Option<Frame>,
    /// The payload so far of a control frame, which may come between the fragments of a message.
    control: Vec<u8>,
    /// The payload so far of a message, of all its fragments.
    message: Vec<u8>,
    /// The kind of the message, while one is incomplete.
    kind: Option<Opcode>,
    /// How many bytes of a text message are known to be UTF-8.
    checked: usize,
}

/// The first bytes of a header.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

/// A frame whose header is read.
#[derive(Debug)]
struct Frame {
    header: Header,
    /// How many bytes of its payload are still to come.
    left: usize,
}

/// A complete message or control frame, and where its payload is.
enum Whole<'i> {
    /// In the input.
    InInput(Opcode, &'i [u8]),
    /// In [`Kept::control`].
    Control(Opcode),
    /// In [`Kept::message`].
    Message(Opcode),
}

impl Decoder {
    /// A decoder for messages of up to `max_message` bytes, all fragments together.
    pub fn new(max_message: usize) -> Self {
        Self { max_message, kept: None }
    }

    /// Takes bytes off the front of `input` until a message or control frame is complete. `None`: the input is used up,
    /// and an incomplete frame is kept for the next call.
    ///
    /// # Errors
    /// [`Violation`]: close the connection with its code.
    pub fn next<'o, 'i: 'o>(&'o mut self, input: &mut &'i mut [u8]) -> Result<Option<Incoming<'o>>, Violation> {
        self.free_returned();
        let Some(whole) = self.find(input)? else { return Ok(None) };
        let kept = self.kept.as_deref();
        let (opcode, payload) = match whole {
            Whole::InInput(opcode, payload) => (opcode, payload),
            Whole::Control(opcode) => (opcode, kept.map_or(&[][..], |kept| &kept.control)),
            Whole::Message(opcode) => (opcode, kept.map_or(&[][..], |kept| &kept.message)),
        };
        incoming(opcode, payload).map(Some)
    }

    /// Frees the memory of the message or frame that was returned last.
    fn free_returned(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        if kept.is_needed() {
            if kept.open.is_none() {
                kept.control = Vec::new();
            }
        } else {
            self.kept = None;
        }
    }

    fn find<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<Whole<'i>>, Violation> {
        loop {
            let open = self.kept.as_mut().and_then(|kept| kept.open.take());
            let frame = if open.is_some() { open } else { self.begin(input)? };
            let Some(mut frame) = frame else { return Ok(None) };
            if frame.is_whole_in(input) {
                let payload = take_front(input, frame.left);
                unmask(payload, frame.header.mask);
                return Ok(Some(Whole::InInput(frame.header.opcode, payload)));
            }
            let kept = self.kept.get_or_insert_default();
            let piece = take_front(input, frame.left.min(input.len()));
            // Nothing is kept before some of the payload has arrived: the frame may yet be complete in the next input.
            if frame.left == 0 || !piece.is_empty() {
                kept.add(&mut frame, piece)?;
            }
            if frame.left > 0 {
                kept.open = Some(frame);
                return Ok(None);
            }
            if let Some(whole) = kept.end(&frame.header) {
                return Ok(Some(whole));
            }
        }
    }

    /// Reads a frame's header; `None` while it is incomplete.
    fn begin(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        let header = match &mut self.kept {
            Some(kept) if kept.head.len > 0 => kept.head.fill(input)?,
            _ => match Header::parse(input)? {
                Some(header) => {
                    take_front(input, header.len);
                    Some(header)
                }
                None if input.is_empty() => None,
                None => self.kept.get_or_insert_default().head.fill(input)?,
            },
        };
        let Some(header) = header else { return Ok(None) };
        self.check(&header)?;
        Ok(Some(Frame { header, left: header.payload }))
    }

    /// Checks that a frame may come here and is not too long, before any of its payload is kept.
    fn check(&self, header: &Header) -> Result<(), Violation> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let begun = self.kept.as_ref().filter(|kept| kept.kind.is_some());
        match (header.opcode == Opcode::Continuation, begun) {
            (true, None) => Err(Violation::NothingToContinue),
            (false, Some(_)) => Err(Violation::Interrupted),
            (_, begun) => {
                let room = self.max_message.saturating_sub(begun.map_or(0, |kept| kept.message.len()));
                if header.payload > room { Err(Violation::TooLong) } else { Ok(()) }
            }
        }
    }
}

impl Frame {
    /// Whether the frame is a complete message or a control frame whose payload is all in the input.
    fn is_whole_in(&self, input: &[u8]) -> bool {
        let Header { is_final, opcode, payload, .. } = self.header;
        is_final && opcode != Opcode::Continuation && self.left == payload && payload <= input.len()
    }
}

impl Head {
    /// Takes the bytes that belong to the header off the input.
    fn fill(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, Violation> {
        let had = self.len;
        let more = input.len().min(MAX_HEADER - had);
        self.bytes[had..had + more].copy_from_slice(&input[..more]);
        let header = Header::parse(&self.bytes[..had + more])?;
        let taken = header.map_or(more, |header| header.len - had);
        take_front(input, taken);
        self.len = if header.is_some() { 0 } else { had + taken };
        Ok(header)
    }
}

impl Kept {
    fn is_needed(&self) -> bool {
        self.head.len > 0 || self.open.is_some() || self.kind.is_some()
    }

    /// Adds a piece of a frame's payload.
    fn add(&mut self, frame: &mut Frame, piece: &mut [u8]) -> Result<(), Violation> {
        let Header { is_final, opcode, mut mask, payload, .. } = frame.header;
        mask.rotate_left((payload - frame.left) % 4);
        unmask(piece, mask);
        let buffer = if opcode.is_control() { &mut self.control } else { &mut self.message };
        if is_final && frame.left <= PREALLOCATED.max(buffer.len()) {
            buffer.reserve_exact(frame.left);
        }
        buffer.extend_from_slice(piece);
        frame.left -= piece.len();
        if matches!(opcode, Opcode::Text | Opcode::Binary) {
            self.kind = Some(opcode);
        }
        if !opcode.is_control() && self.kind == Some(Opcode::Text) {
            self.check_text()?;
        }
        Ok(())
    }

    /// Fails as soon as the text cannot become UTF-8, whatever follows.
    fn check_text(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }

    /// The message or control frame that a complete frame completes.
    fn end<'i>(&mut self, header: &Header) -> Option<Whole<'i>> {
        if header.opcode.is_control() {
            return Some(Whole::Control(header.opcode));
        }
        if !header.is_final {
            return None;
        }
        self.kind.take().map(Whole::Message)
    }
}

/// Takes the first `count` bytes off the input, which has that many.
fn take_front<'i>(input: &mut &'i mut [u8], count: usize) -> &'i mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(count);
    *input = rest;
    front
}

/// Interprets the payload of a complete message or control frame.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a client that masks with `1 2 3 4`.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
        frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn a_decoder_is_small_and_idle_ones_own_nothing() {
        assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
        let mut decoder = Decoder::new(100);
        let mut stream = [masked(0x81, b"one"), masked(0x01, b"tw"), masked(0x89, b"!"), masked(0x80, b"o")].concat();
        for cut in 0..=stream.len() {
            let mut stream = stream.clone();
            let (mut one, mut two) = stream.split_at_mut(cut);
            while decoder.next(&mut one).unwrap().is_some() {}
            assert_eq!(decoder.kept.is_some(), !matches!(cut, 0 | 9 | 31), "after {cut}");
            while decoder.next(&mut two).unwrap().is_some() {}
            assert!(decoder.kept.is_none(), "cut at {cut}");
        }
        let input = &mut stream[..];
        let (first, last) = (input.as_ptr() as usize, input.as_ptr() as usize + input.len());
        let Ok(Some(Incoming::Text(text))) = decoder.next(&mut { input }) else { panic!("no text") };
        assert!((first..last).contains(&(text.as_ptr() as usize)), "it was copied");
        assert!(decoder.kept.is_none());
    }

    #[test]
    fn what_a_frame_only_announces_takes_no_memory() {
        let mut decoder = Decoder::new(1 << 30);
        let mut frame = [&[0x82, 0xff][..], &(1u64 << 29).to_be_bytes(), &[0; 4], &[7; 1000]].concat();
        assert_eq!(decoder.next(&mut &mut frame[..]), Ok(None));
        let kept = decoder.kept.unwrap();
        assert!(kept.message.len() == 1000 && kept.message.capacity() < 10_000, "{}", kept.message.capacity());
    }

    #[test]
    fn the_memory_of_a_message_is_given_back_while_another_comes() {
        let mut decoder = Decoder::new(1 << 20);
        let long = [&[0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[7; 0xffff]].concat();
        let mut stream = [&long[..], &masked(0x01, b"next")].concat();
        let (mut one, mut two) = stream.split_at_mut(100);
        assert_eq!(decoder.next(&mut one), Ok(None));
        assert_eq!(decoder.next(&mut two), Ok(Some(Incoming::Binary(&[7; 0xffff]))));
        assert_eq!(decoder.next(&mut two), Ok(None));
        assert!(decoder.kept.unwrap().message.capacity() < 100);
    }
}
