//! One event of a request: read without copying, checked, published, and answered.

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

/// An event as libraries send it. The PHP library sends `channel` for one and `channels` for more; others always a
/// list.
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

/// An event's data: a text (as all libraries send it) or any other JSON.
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

/// An event that may be published, and what its publisher wants to know.
#[derive(Debug)]
pub(super) struct Checked {
    event: Event,
    /// The channels as they were named.
    named: Vec<String>,
    info: Option<Info>,
}

impl EventParams<'_> {
    /// What is published, or what is wrong with it.
    pub(super) fn check(self, door: &PusherDoor, app: &App, body: &Bytes) -> Result<Checked, Refusal> {
        let missing = |what| Refusal::bad(format!("Missing required parameter: {what}"));
        let name = self.name.filter(|name| !name.is_empty()).ok_or_else(|| missing("name"))?.0.into_owned();
        check_event_name(&name)?;
        let named = distinct(self.channel.into_iter().chain(self.channels.into_iter().flatten()))?;
        if named.is_empty() {
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
            channels: named.iter().map(|name| canonical(name).into_owned()).collect(),
            data,
            time: door.bus().clock().wall_ms(),
            op: None,
            key: None,
            except,
        };
        Ok(Checked { event, named, info })
    }
}

impl Content<'_> {
    /// The bytes as they are: a part of the body, where nothing had to be unescaped.
    fn into_data(self, body: &Bytes) -> Data {
        match self {
            Self::Text(Text(std::borrow::Cow::Borrowed(text))) => Data::text(part(body, text)),
            Self::Text(Text(std::borrow::Cow::Owned(text))) => Data::text(text),
            Self::Json(raw) => Data::json(part(body, raw.get())),
        }
    }
}

/// A text that was read from a body, as a part of it. A small part is copied, so that it doesn't keep all of the rest.
fn part(body: &Bytes, text: &str) -> Bytes {
    let start = (text.as_ptr() as usize).checked_sub(body.as_ptr() as usize);
    match start.filter(|start| start.checked_add(text.len()).is_some_and(|end| end <= body.len())) {
        Some(_) if text.len() >= body.len() / 2 => body.slice_ref(text.as_bytes()),
        _ => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// What has become of an event.
pub(super) struct Published {
    /// By channel what its publisher wants to know; `None` when that is nothing.
    pub(super) told: Option<Vec<(String, String)>>,
    /// Only sessions of this node have heard it, for want of the others.
    pub(super) degraded: bool,
}

impl Checked {
    /// Whether its publisher wants to know who was there.
    pub(super) fn wants_info(&self) -> bool {
        self.info.is_some()
    }

    /// Publishes it.
    pub(super) async fn publish(
        self,
        door: &PusherDoor,
        app: &App,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Published, Refusal> {
        let Self { event, named, info } = self;
        let channels = info.map(|_| event.channels.clone()).unwrap_or_default();
        let publication = Publication { event, idempotency, not_before: None };
        let receipt = door.bus().publish(publication).await?;
        let degraded = receipt.is_degraded();
        let Some(info) = info else { return Ok(Published { told: None, degraded }) };
        let mut told = Vec::with_capacity(named.len());
        for (n, (name, channel)) in named.into_iter().zip(channels).enumerate() {
            let occupancy = match receipt.channels.get(n) {
                Some(heard) => heard.occupancy,
                // A repeat is said to nobody, so nobody was counted.
                None => info::occupancy(door, app, &channel).await?,
            };
            let json = attributes(&name, occupancy, info);
            told.push((name, json));
        }
        Ok(Published { told: Some(told), degraded })
    }
}

/// What a publisher is told of a channel. The user count is left out where there is none.
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

/// The channels, each once, in their order.
fn distinct<'a>(given: impl Iterator<Item = Text<'a>>) -> Result<Vec<String>, Refusal> {
    let mut named: Vec<String> = Vec::with_capacity(1);
    for name in given {
        if !is_valid(&name) {
            return Err(Refusal::bad(format!("Invalid channel name: {:?}", limits::echo(&name))));
        }
        if named.len() == MAX_CHANNELS {
            return Err(Refusal::bad(format!("Cannot trigger to more than {MAX_CHANNELS} channels at a time")));
        }
        if !named.iter().any(|own| **own == *name) {
            named.push(name.0.into_owned());
        }
    }
    Ok(named)
}

/// `^\d+\.\d+$`. One that no session of ours can have excludes nobody.
pub(super) fn is_socket_id(id: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    id.split_once('.').is_some_and(|(high, low)| digits(high) && digits(low))
}
