//! Violations are refused as early as possible, so that no bytes are kept in vain.

use tidings_wire::ws::{Decoder, Incoming, Violation};

use super::kit::{End, Frame, Heard, cut, ours};

/// After how many bytes the decoder refuses a stream that comes byte by byte.
fn refused_after(max_message: usize, stream: &[u8]) -> (usize, Violation) {
    let mut decoder = Decoder::new(max_message);
    for (at, byte) in stream.iter().enumerate() {
        if let Err(violation) = decoder.next(&mut &mut [*byte][..]) {
            return (at + 1, violation);
        }
    }
    panic!("not refused");
}

#[test]
fn the_header_is_enough_to_refuse_a_message_that_is_too_long() {
    assert_eq!(refused_after(1000, &Frame::new(0x82, [0; 1001]).bytes()), (8, Violation::TooLong));
    assert_eq!(refused_after(1000, &Frame::new(0x81, vec![0; 70_000]).bytes()), (14, Violation::TooLong));
    let second = [Frame::new(0x02, [0; 600]).bytes(), Frame::new(0x00, [0; 401]).bytes()].concat();
    assert_eq!(refused_after(1000, &second), (608 + 8, Violation::TooLong));
    assert_eq!(refused_after(0, &Frame::new(0x82, [0; 1]).bytes()), (6, Violation::TooLong));
}

#[test]
fn text_is_refused_at_the_first_byte_that_no_other_can_mend() {
    let whole = Frame::new(0x81, *b"fine \xe2\x82\x28 and more").bytes();
    assert_eq!(refused_after(1000, &whole), (6 + 8, Violation::NotUtf8));
    let fragments = [Frame::new(0x01, *b"\xf0\x9f").bytes(), Frame::new(0x00, *b"\x99x").bytes()].concat();
    assert_eq!(refused_after(1000, &fragments), (8 + 6 + 2, Violation::NotUtf8));
}

#[test]
fn a_message_of_exactly_the_limit_is_heard_and_control_frames_do_not_count() {
    let frames = [
        Frame::new(0x02, [1; 60]),
        Frame::new(0x89, [2; 125]),
        Frame::new(0x00, []),
        Frame::new(0x80, [1; 40]),
        Frame::new(0x82, [3; 100]),
    ];
    let stream: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    let said = vec![Heard::Ping(vec![2; 125]), Heard::Binary(vec![1; 100]), Heard::Binary(vec![3; 100])];
    for at in 0..=stream.len() {
        assert_eq!(ours(100, cut(&stream, &[at])), (said.clone(), End::Open), "cut at {at}");
    }
}

#[test]
fn a_mask_goes_on_where_the_last_read_stopped() {
    let payload: Vec<u8> = (0..=255).collect();
    let stream = Frame { first: 0x82, mask: [1, 20, 120, 250], payload: payload.clone() }.bytes();
    for size in 1..=20 {
        let pieces = stream.chunks(size).map(<[u8]>::to_vec).collect();
        assert_eq!(ours(1000, pieces), (vec![Heard::Binary(payload.clone())], End::Open), "reads of {size}");
    }
}

#[test]
fn what_follows_a_message_in_the_same_read_is_left_for_the_next_call() {
    let mut stream: Vec<u8> =
        [Frame::new(0x81, *b"one"), Frame::new(0x81, *b"two")].iter().flat_map(Frame::bytes).collect();
    let mut input = &mut stream[..];
    let mut decoder = Decoder::new(10);
    assert_eq!(decoder.next(&mut input), Ok(Some(Incoming::Text("one"))));
    assert_eq!(input.len(), 9);
    assert_eq!(decoder.next(&mut input), Ok(Some(Incoming::Text("two"))));
    assert_eq!(decoder.next(&mut input), Ok(None));
}
