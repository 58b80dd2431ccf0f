//! The door's name.

/// The name of the door, in an app's `doors`.
pub const NAME: &str = "api";
