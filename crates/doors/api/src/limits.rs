//! The API's limits. Those of names, URLs, headers and the like are in the model.

use std::time::Duration;

/// The largest body of a request that carries no event, in bytes.
pub(crate) const BODY: usize = 256 * 1024;
/// Bytes of an event's body besides its data: channel names with escapes, ids, the other fields.
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
/// How far ahead `not_before` may be.
pub(crate) const NOT_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// Items of a page by default.
pub(crate) const PAGE_DEFAULT: usize = 50;
/// Most items of a page.
pub(crate) const PAGE_MAX: usize = 250;
/// Most bytes of a page's items; a single item may be larger.
pub(crate) const PAGE_BYTES: usize = 1 << 20;
/// The longest timeout of an attempt. A lease outlasts it by far, so that no attempt is made twice.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// How long the previous secret still signs after a rotation, by default.
pub(crate) const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// How long the previous secret may still sign after a rotation.
pub(crate) const GRACE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Tests and manual retries to one listener per minute. Each makes the server call a URL, so without a limit they could
/// be used to flood one.
pub(crate) const TESTS_PER_MINUTE: u32 = 10;
/// How long ago a delivery must have become undelivered for its retry to count as a publish instead of a test.
pub(crate) const FAILED_LONG_AGO: Duration = Duration::from_secs(60);
/// Requests whose matches are compiled at the same time.
pub(crate) const COMPILING: usize = 2;
/// How long a token is valid by default.
pub(crate) const TOKEN_DEFAULT: Duration = Duration::from_secs(3_600);
/// How long a token may be valid.
pub(crate) const TOKEN_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Channels with history in one stream. Each is part of the cursor, which clients send back in a header.
pub(crate) const CURSOR_CHANNELS: usize = 100;

/// The largest body of an event whose data may have `payload` bytes: base64 encodes three bytes as four.
pub(crate) fn event_body(payload: usize) -> usize {
    payload.saturating_add(payload / 3).saturating_add(EVENT_EXTRA)
}

/// The remedy for data of more than `payload` bytes.
pub(crate) fn data_remedy(payload: usize) -> String {
    format!("send at most {payload} bytes of data, or raise `apps.limits.payload` in the config")
}
