//! The names of doors, as an app's `doors` lists them.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Every door that an app may name: those of this version, and those of later ones, so that a config that names them
/// already is accepted.
pub(super) const DOORS: [&str; 5] =
    [tidings_door_api::NAME, tidings_door_pusher::NAME, "centrifugo", "websub", "accounts"];

/// One of [`DOORS`].
#[derive(Debug, Clone)]
pub(super) struct DoorName(pub(super) String);

struct DoorVisitor;

// A visitor, because its errors carry the position of the name and not only that of the array.
impl Visitor<'_> for DoorVisitor {
    type Value = DoorName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a door")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<DoorName, E> {
        if DOORS.contains(&name) { Ok(DoorName(name.to_owned())) } else { Err(E::unknown_variant(name, &DOORS)) }
    }
}

impl<'de> Deserialize<'de> for DoorName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(DoorVisitor)
    }
}
