//! Frames as clients send them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_model::event::Data;

use super::json::{self, Text};

/// The envelope of every frame. Unknown members are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame<'a> {
    #[serde(borrow)]
    pub(crate) event: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) channel: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) data: Option<&'a RawValue>,
}

/// `data` of `pusher:subscribe`.
#[derive(Debug, Deserialize)]
pub(crate) struct Subscribe<'a> {
    #[serde(borrow)]
    pub(crate) channel: Text<'a>,
    #[serde(borrow, default)]
    auth: Option<Text<'a>>,
    #[serde(borrow, default)]
    channel_data: Option<Text<'a>>,
    /// Our extension: the position of the last event that the client received, or an empty string. If present, the
    /// client is sent positions.
    #[serde(borrow, default)]
    since: Option<Text<'a>>,
}

/// `data` of `pusher:unsubscribe`.
#[derive(Debug, Deserialize)]
pub(crate) struct Unsubscribe<'a> {
    #[serde(borrow)]
    pub(crate) channel: Text<'a>,
}

/// `data` of `pusher:signin`.
#[derive(Debug, Deserialize)]
pub(crate) struct Signin<'a> {
    #[serde(borrow)]
    pub(crate) auth: Text<'a>,
    #[serde(borrow)]
    pub(crate) user_data: Text<'a>,
}

/// A user as the app's own server describes it, in `channel_data` and in `user_data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User<'a> {
    pub(crate) id: Cow<'a, str>,
    /// The id is a JSON number; `id` is its text.
    pub(crate) is_number: bool,
    /// One JSON value, which may be `null`.
    pub(crate) info: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Reads a text message; `None` when it is no JSON object with an `event`.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        json::object(text).ok()
    }

    /// `data` as text: a string's content, or the JSON of any other value; empty if there is none.
    pub(crate) fn text(&self) -> Option<Cow<'a, str>> {
        let raw = self.data.map_or("", RawValue::get);
        if raw.starts_with('"') {
            serde_json::from_str::<Text<'a>>(raw).ok().map(|text| text.0)
        } else {
            Some(raw.into())
        }
    }

    /// `data` as the data of an event: a string byte for byte, any other value as its JSON, which receivers get as a
    /// string.
    pub(crate) fn event_data(&self) -> Option<Data> {
        let is_string = self.data.is_some_and(|raw| raw.get().starts_with('"'));
        let text = self.text()?;
        Some(match (is_string, text.is_empty()) {
            (true, _) => Data::text(text.into_owned()),
            (false, true) => Data::json("null"),
            (false, false) => Data::json(Bytes::from(text.into_owned())),
        })
    }
}

impl Subscribe<'_> {
    /// The auth string. pusher-js sends an empty one for public channels.
    pub(crate) fn auth(&self) -> Option<&str> {
        self.auth.as_deref().filter(|auth| !auth.is_empty())
    }

    /// The position of the last event that the client received; empty if it only wants positions from now on.
    pub(crate) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// The data that was signed together with the channel's name. Empty counts as absent: apps' auth endpoints do not
    /// sign it then.
    pub(crate) fn channel_data(&self) -> Option<&str> {
        self.channel_data.as_deref().filter(|data| !data.is_empty())
    }
}

impl<'a> User<'a> {
    /// Reads `channel_data`; `None` without an id that is a string or a number.
    pub(crate) fn of_channel_data(text: &'a str) -> Option<Self> {
        #[derive(Deserialize)]
        struct ChannelData<'a> {
            #[serde(borrow)]
            user_id: &'a RawValue,
            #[serde(borrow, default, deserialize_with = "json::given")]
            user_info: Option<&'a RawValue>,
        }
        let data: ChannelData<'a> = json::object(text).ok()?;
        Self::read(data.user_id, data.user_info)
    }

    /// Reads `user_data`; `None` without an id that is a string or a number.
    pub(crate) fn of_user_data(text: &'a str) -> Option<Self> {
        #[derive(Deserialize)]
        struct UserData<'a> {
            #[serde(borrow)]
            id: &'a RawValue,
            #[serde(borrow, default, deserialize_with = "json::given")]
            user_info: Option<&'a RawValue>,
        }
        let data: UserData<'a> = json::object(text).ok()?;
        Self::read(data.id, data.user_info)
    }

    fn read(given: &'a RawValue, info: Option<&'a RawValue>) -> Option<Self> {
        let is_number = !given.get().starts_with('"');
        Some(Self { id: id(given)?, is_number, info: info.map(RawValue::get) })
    }
}

/// The users that the watchlist of `user_data` lists; empty without a watchlist; `None` if it is not a list of ids.
pub(crate) fn watchlist(user_data: &str) -> Option<Vec<Cow<'_, str>>> {
    #[derive(Deserialize)]
    struct Watching<'a> {
        #[serde(borrow, default)]
        watchlist: Option<Vec<&'a RawValue>>,
    }
    let Watching { watchlist } = json::object(user_data).ok()?;
    watchlist.unwrap_or_default().into_iter().map(id).collect()
}

/// A user id. Apps use numbers as well as strings; the text of a number is the id.
fn id(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str::<Text<'_>>(text).ok().map(|text| text.0),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_id_may_be_a_number() {
        let of = |json| {
            let user = User::of_channel_data(json)?;
            assert_eq!(user.is_number, json.contains("10"));
            Some((user.id.into_owned(), user.info.map(str::to_owned)))
        };
        let info = |json: &str| Some(json.to_owned());
        assert_eq!(of(r#"{"user_id":10,"user_info":{"a": 1}}"#), Some(("10".to_owned(), info(r#"{"a": 1}"#))));
        assert_eq!(of(r#"{"user_id":"a\"b","user_info":null}"#), Some(("a\"b".to_owned(), info("null"))));
        assert_eq!(of(r#"{"x":[],"user_id":"u"}"#), Some(("u".to_owned(), None)));
        for bad in
            ["", "[]", "{}", "1", r#"{"user_id":null}"#, r#"{"user_id":true}"#, r#"{"user_id":{}}"#, "{\"user_id\":"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn data_is_stringified_once() {
        let data = |json: &str| Frame::read(json).and_then(|frame| frame.event_data());
        assert_eq!(data(r#"{"event":"e","data":{"a": 1}}"#), Some(Data::json(r#"{"a": 1}"#)));
        assert_eq!(data(r#"{"event":"e","data":"{\"a\": 1}"}"#), Some(Data::text(r#"{"a": 1}"#)));
        assert_eq!(data(r#"{"event":"e","data":"hi"}"#), Some(Data::text("hi")));
        assert_eq!(data(r#"{"event":"e","data":""}"#), Some(Data::text("")));
        assert_eq!(data(r#"{"event":"e","data":null}"#), Some(Data::json("null")));
        assert_eq!(data(r#"{"event":"e"}"#), Some(Data::json("null")));
        assert_eq!(data(r#"{"event":"e","data":"\ud800"}"#), None);
    }
}
