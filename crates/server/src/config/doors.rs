//! The names of doors, as an app's `doors` lists them.

use serde::de::{self, Deserialize, Deserializer};

/// Every door that an app may name: those of this program, and those that later versions will have, so that a config
/// which names them already can be served.
pub(super) const DOORS: [&str; 5] =
    [tidings_door_api::NAME, tidings_door_pusher::NAME, "centrifugo", "websub", "accounts"];

/// One of [`DOORS`].
#[derive(Debug, Clone)]
pub(super) struct DoorName(pub(super) String);

impl<'de> Deserialize<'de> for DoorName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if DOORS.contains(&name.as_str()) { Ok(Self(name)) } else { Err(de::Error::unknown_variant(&name, &DOORS)) }
    }
}
