//! Every size and count of the API in one place. Those of the model's words (names, URLs, headers …) are the model's.

use std::time::Duration;

/// The largest body of a request that carries no event, in bytes.
pub(crate) const BODY: usize = 256 * 1024;
/// What the body of an event may have besides its data: channel names with escapes, ids, the other fields.
pub(crate) const EVENT_EXTRA: usize = 192 * 1024;
/// The deepest nesting of any field's JSON. `[]` and `{}` have depth 1.
pub(crate) const JSON_DEPTH: usize = 64;
/// The largest JSON Schema of a hook, in bytes.
pub(crate) const SCHEMA: usize = 64 * 1024;
/// The longest content type of an event's data, in bytes.
pub(crate) const CONTENT_TYPE: usize = 200;
/// The longest `except`, `owner` and key of an event, in bytes.
pub(crate) const SHORT_TEXT: usize = 200;
/// The longest name of a field that a hook declares, in bytes.
pub(crate) const FIELD_NAME: usize = 200;
/// How far ahead deliveries can be put off.
pub(crate) const NOT_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// Items of a page unless told.
pub(crate) const PAGE_DEFAULT: usize = 50;
/// Items of a page at most.
pub(crate) const PAGE_MAX: usize = 250;
/// Bytes of a page's items at most; one item may be larger.
pub(crate) const PAGE_BYTES: usize = 1 << 20;
/// The longest timeout of an attempt. A lease outlasts it by far, so that no attempt is made twice.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a rotated secret goes on signing unless told.
pub(crate) const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// How long a rotated secret may go on signing.
pub(crate) const GRACE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Tests and retries by hand to one listener per minute: each makes the server call a URL, so it must not become a way
/// to flood one.
pub(crate) const TESTS_PER_MINUTE: u32 = 10;
/// How long after its end a failed delivery may be tried again as one of many.
pub(crate) const LEFT_OVER: Duration = Duration::from_secs(60);
/// Requests whose matches are compiled at one time.
pub(crate) const COMPILING: usize = 2;
/// How long a token holds unless told.
pub(crate) const TOKEN_DEFAULT: Duration = Duration::from_secs(3_600);
/// How long a token may hold.
pub(crate) const TOKEN_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Channels with history of one stream: each is in the cursor that comes back in a header.
pub(crate) const CURSOR_CHANNELS: usize = 100;

/// The largest body of an event whose data may have `payload` bytes: base64 makes four bytes of three.
pub(crate) fn event_body(payload: usize) -> usize {
    payload.saturating_add(payload / 3).saturating_add(EVENT_EXTRA)
}

/// What to do about data that has more than `payload` bytes.
pub(crate) fn data_remedy(payload: usize) -> String {
    format!("send at most {payload} bytes of data, or raise `apps.limits.payload` in the config")
}
