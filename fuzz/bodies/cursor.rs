//! Whatever a client gives back as the place where it was: it is refused, or means one place and is written the same
//! way again.

use tidings_door_api::readers::{page_cursor, stream_cursor};
use tidings_model::channel::{Position, SessionId};

/// The first byte is the number of a stream's channels, the rest what the client sent.
pub(crate) fn run(data: &[u8]) {
    let Some((&channels, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let channels = usize::from(channels % 8);
    if let Some(again) = stream_cursor(text, channels) {
        assert_eq!(again.split(',').count(), channels);
        assert_eq!(stream_cursor(&again, channels), Some(again.clone()));
        assert_eq!(stream_cursor(&again, channels + 1), None);
    }
    for again in page_cursor(text) {
        assert_eq!(page_cursor(&again), std::slice::from_ref(&again), "a cursor is of one kind of list");
    }
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    if let Ok(session) = text.parse::<SessionId>() {
        assert_eq!(session.to_string().parse(), Ok(session));
    }
}
