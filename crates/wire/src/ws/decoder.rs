//! What clients send: bytes in, whole messages out.
//!
//! A frame that lies whole in the input is unmasked there and handed out without a copy. Only what isn't whole yet is
//! kept, in a box that is there for as long as it is needed: an idle session owns nothing. What comes out depends on
//! the bytes alone, never on how reads happened to cut them.

use super::header::{Header, MAX_HEADER, Opcode, Violation, may_close_with, unmask};

/// Up to here a buffer is made at once as long as its frame says; beyond, only what has come is believed.
const BELIEVED: usize = 4096;

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
    /// The client closes, with a code and a reason if it gave any. What it sends after that means nothing.
    Close(Option<(u16, &'a str)>),
}

/// Decodes one client's bytes. After a [`Violation`] it is of no more use.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    kept: Option<Box<Kept>>,
}

/// What must outlive the input that it came in. It ends with its message: no other begins in the same box.
#[derive(Debug, Default)]
struct Kept {
    /// The beginning of a header.
    head: Head,
    /// The frame that isn't whole yet.
    open: Option<Frame>,
    /// What has come of a control frame; such may come between the fragments of a message.
    control: Vec<u8>,
    /// What has come of a message, all fragments together.
    message: Vec<u8>,
    /// What kind of message it is, while one is under way.
    kind: Option<Opcode>,
    /// How much of a text is known to be UTF-8.
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
    /// How much of its payload is still to come.
    left: usize,
}

/// Something whole, and where its payload is.
enum Whole<'i> {
    /// In the input.
    Given(Opcode, &'i [u8]),
    /// In what is kept of a control frame.
    Control(Opcode),
    /// In what is kept of a message.
    Message(Opcode),
}

impl Decoder {
    /// A decoder of messages up to `max_message` bytes, fragments together.
    pub fn new(max_message: usize) -> Self {
        Self { max_message, kept: None }
    }

    /// Takes bytes off the front of `input` until something is whole. `None`: the input is used up, and what isn't
    /// whole yet is kept for the next call.
    ///
    /// # Errors
    /// [`Violation`]: the connection is to be closed with its code.
    pub fn next<'o, 'i: 'o>(&'o mut self, input: &mut &'i mut [u8]) -> Result<Option<Incoming<'o>>, Violation> {
        self.forget();
        let Some(whole) = self.find(input)? else { return Ok(None) };
        let kept = self.kept.as_deref();
        let (opcode, payload) = match whole {
            Whole::Given(opcode, payload) => (opcode, payload),
            Whole::Control(opcode) => (opcode, kept.map_or(&[][..], |kept| &kept.control)),
            Whole::Message(opcode) => (opcode, kept.map_or(&[][..], |kept| &kept.message)),
        };
        incoming(opcode, payload).map(Some)
    }

    /// Gives back the memory of what was handed out last.
    fn forget(&mut self) {
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
                return Ok(Some(Whole::Given(frame.header.opcode, payload)));
            }
            let kept = self.kept.get_or_insert_default();
            let piece = take_front(input, frame.left.min(input.len()));
            // Not even its kind is noted before some of it has come: it may yet lie whole in the next input.
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

    /// Reads a frame's header; `None` when it isn't whole yet.
    fn begin(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        let header = match &mut self.kept {
            Some(kept) if kept.head.len > 0 => kept.head.go_on(input)?,
            _ => match Header::parse(input)? {
                Some(header) => {
                    take_front(input, header.len);
                    Some(header)
                }
                None if input.is_empty() => None,
                None => self.kept.get_or_insert_default().head.go_on(input)?,
            },
        };
        let Some(header) = header else { return Ok(None) };
        self.check(&header)?;
        Ok(Some(Frame { header, left: header.payload }))
    }

    /// Whether a frame may come here, and is not too long: told before any of its payload is kept.
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
    /// Whether nothing of it was taken yet, all of it is here, and it is a whole message or a control frame.
    fn is_whole_in(&self, input: &[u8]) -> bool {
        let Header { is_final, opcode, payload, .. } = self.header;
        is_final && opcode != Opcode::Continuation && self.left == payload && payload <= input.len()
    }
}

impl Head {
    /// Takes as much of the input as belongs to the header.
    fn go_on(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, Violation> {
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
        if is_final && frame.left <= BELIEVED.max(buffer.len()) {
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

    /// Looks for bytes that nothing which may follow can make UTF-8.
    fn check_text(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }

    /// What a frame that is whole now makes whole with it.
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
