//! One event of a request: read without copying, checked, and published.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_broker::Occupancy;
use tidings_bus::Publication;
use tidings_model::app::App;
use tidings_model::event::{Data, Event, MAX_CHANNELS};
use tidings_model::id::new_id;
use tidings_model::idempotency::IdempotencyKey;
use tidings_model::pattern::check_event_name;
use tidings_model::policy::canonical;

use crate::channel::{is_presence, is_valid};
use crate::door::PusherDoor;
use crate::limits;
use crate::wire::json::{Object, Text};

use super::info::{self, Info};
use super::refusal::Refusal;

/// An event as libraries send it. The PHP library sends `channel` for one channel and `channels` for more; others
/// always send a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct EventParams<'a> {
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) channels: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    pub(super) channel: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) data: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub(super) socket_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) info: Option<Text<'a>>,
}

/// An event's data: a string (as all libraries send it) or any other JSON.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Text(Text<'a>),
    Json(&'a RawValue),
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('"') {
            return serde_json::from_str(raw.get()).map(Self::Text).map_err(serde::de::Error::custom);
        }
        Ok(Self::Json(raw))
    }
}

/// A valid event, and the channel attributes that its publisher asks for.
#[derive(Debug)]
pub(super) struct Checked {
    event: Event,
    /// The channels, by the names that the publisher uses.
    names: Vec<String>,
    info: Option<Info>,
}

impl EventParams<'_> {
    /// Validates the event.
    pub(super) fn check(self, door: &PusherDoor, app: &App, body: &Bytes) -> Result<Checked, Refusal> {
        let missing = |what| Refusal::bad(format!("Missing required parameter: {what}"));
        let name = self.name.filter(|name| !name.is_empty()).ok_or_else(|| missing("name"))?.0.into_owned();
        check_event_name(&name)?;
        let names = distinct(self.channel.into_iter().chain(self.channels.into_iter().flatten()))?;
        if names.is_empty() {
            return Err(missing("channels"));
        }
        let data = self.data.ok_or_else(|| missing("data"))?.into_data(body);
        let payload = app.limits.payload;
        if data.bytes.len() > payload {
            return Err(Refusal::too_large(limits::too_large(payload)));
        }
        let except = self.socket_id.filter(|id| !id.is_empty()).map(|id| id.0.into_owned());
        if let Some(id) = except.as_deref().filter(|id| !is_socket_id(id)) {
            return Err(Refusal::bad(format!("Invalid socket id: {:?}", limits::echo(id))));
        }
        let info = self.info.as_deref().map(Info::read);
        let event = Event {
            id: new_id("evt"),
            app: app.id.clone(),
            name,
            channels: names.iter().map(|name| canonical(name).into_owned()).collect(),
            data,
            time: door.bus().clock().wall_ms(),
            op: None,
            key: None,
            except,
        };
        Ok(Checked { event, names, info })
    }
}

impl Content<'_> {
    /// The event's data. Shares the body's bytes where they had no escapes.
    fn into_data(self, body: &Bytes) -> Data {
        match self {
            Self::Text(Text(std::borrow::Cow::Borrowed(text))) => Data::text(part(body, text)),
            Self::Text(Text(std::borrow::Cow::Owned(text))) => Data::text(text),
            Self::Json(raw) => Data::json(part(body, raw.get())),
        }
    }
}

/// A text that was read from a body, as a slice of it. A small text is copied, so that it does not keep the whole body
/// in memory.
fn part(body: &Bytes, text: &str) -> Bytes {
    let start = (text.as_ptr() as usize).checked_sub(body.as_ptr() as usize);
    match start.filter(|start| start.checked_add(text.len()).is_some_and(|end| end <= body.len())) {
        Some(_) if text.len() >= body.len() / 2 => body.slice_ref(text.as_bytes()),
        _ => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// The outcome of a publish.
pub(super) struct Published {
    /// The attributes of each channel, as JSON; `None` when the publisher asks for none.
    pub(super) attributes: Option<Vec<(String, String)>>,
    /// Only sessions of this node have received it, because the other nodes could not be reached.
    pub(super) degraded: bool,
}

impl Checked {
    /// Whether its publisher asks for channel attributes.
    pub(super) fn wants_info(&self) -> bool {
        self.info.is_some()
    }

    /// Publishes the event.
    pub(super) async fn publish(
        self,
        door: &PusherDoor,
        app: &App,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Published, Refusal> {
        let Self { event, names, info } = self;
        let channels = info.map(|_| event.channels.clone()).unwrap_or_default();
        let publication = Publication { event, idempotency, not_before: None };
        let receipt = door.bus().publish(publication).await?;
        let degraded = receipt.is_degraded();
        let Some(info) = info else { return Ok(Published { attributes: None, degraded }) };
        let mut all = Vec::with_capacity(names.len());
        for (n, (name, channel)) in names.into_iter().zip(channels).enumerate() {
            let occupancy = match receipt.channels.get(n) {
                Some(outcome) => outcome.occupancy,
                // A repeated event is not sent again, so the receipt has no counts.
                None => info::occupancy(door, app, &channel).await?,
            };
            let json = attributes(&name, occupancy, info);
            all.push((name, json));
        }
        Ok(Published { attributes: Some(all), degraded })
    }
}

/// The attributes of a channel, as JSON. Only presence channels have a user count.
fn attributes(name: &str, occupancy: Occupancy, info: Info) -> String {
    let mut object = Object::new();
    if info.user_count && is_presence(name) {
        object.raw("user_count", &occupancy.users.to_string());
    }
    if info.subscription_count {
        object.raw("subscription_count", &occupancy.subscriptions.to_string());
    }
    object.end()
}

/// The channels without repeats, in their order.
fn distinct<'a>(given: impl Iterator<Item = Text<'a>>) -> Result<Vec<String>, Refusal> {
    let mut names: Vec<String> = Vec::with_capacity(1);
    for name in given {
        if !is_valid(&name) {
            return Err(Refusal::bad(format!("Invalid channel name: {:?}", limits::echo(&name))));
        }
        if names.len() == MAX_CHANNELS {
            return Err(Refusal::bad(format!("Cannot trigger to more than {MAX_CHANNELS} channels at a time")));
        }
        if !names.iter().any(|own| **own == *name) {
            names.push(name.0.into_owned());
        }
    }
    Ok(names)
}

/// Whether the id matches `^\d+\.\d+$`. An id that no session has is valid and excludes none.
pub(super) fn is_socket_id(id: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    id.split_once('.').is_some_and(|(high, low)| digits(high) && digits(low))
}
