//! The hook: an event name that is in the catalogue.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::id::AppId;
use crate::payload::Field;
use crate::schedule::Schedule;

/// The most fields a hook may declare.
pub const MAX_FIELDS: usize = 200;
/// The longest description of a hook or a listener, in bytes.
pub const MAX_DESCRIPTION_LEN: usize = 1_000;

/// How deliveries are made where the listener itself says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryDefaults {
    /// The whole time one attempt may take.
    pub timeout: Option<Duration>,
    /// When attempts are made; one entry means no retries.
    pub schedule: Option<Schedule>,
}

/// For whom a hook's declared fields hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldsFor {
    /// For everybody: live sessions, histories and the log have nothing else, either.
    #[default]
    All,
    /// For listeners' webhooks only.
    Webhooks,
}

impl FieldsFor {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::All, Self::Webhooks];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Webhooks => "webhooks",
        }
    }
}

/// An event name in the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// Whose it is.
    pub app: AppId,
    /// The event name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Which top-level fields of the data leave; `None` lets all of them, an empty list none.
    pub fields: Option<Vec<Field>>,
    /// Whom `fields` holds for.
    pub fields_for: FieldsFor,
    /// A JSON Schema for the data, shown to whoever writes a receiver. Not enforced.
    pub schema: Option<serde_json::Value>,
    /// How its deliveries are made where the listener itself says nothing.
    pub defaults: DeliveryDefaults,
    /// The catalogue version of its last change. An event pins it, so a retry sends what the first attempt sent.
    pub version: i64,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}
