//! Channels as the API shows them.

use serde::Serialize;
use serde_json::value::RawValue;
use tidings_broker::{ChannelState, Occupancy};
use tidings_model::channel::{Member, Position};
use tidings_model::clock::rfc3339;
use tidings_wire::{ChannelMessage, EncodedMessage};

use crate::paging::List;

/// A position in a channel's history, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct ShownPosition {
    epoch: String,
    offset: u64,
}

impl From<&Position> for ShownPosition {
    fn from(position: &Position) -> Self {
        Self { epoch: position.epoch.as_str().to_owned(), offset: position.offset }
    }
}

/// A channel as the list shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ChannelSummary {
    name: String,
    subscriptions: u64,
    users: u64,
    position: Option<ShownPosition>,
}

impl From<ChannelState> for ChannelSummary {
    fn from(state: ChannelState) -> Self {
        let Occupancy { subscriptions, users } = state.occupancy;
        let position = state.position.as_ref().map(ShownPosition::from);
        Self { name: state.name.as_ref().to_owned(), subscriptions, users, position }
    }
}

/// A channel by itself, with the first pages of its members and its history.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    name: String,
    subscriptions: u64,
    users: u64,
    position: Option<ShownPosition>,
    /// Absent where the channel has no presence.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Box<RawValue>>>,
    /// Absent where the page has all members.
    #[serde(skip_serializing_if = "Option::is_none")]
    members_next: Option<String>,
    /// Absent unless requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<Box<RawValue>>>,
    /// Absent where the page has all of the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    history_next: Option<String>,
}

impl Shown {
    /// A channel with pages of its members and its history; `None` leaves them out.
    pub(crate) fn of(channel: ChannelSummary, members: Option<List>, history: Option<List>) -> Self {
        let ChannelSummary { name, subscriptions, users, position } = channel;
        let parts = |list: Option<List>| list.map_or((None, None), |list| (Some(list.data), list.next));
        let ((members, members_next), (history, history_next)) = (parts(members), parts(history));
        Self { name, subscriptions, users, position, members, members_next, history, history_next }
    }
}

/// A member as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct ShownMember {
    user: String,
    info: Option<Box<RawValue>>,
}

impl From<&Member> for ShownMember {
    fn from(member: &Member) -> Self {
        let info = member.info.as_ref().and_then(|info| serde_json::from_slice::<&RawValue>(info).ok());
        Self { user: member.user.as_ref().to_owned(), info: info.map(ToOwned::to_owned) }
    }
}

/// A publication of the history as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct ShownPublication {
    offset: u64,
    id: String,
    name: String,
    data: Option<Box<RawValue>>,
    time: String,
}

/// A publication of the history with its position; `None` for other messages.
pub(crate) fn shown_publication(message: &EncodedMessage) -> Option<(Position, ShownPublication)> {
    let ChannelMessage::Publication(publication) = message.content() else { return None };
    let (event, position) = (&publication.event, publication.position.as_ref()?);
    let shown = ShownPublication {
        offset: position.offset,
        id: event.id.clone(),
        name: event.name.clone(),
        data: RawValue::from_string(event.data.as_json_value().into_owned()).ok(),
        time: rfc3339(event.time),
    };
    Some((position.clone(), shown))
}
