//! Channels as the API shows them.

use serde::Serialize;
use serde_json::value::RawValue;
use tidings_broker::{ChannelState, Occupancy};
use tidings_model::channel::{Member, Position};
use tidings_model::clock::rfc3339;
use tidings_wire::{ChannelMessage, EncodedMessage};

use crate::paging::List;

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

/// A channel by itself, with the first page of what it holds.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    name: String,
    subscriptions: u64,
    users: u64,
    position: Option<Place>,
    /// Absent where presence isn't kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Box<RawValue>>>,
    /// Absent where that are all.
    #[serde(skip_serializing_if = "Option::is_none")]
    members_next: Option<String>,
    /// Absent unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<Box<RawValue>>>,
    /// Absent where nothing older is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    history_next: Option<String>,
}

impl Shown {
    /// A channel with pages of its members and its history, where they are to be shown.
    pub(crate) fn of(channel: Listed, members: Option<List>, history: Option<List>) -> Self {
        let Listed { name, subscriptions, users, position } = channel;
        let parts = |list: Option<List>| list.map_or((None, None), |list| (Some(list.data), list.next));
        let ((members, members_next), (history, history_next)) = (parts(members), parts(history));
        Self { name, subscriptions, users, position, members, members_next, history, history_next }
    }
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
    offset: u64,
    id: String,
    name: String,
    data: Option<Box<RawValue>>,
    time: String,
}

/// A publication of a history, and where it is.
pub(crate) fn past(prepared: &EncodedMessage) -> Option<(Position, Past)> {
    let ChannelMessage::Publication(publication) = prepared.content() else { return None };
    let (event, position) = (&publication.event, publication.position.as_ref()?);
    let past = Past {
        offset: position.offset,
        id: event.id.clone(),
        name: event.name.clone(),
        data: RawValue::from_string(event.data.as_json_value().into_owned()).ok(),
        time: rfc3339(event.time),
    };
    Some((position.clone(), past))
}
