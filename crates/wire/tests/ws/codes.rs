//! Each thing that a client must not do, and the code that the connection is closed with; the specification's examples.

use tidings_wire::ws::Violation;

use super::kit::{End, Frame, Heard, ours};

const MAX: usize = 1000;

/// Asserts that these frames are refused with this violation, whether they come at once or byte by byte.
fn refused(stream: &[u8]) -> Violation {
    let single = stream.iter().map(|byte| vec![*byte]).collect();
    match (ours(MAX, vec![stream.to_vec()]), ours(MAX, single)) {
        ((_, End::Refused(at_once)), (_, End::Refused(later))) if at_once == later => at_once,
        ends => panic!("{stream:x?}: {ends:?}"),
    }
}

fn frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| Frame::new(*first, *payload).bytes()).collect()
}

#[test]
fn each_violation_is_told_and_has_its_code() {
    let table: [(Vec<u8>, Violation, u16); 32] = [
        (b"\x81\x05Hello".to_vec(), Violation::Unmasked, 1002),
        (b"\x89\x00".to_vec(), Violation::Unmasked, 1002),
        (vec![0xc1], Violation::ReservedBits, 1002),
        (vec![0xa2], Violation::ReservedBits, 1002),
        (vec![0x99], Violation::ReservedBits, 1002),
        (vec![0x83], Violation::ReservedOpcode, 1002),
        (vec![0x07], Violation::ReservedOpcode, 1002),
        (vec![0x8b], Violation::ReservedOpcode, 1002),
        (vec![0x8f], Violation::ReservedOpcode, 1002),
        (vec![0x82, 0xfe, 0, 125], Violation::BadLength, 1002),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Violation::BadLength, 1002),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::BadLength, 1002),
        (vec![0x09], Violation::BadControl, 1002),
        (vec![0x08], Violation::BadControl, 1002),
        (vec![0x8a, 0xfe], Violation::BadControl, 1002),
        (vec![0x88, 0xff], Violation::BadControl, 1002),
        (frames(&[(0x80, b"x")]), Violation::NothingToContinue, 1002),
        (frames(&[(0x81, b"x"), (0x00, b"")]), Violation::NothingToContinue, 1002),
        (frames(&[(0x01, b"x"), (0x80, b""), (0x80, b"")]), Violation::NothingToContinue, 1002),
        (frames(&[(0x01, b"x"), (0x81, b"y")]), Violation::Interrupted, 1002),
        (frames(&[(0x02, b""), (0x89, b""), (0x02, b"")]), Violation::Interrupted, 1002),
        (frames(&[(0x88, b"\x03")]), Violation::BadClose, 1002),
        (frames(&[(0x88, b"\x03\xed")]), Violation::BadClose, 1002),
        (frames(&[(0x88, b"\x03\xe8\xff")]), Violation::NotUtf8, 1007),
        (frames(&[(0x81, b"\xff")]), Violation::NotUtf8, 1007),
        (frames(&[(0x81, b"\xe2\x82")]), Violation::NotUtf8, 1007),
        (frames(&[(0x01, b"\xe2\x82"), (0x80, b"")]), Violation::NotUtf8, 1007),
        (frames(&[(0x01, b"\xed"), (0x00, b"\xa0")]), Violation::NotUtf8, 1007),
        (frames(&[(0x01, b"\xf4"), (0x00, b"\x90")]), Violation::NotUtf8, 1007),
        (frames(&[(0x82, &[0; MAX + 1])]), Violation::TooLong, 1009),
        (frames(&[(0x02, &[0; MAX]), (0x00, b"!")]), Violation::TooLong, 1009),
        (vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], Violation::TooLong, 1009),
    ];
    for (stream, violation, code) in table {
        let told = refused(&stream);
        assert_eq!((told, told.close_code()), (violation, code), "{stream:x?}");
        assert!((1..=123).contains(&told.to_string().len()), "{told} is no reason for a close frame");
    }
}

#[test]
fn the_specifications_examples_are_heard() {
    // § 5.7: masked "Hello", a masked pong, and "Hello" in two fragments with a ping between them.
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let fragments = frames(&[(0x01, b"Hel"), (0x89, b"Hello"), (0x80, b"lo")]);
    let long = frames(&[(0x82, &[7; 256])]);
    let stream = [&hello[..], pong, &fragments, &long].concat();
    let said = vec![
        Heard::Text("Hello".to_owned()),
        Heard::Pong(b"Hello".to_vec()),
        Heard::Ping(b"Hello".to_vec()),
        Heard::Text("Hello".to_owned()),
        Heard::Binary(vec![7; 256]),
    ];
    for at in 0..=stream.len() {
        let (one, two) = stream.split_at(at);
        assert_eq!(ours(MAX, vec![one.to_vec(), two.to_vec()]), (said.clone(), End::Open), "cut at {at}");
    }
}

#[test]
fn only_codes_that_may_be_sent_are_taken() {
    for code in 0..=u16::MAX {
        let told = ours(MAX, vec![frames(&[(0x88, &code.to_be_bytes())])]);
        let expected = match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => (vec![Heard::Close(Some((code, String::new())))], End::Closed),
            _ => (Vec::new(), End::Refused(Violation::BadClose)),
        };
        assert_eq!(told, expected, "{code}");
    }
}
