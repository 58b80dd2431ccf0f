//! The same bytes through our decoder and through tungstenite's.
//!
//! Where they may differ, and why:
//!
//! - A length that is not in its shortest form: we refuse it (RFC 6455 § 5.2: "the minimal number of bytes MUST be
//!   used"), it takes it.
//! - Close code 1014: we take it (it is in IANA's registry), it does not know it.
//! - We refuse a violation as soon as its bytes have arrived, it mostly when the frame is complete. So where we have
//!   refused, it may still wait for the rest of the frame; given the rest, it must refuse too, before it returns
//!   anything more.

use proptest::prelude::*;
use tidings_wire::ws::Violation;

use super::kit::{End, Frame, Heard, cut, ours, theirs};

const MAX_MESSAGE: usize = 70_000;

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..40usize, 4 => 120..131usize, 1 => 65_530..65_541usize]
}

fn text() -> impl Strategy<Value = String> {
    (prop::collection::vec(prop_oneof![Just("a"), Just("å"), Just("€"), Just("🙂"), Just("\0")], 1..9), length())
        .prop_map(|(characters, length)| characters.into_iter().cycle().take(length).collect::<String>())
        .prop_filter("too long", |text| text.len() <= MAX_MESSAGE)
}

fn bytes(length: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<u8>(), 1..9), length)
        .prop_map(|(bytes, length)| bytes.into_iter().cycle().take(length).collect())
}

fn message() -> impl Strategy<Value = Heard> {
    prop_oneof![text().prop_map(Heard::Text), bytes(length()).prop_map(Heard::Binary)]
}

fn control() -> impl Strategy<Value = Heard> {
    prop_oneof![bytes(0..126usize).prop_map(Heard::Ping), bytes(0..126usize).prop_map(Heard::Pong)]
}

fn close() -> impl Strategy<Value = Heard> {
    let code = prop_oneof![1000..=1003u16, 1007..=1013u16, 3000..=4999u16];
    prop_oneof![Just(None), (code, "\\PC{0,30}").prop_map(Some)].prop_map(Heard::Close)
}

/// A message, the lengths of its fragments, and the control frames between them.
type Said = (Heard, Vec<usize>, Vec<Heard>);

fn said() -> impl Strategy<Value = Said> {
    let fragments = prop::collection::vec(prop_oneof![0..4usize, 0..200usize, 0..70_000usize], 0..5);
    (message(), fragments, prop::collection::vec(control(), 0..5))
}

/// A client's frames, and what a decoder should return for them.
fn conversation() -> impl Strategy<Value = (Vec<Frame>, Vec<Heard>)> {
    let masks = prop::collection::vec(any::<[u8; 4]>(), 1..9);
    (prop::collection::vec(said(), 0..5), prop::option::of(close()), masks).prop_map(|(said, close, masks)| {
        let (mut frames, mut heard) = (Vec::new(), Vec::new());
        for (message, fragments, between) in said {
            let (opcode, payload) = wire(&message);
            let pieces = cut(&payload, &fragments);
            let last = pieces.len() - 1;
            let mut between = between.into_iter();
            for (at, piece) in pieces.into_iter().enumerate() {
                let first = if at == 0 { opcode } else { 0 } | if at == last { 0x80 } else { 0 };
                frames.push(Frame::new(first, piece));
                if at < last
                    && let Some(control) = between.next()
                {
                    let (opcode, payload) = wire(&control);
                    frames.push(Frame::new(0x80 | opcode, payload));
                    heard.push(control);
                }
            }
            heard.push(message);
        }
        if let Some(close) = close {
            let (opcode, payload) = wire(&close);
            frames.push(Frame::new(0x80 | opcode, payload));
            heard.push(close);
        }
        for (frame, mask) in frames.iter_mut().zip(masks.iter().cycle()) {
            frame.mask = *mask;
        }
        (frames, heard)
    })
}

/// The opcode and payload of something.
fn wire(said: &Heard) -> (u8, Vec<u8>) {
    match said {
        Heard::Text(text) => (1, text.clone().into()),
        Heard::Binary(bytes) => (2, bytes.clone()),
        Heard::Ping(bytes) => (9, bytes.clone()),
        Heard::Pong(bytes) => (10, bytes.clone()),
        Heard::Close(None) => (8, Vec::new()),
        Heard::Close(Some((code, reason))) => (8, [&code.to_be_bytes()[..], reason.as_bytes()].concat()),
    }
}

/// Splits the stream into reads of these lengths; the last read takes the rest.
fn reads() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![Just(1usize), 0..20usize, 0..9_000usize], 0..30)
}

/// A change to a stream of bytes, its place given in parts of 65536.
#[derive(Debug, Clone)]
enum Damage {
    Flip(u16, u8),
    Set(u16, u8),
    Remove(u16, u8),
    Insert(u16, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<u16>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<u16>(), 1..9u8).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<u16>(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

impl Damage {
    fn does(&self, stream: &mut Vec<u8>) {
        let place = |at: u16| (usize::from(at) * stream.len()) >> 16;
        match self {
            _ if stream.is_empty() => {}
            Self::Flip(at, bit) => {
                let at = place(*at);
                stream[at] ^= bit;
            }
            Self::Set(at, byte) => {
                let at = place(*at);
                stream[at] = *byte;
            }
            Self::Remove(at, count) => {
                let at = place(*at);
                stream.drain(at..stream.len().min(at + usize::from(*count)));
            }
            Self::Insert(at, bytes) => {
                let at = place(*at);
                stream.splice(at..at, bytes.iter().copied());
            }
        }
    }
}

/// Asserts that both decoders return the same or both refuse, except for the differences listed above.
fn agree(max_message: usize, stream: &[u8], reads: &[usize]) {
    let (heard, end) = ours(max_message, cut(stream, reads));
    assert_eq!(ours(max_message, vec![stream.to_vec()]), (heard.clone(), end), "in one read");
    let (they_heard, they_end) = theirs(max_message, vec![stream.to_vec()]);
    match end {
        _ if matches!(heard.last(), Some(Heard::Close(Some((1014, _))))) => {
            assert_eq!((&heard[..heard.len() - 1], End::RefusedByThem), (&they_heard[..], they_end));
        }
        End::Refused(Violation::BadLength) => assert!(they_heard.starts_with(&heard), "{heard:?} {they_heard:?}"),
        End::Refused(violation) => {
            let rest = vec![0; max_message + 200];
            let told = theirs(max_message, vec![stream.to_vec(), rest]);
            assert_eq!(told, (heard, End::RefusedByThem), "{violation:?}");
        }
        end => assert_eq!((heard, end), (they_heard, they_end)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_client_says_is_heard((frames, said) in conversation(), reads in reads()) {
        let stream: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let end = if matches!(said.last(), Some(Heard::Close(_))) { End::Closed } else { End::Open };
        prop_assert_eq!(ours(MAX_MESSAGE, cut(&stream, &reads)), (said.clone(), end));
        prop_assert_eq!(theirs(MAX_MESSAGE, cut(&stream, &reads)), (said, end));
    }

    #[test]
    fn damaged_streams_are_taken_alike(
        (frames, _) in conversation(),
        damages in prop::collection::vec(damage(), 1..4),
        reads in reads(),
        max_message in prop_oneof![Just(0usize), 0..300usize, Just(MAX_MESSAGE)],
    ) {
        let mut stream: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        damages.iter().for_each(|damage| damage.does(&mut stream));
        agree(max_message, &stream, &reads);
    }

    #[test]
    fn frames_in_any_order_are_taken_alike(
        frames in prop::collection::vec(
            (prop_oneof![9 => Just(0u8), 1 => 0..8u8], any::<bool>(),
             prop_oneof![8 => 0..3u8, 3 => 8..11u8, 1 => 0..16u8],
             prop_oneof![bytes(0..6usize), bytes(120..130usize), "\\PC{0,9}".prop_map(String::into_bytes)],
             any::<[u8; 4]>()),
            0..9,
        ),
        reads in reads(),
        max_message in prop_oneof![0..20usize, 0..300usize],
        masked in prop::collection::vec(prop::bool::weighted(0.95), 9),
    ) {
        let mut stream = Vec::new();
        for ((reserved, is_final, opcode, payload, mask), masked) in frames.into_iter().zip(masked) {
            let first = u8::from(is_final) << 7 | reserved << 4 | opcode;
            let mut bytes = Frame { first, mask, payload }.bytes();
            if !masked {
                bytes[1] &= 0x7f;
            }
            stream.extend(bytes);
        }
        agree(max_message, &stream, &reads);
    }
}
