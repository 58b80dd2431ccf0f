//! What the door and its webhooks are called.

use tidings_model::listener::Format;

/// The name of the door, in an app's `doors`.
pub const NAME: &str = "pusher";
/// How this door's webhooks are written and signed: in the app's name, with its key and secret.
pub const FORM: Format = Format::named("pusher");
