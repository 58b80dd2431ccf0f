//! A client of tungstenite reads what we write, and our decoder reads what that client writes.

use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use proptest::prelude::*;
use tidings_wire::ws;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Message, Utf8Bytes};

use super::kit::{End, Heard, cut, ours};

/// The bytes to be read, and the bytes written.
struct Ends(Cursor<Vec<u8>>, Vec<u8>);

impl Read for Ends {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Ends {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn client(incoming: Vec<u8>) -> WebSocket<Ends> {
    WebSocket::from_raw_socket(Ends(Cursor::new(incoming), Vec::new()), Role::Client, None)
}

fn repeated(text: &str, length: usize) -> String {
    text.chars().cycle().take(if text.is_empty() { 0 } else { length }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn clients_read_what_we_write(
        text in "\\PC{0,9}",
        length in prop_oneof![0..300usize, 65_000..66_000usize],
        control in prop::collection::vec(any::<u8>(), 0..126),
        code in prop_oneof![1000..=1003u16, 1007..=1013u16, 3000..=4999u16],
        reason in "\\PC{0,70}",
    ) {
        let text = repeated(&text, length);
        let written = [
            ws::text(text.as_bytes()),
            ws::ping(&control),
            ws::text_with(length / 2, |bytes| bytes.extend_from_slice(text.as_bytes())),
            ws::pong(&control),
            ws::binary(text.as_bytes()),
            ws::close(code, &reason),
        ];
        let mut client = client(written.concat());
        let control = Bytes::from(control);
        prop_assert_eq!(client.read().unwrap(), Message::text(text.as_str()));
        prop_assert_eq!(client.read().unwrap(), Message::Ping(control.clone()));
        prop_assert_eq!(client.read().unwrap(), Message::text(text.as_str()));
        prop_assert_eq!(client.read().unwrap(), Message::Pong(control));
        prop_assert_eq!(client.read().unwrap(), Message::binary(text.into_bytes()));
        let Message::Close(Some(close)) = client.read().unwrap() else { panic!("no close frame") };
        prop_assert_eq!(u16::from(close.code), code);
        prop_assert!(reason.starts_with(close.reason.as_str()));
        prop_assert!(close.reason.as_str() == reason || close.reason.len() > 119, "cut too short: {}", close.reason);
    }

    #[test]
    fn we_hear_what_clients_write(
        text in "\\PC{1,9}",
        length in prop_oneof![0..300usize, 65_000..66_000usize],
        control in prop::collection::vec(any::<u8>(), 0..126),
        code in 3000..=4999u16,
        reads in prop::collection::vec(0..500usize, 0..20),
    ) {
        let text = repeated(&text, length);
        let mut client = client(Vec::new());
        client.send(Message::text(text.as_str())).unwrap();
        client.send(Message::Ping(control.clone().into())).unwrap();
        client.send(Message::binary(text.clone().into_bytes())).unwrap();
        client.send(Message::Pong(control.clone().into())).unwrap();
        client.flush().unwrap();
        client.close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::from_static("bye") })).unwrap();
        let said = vec![
            Heard::Text(text.clone()),
            Heard::Ping(control.clone()),
            Heard::Binary(text.into_bytes()),
            Heard::Pong(control),
            Heard::Close(Some((code, "bye".to_owned()))),
        ];
        prop_assert_eq!(ours(300_000, cut(&client.get_ref().1, &reads)), (said, End::Closed));
    }
}
