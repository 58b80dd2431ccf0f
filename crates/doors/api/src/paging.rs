//! Pages of lists: their limits in rows and bytes, and an opaque cursor for where the last page ended.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tidings_model::channel::{Epoch, Position};
use tidings_model::id::{DestinationNo, EventNo};

use crate::limits;
use crate::problem::{Code, Problem, shown};
use crate::query::{Query, wrong};

/// Where a page ended. Each kind of list has its own kind of cursor, so that other lists refuse it.
pub(crate) trait Cursor: Sized {
    /// The prefix of this kind's cursors.
    const KIND: &'static str;
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// A page as a response. The items are serialized already, because the page is limited by their size.
#[derive(Debug, Default, Serialize)]
pub(crate) struct List {
    pub(crate) data: Vec<Box<RawValue>>,
    pub(crate) next: Option<String>,
}

/// The part of a list that a request asks for.
#[derive(Debug)]
pub(crate) struct Paging<C> {
    /// The most items.
    pub(crate) limit: usize,
    /// The item after which the page begins.
    pub(crate) after: Option<C>,
}

impl<C: Cursor> Paging<C> {
    /// Reads `limit` and `cursor`.
    pub(crate) fn read(query: &Query) -> Result<Self, Problem> {
        let limit = match query.get("limit") {
            None => limits::PAGE_DEFAULT,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| (1..=limits::PAGE_MAX).contains(limit));
                limit.ok_or_else(|| {
                    wrong("limit", format!("{:?} cannot be a limit", shown(text)))
                        .remedy(format!("write a whole number from 1 to {}", limits::PAGE_MAX))
                })?
            }
        };
        let after = query.get("cursor").map(|text| {
            decode(text).ok_or_else(|| {
                wrong("cursor", "this is not a cursor of this list")
                    .remedy("pass `next` of the last page unchanged, or leave it out to start from the beginning")
            })
        });
        Ok(Self { limit, after: after.transpose()? })
    }

    /// A page of the rows: at most the limit, and at most [`limits::PAGE_BYTES`] when serialized, but at least one row.
    /// `more`: the list goes on after these rows.
    pub(crate) fn page<R, T: Serialize>(
        &self,
        rows: impl IntoIterator<Item = R>,
        more: bool,
        cursor: impl Fn(&R) -> C,
        mut show: impl FnMut(R) -> T,
    ) -> Result<List, Problem> {
        let (mut list, mut bytes, mut last) = (List::default(), 0, None);
        for row in rows {
            let row_cursor = cursor(&row);
            if list.data.len() == self.limit {
                list.next = last.as_ref().map(encode);
                return Ok(list);
            }
            let item = to_raw_value(&show(row)).map_err(unwritable)?;
            bytes += item.get().len();
            if bytes > limits::PAGE_BYTES && !list.data.is_empty() {
                list.next = last.as_ref().map(encode);
                return Ok(list);
            }
            list.data.push(item);
            last = Some(row_cursor);
        }
        list.next = last.filter(|_| more).as_ref().map(encode);
        Ok(list)
    }
}

/// A row that cannot be serialized: a bug, because every row fits into JSON.
fn unwritable(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "serializing a list item failed");
    Problem::new(Code::Internal, "an item of the list cannot be serialized").remedy("the server's log shows why")
}

/// Writes a cursor.
pub(crate) fn encode<C: Cursor>(cursor: &C) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{}", C::KIND, cursor.write()))
}

/// Reads a cursor of this kind.
pub(crate) fn decode<C: Cursor>(text: &str) -> Option<C> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (kind, text) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    if kind == C::KIND { C::read(text) } else { None }
}

/// The cursor of the list of hooks: the last hook's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HookName(pub(crate) String);

/// The cursor of the list of apps: the last app's id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AppName(pub(crate) String);

impl Cursor for AppName {
    const KIND: &'static str = "a";

    fn write(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
}

/// The cursor of the list of channels: the last channel's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChannelName(pub(crate) String);

/// The cursor of the list of listeners: the last listener's id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ListenerId(pub(crate) String);

impl Cursor for HookName {
    const KIND: &'static str = "h";

    fn write(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
}

impl Cursor for ChannelName {
    const KIND: &'static str = "c";

    fn write(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
}

impl Cursor for ListenerId {
    const KIND: &'static str = "l";

    fn write(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
}

/// The cursor of the list of a channel's members: the last member's user id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserId(pub(crate) String);

impl Cursor for UserId {
    const KIND: &'static str = "m";

    fn write(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
}

/// The cursor of a channel's history: the last publication's position.
impl Cursor for Position {
    const KIND: &'static str = "p";

    fn write(&self) -> String {
        format!("{}.{}", self.offset, self.epoch.as_str())
    }

    fn read(text: &str) -> Option<Self> {
        let (offset, epoch) = text.split_once('.')?;
        Some(Self { epoch: Epoch::parse(epoch)?, offset: offset.parse().ok()? })
    }
}

/// The cursor of the list of a delivery's attempts: the last attempt's number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AttemptNo(pub(crate) u32);

impl Cursor for AttemptNo {
    const KIND: &'static str = "n";

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl Cursor for EventNo {
    const KIND: &'static str = "e";

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl Cursor for (EventNo, DestinationNo) {
    const KIND: &'static str = "d";

    fn write(&self) -> String {
        format!("{}.{}", self.0.0, self.1.0)
    }

    fn read(text: &str) -> Option<Self> {
        let (event, destination) = text.split_once('.')?;
        Some((EventNo(event.parse().ok()?), DestinationNo(destination.parse().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: T01
    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let at = (EventNo(5), DestinationNo(7));
        assert_eq!(decode(&encode(&at)), Some(at));
        assert_eq!(decode(&encode(&HookName("a:b".into()))), Some(HookName("a:b".into())));
        assert_eq!(decode::<EventNo>(&encode(&at)), None);
        assert_eq!(decode(&encode(&AttemptNo(7))), Some(AttemptNo(7)));
        for bad in ["", "!", "eQ", "ZTp4", "4pyT"] {
            assert_eq!(decode::<EventNo>(bad), None, "{bad}");
        }
    }
}
