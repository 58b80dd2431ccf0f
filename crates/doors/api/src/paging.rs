//! Pages of lists: how many, and where the page before ended, as a cursor that only we read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tidings_model::id::{DestinationNo, EventNo};

use crate::limits;
use crate::problem::{Problem, shown};
use crate::query::{Query, wrong};

/// Where a page ended. Each kind of list has its own, so that a cursor of one is refused by the others.
pub(crate) trait Cursor: Sized {
    /// Begins the cursors of this kind.
    const KIND: &'static str;
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// A list's answer.
#[derive(Debug, Serialize)]
pub(crate) struct List<T> {
    pub(crate) data: Vec<T>,
    pub(crate) next: Option<String>,
}

/// The part of a list that is asked for.
#[derive(Debug)]
pub(crate) struct Paging<C> {
    /// At most so many.
    pub(crate) limit: usize,
    /// Those behind this one.
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
                    .remedy("pass on `next` of the page before unchanged, or leave it out to begin anew")
            })
        });
        Ok(Self { limit, after: after.transpose()? })
    }

    /// A page of what was read with one more than the limit; that one says whether there is a next page.
    pub(crate) fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        place: impl FnOnce(&R) -> C,
        show: impl FnMut(R) -> T,
    ) -> List<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| more).map(|last| encode(&place(last)));
        List { data: rows.into_iter().map(show).collect(), next }
    }
}

/// Writes a cursor.
pub(crate) fn encode<C: Cursor>(cursor: &C) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{}", C::KIND, cursor.write()))
}

/// Reads a cursor of this kind.
pub(crate) fn decode<C: Cursor>(text: &str) -> Option<C> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (kind, place) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    if kind == C::KIND { C::read(place) } else { None }
}

/// In the list of hooks: the last one's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HookName(pub(crate) String);

/// In the list of apps: the last one's id.
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

/// In the list of channels: the last one's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChannelName(pub(crate) String);

/// In the list of listeners: the last one's id.
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
        for bad in ["", "!", "eQ", "ZTp4", "4pyT"] {
            assert_eq!(decode::<EventNo>(bad), None, "{bad}");
        }
    }
}
