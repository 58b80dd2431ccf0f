//! Channels as the API shows them.

use serde::Serialize;
use serde_json::value::RawValue;
use tidings_broker::{ChannelState, History, Occupancy};
use tidings_model::channel::{Member, Position};
use tidings_model::clock::rfc3339;
use tidings_wire::{Prepared, Said};

/// A place in a history.
#[derive(Debug, Serialize)]
pub(crate) struct Place {
    epoch: String,
    offset: u64,
}

impl From<&Position> for Place {
    fn from(position: &Position) -> Self {
        Self { epoch: position.epoch.as_str().to_owned(), offset: position.offset }
    }
}

/// A channel of the list.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    name: String,
    subscriptions: u64,
    users: u64,
    position: Option<Place>,
}

impl From<ChannelState> for Listed {
    fn from(state: ChannelState) -> Self {
        let Occupancy { subscriptions, users } = state.occupancy;
        let position = state.position.as_ref().map(Place::from);
        Self { name: state.name.as_ref().to_owned(), subscriptions, users, position }
    }
}

/// A channel by itself.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) channel: Listed,
    /// Absent where presence isn't kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<Present>>,
    /// Absent unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<Vec<Past>>,
}

/// Somebody who is there.
#[derive(Debug, Serialize)]
pub(crate) struct Present {
    user: String,
    info: Option<Box<RawValue>>,
}

impl From<&Member> for Present {
    fn from(member: &Member) -> Self {
        let info = member.info.as_ref().and_then(|info| serde_json::from_slice::<&RawValue>(info).ok());
        Self { user: member.user.as_ref().to_owned(), info: info.map(ToOwned::to_owned) }
    }
}

/// Something that was said.
#[derive(Debug, Serialize)]
pub(crate) struct Past {
    offset: Option<u64>,
    id: String,
    name: String,
    data: Option<Box<RawValue>>,
    time: String,
}

/// What a history holds, as it was asked for.
pub(crate) fn past(history: &History) -> Vec<Past> {
    history.publications.iter().filter_map(|prepared| said(prepared)).collect()
}

fn said(prepared: &Prepared) -> Option<Past> {
    let Said::Publication(publication) = prepared.said() else { return None };
    let event = &publication.event;
    Some(Past {
        offset: publication.position.as_ref().map(|position| position.offset),
        id: event.id.clone(),
        name: event.name.clone(),
        data: RawValue::from_string(event.data.as_json_value().into_owned()).ok(),
        time: rfc3339(event.time),
    })
}
