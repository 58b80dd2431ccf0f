//! The names of the door and of its webhook format.

use tidings_model::listener::Format;

/// The name of the door, in an app's `doors`.
pub const NAME: &str = "pusher";
/// The name of this door's webhook format, which signs with the app's key and secret.
pub const FORM: Format = Format::named("pusher");
