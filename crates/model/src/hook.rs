//! The hook: an event name that is in the catalogue.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::clock::Millis;
use crate::id::AppId;
use crate::payload::Field;
use crate::schedule::Schedule;

/// The most fields a hook may declare.
pub const MAX_FIELDS: usize = 200;
/// The longest description of a hook or a listener, in bytes.
pub const MAX_DESCRIPTION_LEN: usize = 1_000;

/// Delivery settings for listeners that have none of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryDefaults {
    /// The timeout of a whole attempt.
    pub timeout: Option<Duration>,
    /// When attempts are made; one entry means no retries.
    pub schedule: Option<Schedule>,
}

/// Where a hook's declared fields apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldsFor {
    /// Everywhere: webhooks, live sessions, histories and the log get only the declared fields.
    #[default]
    All,
    /// In listeners' webhooks only.
    Webhooks,
}

impl FieldsFor {
    /// Every variant.
    pub const ALL: [Self; 2] = [Self::All, Self::Webhooks];

    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Webhooks => "webhooks",
        }
    }
}

/// A JSON Schema, kept as text, so that it takes no more memory than that.
#[derive(Debug, Clone)]
pub struct Schema(Arc<RawValue>);

impl Schema {
    /// Its text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl From<Box<RawValue>> for Schema {
    fn from(text: Box<RawValue>) -> Self {
        Self(text.into())
    }
}

impl PartialEq for Schema {
    /// Whether both are the same text.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// An event name in the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// The app that it belongs to.
    pub app: AppId,
    /// The event name.
    pub name: String,
    /// A description for people.
    pub description: String,
    /// The declared top-level fields: only these are sent. `None` sends all fields, an empty list none.
    pub fields: Option<Vec<Field>>,
    /// Where `fields` applies.
    pub fields_for: FieldsFor,
    /// A JSON Schema for the data, as documentation for authors of receivers. Not enforced.
    pub schema: Option<Schema>,
    /// Delivery settings for listeners that have none of their own.
    pub defaults: DeliveryDefaults,
    /// The catalogue version of its last change. An event pins it, so a retry sends what the first attempt sent.
    pub version: i64,
    /// When it was created (wall time).
    pub created_at: Millis,
    /// When it was last changed (wall time).
    pub updated_at: Millis,
}
