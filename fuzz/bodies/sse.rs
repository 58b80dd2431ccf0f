//! Whatever a stream brings, and however it is cut into reads: the same events are read, and written again they are the
//! same.

use tidings_wire::sse::{self, Event, Parser};

/// The first byte is the length of reads; the rest is the stream.
pub(crate) fn run(data: &[u8]) {
    let Some((&read, stream)) = data.split_first() else { return };
    let whole = events(stream, stream.len());
    assert_eq!(whole, events(stream, usize::from(read)));
    assert_eq!(whole, events(stream, 1));
    let mut again = Vec::new();
    for event in &whole {
        again.extend_from_slice(sse::COMMENT);
        sse::id(&mut again, &event.id);
        sse::event(&mut again, &event.name);
        sse::data(&mut again, &event.data);
    }
    // A name that was read may have NULs; they are not written.
    let written = |event: Event| Event { name: event.name.replace('\0', ""), ..event };
    let named =
        |event: Event| if event.name.is_empty() { Event { name: "message".to_owned(), ..event } } else { event };
    let expected: Vec<_> = whole.into_iter().map(written).map(named).collect();
    assert_eq!(events(&again, again.len()), expected);
}

/// What is read; no input is long enough for an event to be too long.
fn events(stream: &[u8], read: usize) -> Vec<Event> {
    let mut parser = Parser::default();
    stream.chunks(read.max(1)).flat_map(|piece| parser.feed(piece).unwrap_or_default()).collect()
}
