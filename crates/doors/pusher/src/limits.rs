//! What is allowed at most, and what is said about more.

/// Bytes of an event's name.
pub(crate) const EVENT_NAME: usize = tidings_model::pattern::MAX_NAME_LEN;
/// Bytes of a request beside its events' data.
const REQUEST_EXTRA: usize = 64 * 1024;
/// JSON makes up to six bytes of one.
const ESCAPED: usize = 6;
/// Bytes of the last events that whoever joins is given: what a socket takes at once, so that nobody is taken for slow.
pub(crate) const REPLAY: usize = 256 * 1024;
/// Channels that a client may ask to be let into at one time.
pub(crate) const PROOFS: usize = 100;
/// Bytes of such a request: names, and a token.
pub(crate) const PROOFS_BODY: usize = 64 * 1024;
/// Channels that are asked of the broker at one time.
pub(crate) const CHANNELS_PAGE: usize = 1_000;

/// The largest body with so many events whose data may have `payload` bytes.
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

/// The beginning of what a caller sent, for errors that quote it.
pub(crate) fn echo(text: &str) -> &str {
    tidings_model::excerpt(text)
}
