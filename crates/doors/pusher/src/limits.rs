//! Limits, and the texts for what exceeds them.

/// Bytes of an event's name.
pub(crate) const EVENT_NAME: usize = tidings_model::pattern::MAX_NAME_LEN;
/// Bytes of a request besides its events' data.
const REQUEST_EXTRA: usize = 64 * 1024;
/// JSON escapes one byte as up to six.
const ESCAPED: usize = 6;
/// Bytes of the last events that are replayed to a new session: no more than a socket takes at once, so that the replay
/// does not make a session look slow.
pub(crate) const REPLAY: usize = 256 * 1024;
/// Channels in one request for auth strings.
pub(crate) const PROOFS: usize = 100;
/// Bytes of such a request: names, and a token.
pub(crate) const PROOFS_BODY: usize = 64 * 1024;
/// Channels that are read from the broker at one time.
pub(crate) const CHANNELS_PAGE: usize = 1_000;

/// The largest body of a request with this many events, each with at most `payload` bytes of data.
pub(crate) fn body(payload: usize, events: usize) -> usize {
    payload.saturating_mul(ESCAPED).saturating_mul(events).saturating_add(REQUEST_EXTRA)
}

/// Pusher's text about data that is too large.
pub(crate) fn too_large(payload: usize) -> String {
    format!(
        "The data content of this event exceeds the allowed maximum ({payload} bytes). \
         See https://pusher.com/docs/channels/server_api/http-api#publishing-events for more info"
    )
}

/// The beginning of a caller's text, for errors that quote it.
pub(crate) fn echo(text: &str) -> &str {
    tidings_model::excerpt(text)
}
