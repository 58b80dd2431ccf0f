//! Server-Sent Events (WHATWG HTML, "Server-sent events"): writing a stream, and reading one.

use std::borrow::Cow;

/// The most bytes of one event that a [`Parser`] keeps.
const MAX_EVENT: usize = 8 << 20;

/// Appends an `id:` line, without characters that an id must not have (line ends, NUL).
pub fn id(out: &mut Vec<u8>, id: &str) {
    line(out, "id", &one_line(id));
}

/// Appends an `event:` line. Without one, the event's type is `message`.
pub fn event(out: &mut Vec<u8>, name: &str) {
    line(out, "event", &one_line(name));
}

/// Appends a `data:` line for each line of the text, and the empty line that ends the event.
pub fn data(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
        line(out, "data", &rest[..end]);
        let Some(behind) = rest.get(end..).filter(|behind| !behind.is_empty()) else { break };
        rest = behind.strip_prefix("\r\n").unwrap_or(&behind[1..]);
    }
    out.push(b'\n');
}

/// Appends a `retry:` line: how many milliseconds a reader waits before it reconnects.
pub fn retry(out: &mut Vec<u8>, millis: u32) {
    line(out, "retry", &millis.to_string());
}

/// A comment, which readers skip: the heartbeat. No empty line follows it, because some readers take any empty line for
/// the end of an event, and that event would have no data.
pub const COMMENT: &[u8] = b":\n";

fn line(out: &mut Vec<u8>, field: &str, value: &str) {
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

fn one_line(text: &str) -> Cow<'_, str> {
    match text.contains(['\r', '\n', '\0']) {
        true => Cow::Owned(text.replace(['\r', '\n', '\0'], "")),
        false => Cow::Borrowed(text),
    }
}

/// An event that a [`Parser`] has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The last id that the stream has set; empty before the first.
    pub id: String,
    /// The event's type; `message` by default.
    pub name: String,
    /// The event's data: its lines joined by `\n`.
    pub data: String,
}

/// An event exceeds the limit, so the stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {MAX_EVENT} bytes")]
pub struct TooLong;

/// Reads a stream, piece by piece.
#[derive(Debug, Default)]
pub struct Parser {
    /// The part of an incomplete line that has arrived.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows is part of the same line end.
    after_cr: bool,
    begun: bool,
    id: String,
    /// The id at the last empty line, which ends an event or an id that stands alone.
    resume_id: String,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// Parses a piece and returns the events that it completes.
    ///
    /// # Errors
    /// [`TooLong`]; the parser cannot be used after that.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        let mut rest = piece;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let len = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let (part, behind) = rest.split_at(len.unwrap_or(rest.len()));
            if self.line.len() + part.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT {
                return Err(TooLong);
            }
            let Some((end, behind)) = behind.split_first() else {
                self.line.extend_from_slice(part);
                break;
            };
            self.after_cr = *end == b'\r';
            rest = behind;
            if self.line.is_empty() {
                events.extend(self.take_line(part));
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                events.extend(self.take_line(&line));
            }
        }
        Ok(events)
    }

    /// The id of the last complete event, or a later id that stood alone: where to resume after a reconnect.
    pub fn last_id(&self) -> &str {
        &self.resume_id
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Event> {
        let text = String::from_utf8_lossy(line);
        let line = if self.begun { &*text } else { text.strip_prefix('\u{feff}').unwrap_or(&text) };
        self.begun = true;
        if line.is_empty() {
            self.id.clone_into(&mut self.resume_id);
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return Some(Event { id: self.id.clone(), name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            // Comments, `retry`, and unknown fields.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event's id, name and data.
    type Seen = (String, String, String);

    fn read(stream: &[u8], split: usize) -> Vec<Seen> {
        let mut parser = Parser::default();
        let (one, two) = stream.split_at(split.min(stream.len()));
        let mut events = parser.feed(one).unwrap();
        events.extend(parser.feed(two).unwrap());
        events.into_iter().map(|event| (event.id, event.name, event.data)).collect()
    }

    fn seen(id: &str, name: &str, data: &str) -> Seen {
        (id.to_owned(), name.to_owned(), data.to_owned())
    }

    #[test]
    fn streams_are_read_as_the_specification_says() {
        let table: [(&str, Vec<Seen>); 8] = [
            ("data: YHOO\ndata: +2\ndata: 10\n\n", vec![seen("", "message", "YHOO\n+2\n10")]),
            (
                ": test\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n",
                vec![seen("1", "message", "first"), seen("", "message", "second"), seen("", "message", " third")],
            ),
            ("data\n\ndata\ndata\n\ndata:", vec![seen("", "message", ""), seen("", "message", "\n")]),
            (
                "event: add\r\ndata: 1\r\n\r\nevent: none\r\n\r\ndata: 2\r\r",
                vec![seen("", "add", "1"), seen("", "message", "2")],
            ),
            ("\u{feff}data: bom\n\n", vec![seen("", "message", "bom")]),
            ("id: 7\n\ndata: x\n\n", vec![seen("7", "message", "x")]),
            ("id: a\0b\ndata: x\n\n", vec![seen("", "message", "x")]),
            ("retry: 10\nunknown: 1\n\n", vec![]),
        ];
        for (stream, expected) in table {
            for split in 0..=stream.len() {
                assert_eq!(read(stream.as_bytes(), split), expected, "{stream:?} split at {split}");
            }
        }
    }

    #[test]
    fn an_event_that_never_ends_is_an_error_and_no_memory() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let fed: Vec<_> = (0..9).map(|_| parser.feed(&piece)).collect();
        assert_eq!(fed[0], Ok(Vec::new()));
        assert_eq!(fed[8], Err(TooLong));
        assert_eq!(parser.line.len(), MAX_EVENT, "what is too long is not kept");
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(1000));
        let fed = (0..MAX_EVENT / 1000).find_map(|_| parser.feed(line.as_bytes()).err());
        assert_eq!(fed, Some(TooLong));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ids in "\\PC{0,9}", name in "[a-z.]{1,9}", text in "[\\PC\r\n]{0,40}", split in 0..200usize,
        ) {
            let mut stream = Vec::new();
            retry(&mut stream, 1_000);
            stream.extend_from_slice(COMMENT);
            id(&mut stream, &ids);
            event(&mut stream, &name);
            data(&mut stream, &text);
            let lines = text.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(read(&stream, split), vec![(ids, name, lines)]);
        }

        #[test]
        fn nothing_that_is_fed_breaks_it(stream in prop::collection::vec(any::<u8>(), 0..300), split in 0..300usize) {
            let _ = read(&stream, split);
        }
    }

    #[test]
    fn a_break_goes_back_to_the_last_whole_event() {
        let mut parser = Parser::default();
        let mut resume_id = |piece: &[u8]| {
            parser.feed(piece).unwrap();
            parser.last_id().to_owned()
        };
        assert_eq!(resume_id(b"data: a\n\n"), "");
        assert_eq!(resume_id(b"id: 1\n"), "");
        assert_eq!(resume_id(b"data: a\n"), "");
        assert_eq!(resume_id(b"\n"), "1");
        assert_eq!(resume_id(b"id: 2\n\n"), "2", "an id by itself");
        assert_eq!(resume_id(b"data: b\n\nid: 3\ndata: c"), "2");
    }
}
