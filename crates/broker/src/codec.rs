//! Events, members and orders as bytes, which nodes send to each other and a node keeps for its next start.
//!
//! A version byte, then the fields of that version. A field is its length (four bytes, big-endian; all ones: the field
//! is absent) and its bytes. Tagged fields follow, whose first byte is a tag. New parts of a format are added as tagged
//! fields: a node of any version skips tags that it does not know. `docs/adr/0012` says what else may change, and how.

use std::sync::Arc;

use bytes::Bytes;
use tidings_model::channel::{Member, SessionId, UserId};
use tidings_model::event::{Data, Event};
use tidings_model::id::AppId;

use crate::session_order::{Action, SessionOrder, Who};

const VERSION: u8 = 1;
const NONE: u32 = u32::MAX;
/// Tag: the user's id is a number. Nodes of 0.1.0 read only the first tagged field, so this one comes first.
const NUMBER: u8 = b'n';
/// Tags of orders: the excepted session, a close code, a close reason, a channel, a time, bytes.
const EXCEPT: u8 = b'x';
const CODE: u8 = b'c';
const REASON: u8 = b'r';
const CHANNEL: u8 = b'h';
const UNTIL: u8 = b'u';
const BYTES: u8 = b'b';

/// A published event, with its user and the session that does not receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishedEvent {
    pub(crate) event: Arc<Event>,
    pub(crate) user: Option<UserId>,
    pub(crate) except: Option<SessionId>,
}

/// Writes fields.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self(vec![VERSION])
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(NONE);
        self.0.extend_from_slice(&length.to_be_bytes());
        if length != NONE {
            self.0.extend_from_slice(bytes);
        }
    }

    pub(crate) fn maybe(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.field(bytes),
            None => self.0.extend_from_slice(&NONE.to_be_bytes()),
        }
    }

    /// Writes a tagged field. Only tagged fields may follow it.
    fn tagged(&mut self, tag: u8, value: &[u8]) {
        self.field(&[&[tag], value].concat());
    }

    /// Writes the tag that says which kind of id the user has.
    fn kind_of(&mut self, user: Option<&UserId>) {
        if user.is_some_and(UserId::is_number) {
            self.tagged(NUMBER, b"");
        }
    }
}

/// Reads fields. Each method returns `None` if the field is missing or malformed.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.strip_prefix(&[VERSION]).map(Self)
    }

    pub(crate) fn maybe(&mut self) -> Option<Option<&'a [u8]>> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length);
        if length == NONE {
            self.0 = rest;
            return Some(None);
        }
        let (field, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(field))
    }

    pub(crate) fn field(&mut self) -> Option<&'a [u8]> {
        self.maybe()?
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.field()?).ok()
    }

    pub(crate) fn maybe_text(&mut self) -> Option<Option<&'a str>> {
        self.maybe()?.map(|bytes| std::str::from_utf8(bytes).ok()).map_or(Some(None), |text| text.map(Some))
    }

    /// Reads all tagged fields, up to the end of the input. `known` takes each tag and its value, and ignores tags that
    /// it does not know.
    fn tagged(&mut self, mut known: impl FnMut(u8, &'a [u8])) -> Option<()> {
        while !self.0.is_empty() {
            if let Some((tag, value)) = self.field()?.split_first() {
                known(*tag, value);
            }
        }
        Some(())
    }

    /// The user's id with this text; the tagged fields say which kind of id it is.
    fn user(&mut self, text: &str) -> Option<UserId> {
        let mut is_number = false;
        self.tagged(|tag, _| is_number |= tag == NUMBER)?;
        Some(if is_number { UserId::number(text) } else { UserId::from(text) })
    }

    pub(crate) fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.field()?.try_into().ok()
    }
}

/// Encodes a published event.
pub(crate) fn event(published: &PublishedEvent) -> Vec<u8> {
    let PublishedEvent { event, user, except } = published;
    let mut out = Writer::new();
    out.field(event.id.as_bytes());
    out.field(event.name.as_bytes());
    out.field(&event.time.to_be_bytes());
    out.field(&event.data.bytes);
    for text in [&event.data.content_type, &event.op, &event.key, &event.except] {
        out.maybe(text.as_deref().map(str::as_bytes));
    }
    out.maybe(user.as_deref().map(str::as_bytes));
    out.maybe(except.map(|session| session.to_string()).as_deref().map(str::as_bytes));
    out.field(&(event.channels.len() as u64).to_be_bytes());
    for channel in &event.channels {
        out.field(channel.as_bytes());
    }
    out.kind_of(user.as_ref());
    out.0
}

/// Decodes a published event of an app.
pub(crate) fn read_event(bytes: &[u8], app: &AppId) -> Option<PublishedEvent> {
    let mut input = Reader::new(bytes)?;
    let (id, name) = (input.text()?.to_owned(), input.text()?.to_owned());
    let time = i64::from_be_bytes(input.number()?);
    let data = Bytes::copy_from_slice(input.field()?);
    let mut owned = || input.maybe_text().map(|text| text.map(str::to_owned));
    let (content_type, op, key, except_text) = (owned()?, owned()?, owned()?, owned()?);
    let user = input.maybe_text()?;
    let except = input.maybe_text()?.map(str::parse).transpose().ok()?;
    let mut channels = Vec::new();
    for _ in 0..u64::from_be_bytes(input.number()?) {
        channels.push(input.text()?.to_owned());
    }
    let user = match user {
        Some(user) => Some(input.user(user)?),
        None => None,
    };
    let data = Data { bytes: data, content_type };
    let event = Event { id, app: app.clone(), name, channels, data, time, op, key, except: except_text };
    Some(PublishedEvent { event: Arc::new(event), user, except })
}

/// Encodes a member.
pub(crate) fn member(member: &Member) -> Vec<u8> {
    let mut out = Writer::new();
    out.field(member.user.as_bytes());
    out.maybe(member.info.as_deref());
    out.kind_of(Some(&member.user));
    out.0
}

/// Decodes a member.
pub(crate) fn read_member(bytes: &[u8]) -> Option<Arc<Member>> {
    let mut input = Reader::new(bytes)?;
    let user = input.text()?;
    let info = input.maybe()?.map(Bytes::copy_from_slice);
    Some(Arc::new(Member { user: input.user(user)?, info }))
}

/// Encodes an order: its kind and its app; its addressees, except for kinds that always go to all sessions; and its
/// parameters, as tagged fields. Nodes of 0.1.0 know `disconnect`, `shut` and `renew`, and no tags.
pub(crate) fn order(order: &SessionOrder) -> Vec<u8> {
    let mut out = Writer::new();
    let kind: &[u8] = match &order.action {
        Action::Disconnect { .. } => b"disconnect",
        Action::Shut => b"shut",
        Action::Renew => b"renew",
        Action::Subscribe(_) => b"subscribe",
        Action::Unsubscribe(_) => b"unsubscribe",
        Action::Refresh(_) => b"refresh",
        Action::Send(_) => b"send",
    };
    out.field(kind);
    out.field(order.app.as_str().as_bytes());
    if !goes_to_all(kind) {
        let (whom, id) = match &order.to {
            Who::Session(session) => ("session", session.to_string()),
            Who::User(user) => ("user", user.as_ref().to_owned()),
            Who::All => ("all", String::new()),
        };
        out.field(whom.as_bytes());
        out.field(id.as_bytes());
    }
    if let Some(except) = order.except {
        out.tagged(EXCEPT, except.to_string().as_bytes());
    }
    match &order.action {
        Action::Disconnect { code, reason } => {
            if let Some(code) = code {
                out.tagged(CODE, &code.to_be_bytes());
            }
            if let Some(reason) = reason {
                out.tagged(REASON, reason.as_bytes());
            }
        }
        Action::Shut | Action::Renew => {}
        Action::Subscribe(channel) | Action::Unsubscribe(channel) => out.tagged(CHANNEL, channel.as_bytes()),
        Action::Refresh(until) => {
            if let Some(until) = until {
                out.tagged(UNTIL, &until.to_be_bytes());
            }
        }
        Action::Send(bytes) => out.tagged(BYTES, bytes),
    }
    out.0
}

fn goes_to_all(kind: &[u8]) -> bool {
    matches!(kind, b"shut" | b"renew")
}

/// Decodes an order; `None` also for a kind that only a newer version knows.
pub(crate) fn read_order(bytes: &[u8]) -> Option<SessionOrder> {
    let mut input = Reader::new(bytes)?;
    let kind = input.text()?;
    let app = AppId::from(input.text()?);
    let to = if goes_to_all(kind.as_bytes()) {
        Who::All
    } else {
        match (input.text()?, input.text()?) {
            ("session", id) => Who::Session(id.parse().ok()?),
            ("user", user) => Who::User(user.into()),
            ("all", _) => Who::All,
            _ => return None,
        }
    };
    let (mut except, mut code, mut reason, mut channel, mut until, mut sent) = (None, None, None, None, None, None);
    input.tagged(|tag, value| match tag {
        EXCEPT => except = Some(value),
        CODE => code = Some(value),
        REASON => reason = Some(value),
        CHANNEL => channel = Some(value),
        UNTIL => until = Some(value),
        BYTES => sent = Some(value),
        _ => {}
    })?;
    let text = |value: Option<&[u8]>| value.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned)).transpose().ok();
    let except = text(except)?.map(|id| id.parse()).transpose().ok()?;
    let action = match kind {
        "disconnect" => Action::Disconnect {
            code: code.map(|code| code.try_into().map(u16::from_be_bytes)).transpose().ok()?,
            reason: text(reason)?,
        },
        "shut" => Action::Shut,
        "renew" => Action::Renew,
        "subscribe" => Action::Subscribe(text(channel)??),
        "unsubscribe" => Action::Unsubscribe(text(channel)??),
        "refresh" => Action::Refresh(until.map(|until| until.try_into().map(i64::from_be_bytes)).transpose().ok()?),
        "send" => Action::Send(Bytes::copy_from_slice(sent?)),
        _ => return None,
    };
    Some(SessionOrder { app, to, except, action })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: [u8; 7] = [NUMBER, EXCEPT, CODE, REASON, CHANNEL, UNTIL, BYTES];

    fn text() -> impl Strategy<Value = String> {
        ".{0,12}"
    }

    fn users() -> impl Strategy<Value = UserId> {
        (text(), any::<bool>())
            .prop_map(|(text, is_number)| if is_number { UserId::number(text) } else { UserId::from(text) })
    }

    prop_compose! {
        fn events()(
            id in text(), name in text(), time in any::<i64>(), channels in prop::collection::vec(text(), 0..4),
            bytes in prop::collection::vec(any::<u8>(), 0..40), content_type in prop::option::of(text()),
            (op, key, except) in (prop::option::of(text()), prop::option::of(text()), prop::option::of(text())),
            user in prop::option::of(users()), session in prop::option::of(any::<[u8; 16]>()),
        ) -> PublishedEvent {
            let data = Data { bytes: bytes.into(), content_type };
            let event = Event { id, app: "1".into(), name, channels, data, time, op, key, except };
            PublishedEvent { event: Arc::new(event), user, except: session.map(SessionId::from_random) }
        }
    }

    proptest! {
        #[test]
        fn what_is_said_reads_back(published in events()) {
            let bytes = event(&published);
            let is_number = |published: &PublishedEvent| published.user.as_ref().map(UserId::is_number);
            prop_assert_eq!(read_event(&bytes, &"1".into()).as_ref().map(is_number), Some(is_number(&published)));
            prop_assert_eq!(read_event(&bytes, &"1".into()), Some(published));
            prop_assert_eq!(read_event(&bytes[..bytes.len() - 1], &"1".into()).map(|_| ()), None);
        }

        #[test]
        fn tagged_fields_of_a_newer_version_are_passed_over(
            published in events(), user in users(),
            added in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..9)), 1..4),
        ) {
            let add = |bytes: Vec<u8>| {
                let mut out = Writer(bytes);
                added.iter().filter(|(tag, _)| !KNOWN.contains(tag)).for_each(|(tag, value)| out.tagged(*tag, value));
                // One without even a tag.
                out.field(b"");
                out.0
            };
            let member_shown = Member { user: user.clone(), info: Some(Bytes::from_static(b"{}")) };
            let read = read_member(&add(member(&member_shown)));
            prop_assert_eq!(read.as_ref().map(|read| read.user.is_number()), Some(user.is_number()));
            prop_assert_eq!(read.as_deref(), Some(&member_shown));
            prop_assert_eq!(read_event(&add(event(&published)), &"1".into()), Some(published));
            let to = SessionOrder::disconnect("1".into(), Who::User(user.as_ref().into()));
            prop_assert_eq!(read_order(&add(order(&to))), Some(to));
        }

        #[test]
        fn whatever_comes_in_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (read_event(&bytes, &"1".into()), read_member(&bytes), read_order(&bytes));
        }

        #[test]
        fn a_member_reads_back(user in users(), info in prop::option::of(prop::collection::vec(any::<u8>(), 0..20))) {
            let there = Member { user, info: info.map(Bytes::from) };
            let read = read_member(&member(&there));
            prop_assert_eq!(read.as_deref(), Some(&there));
            prop_assert_eq!(read.map(|read| read.user.is_number()), Some(there.user.is_number()));
        }
    }

    // covers: G285
    #[test]
    fn nodes_of_0_1_0_read_an_id_that_is_a_number_as_its_text() {
        // What they read of a member: two fields, whatever follows; and what they write: no more.
        let number = member(&Member { user: UserId::number("10"), info: Some(Bytes::from_static(b"{}")) });
        let text = member(&Member { user: "10".into(), info: Some(Bytes::from_static(b"{}")) });
        assert!(number.starts_with(&text));
        assert!(!read_member(&text).unwrap().user.is_number());
    }

    #[test]
    fn an_order_reads_back() {
        let actions = [
            Action::Disconnect { code: None, reason: None },
            Action::Disconnect { code: Some(4_501), reason: Some("enough".to_owned()) },
            Action::Subscribe("news".to_owned()),
            Action::Unsubscribe(String::new()),
            Action::Refresh(None),
            Action::Refresh(Some(-5)),
            Action::Send(Bytes::from_static(b"\0frame")),
        ];
        for action in actions {
            for to in [Who::User("ann".into()), Who::Session(SessionId::from_random([9; 16])), Who::All] {
                for except in [None, Some(SessionId::from_random([8; 16]))] {
                    let there = SessionOrder { app: "1".into(), to: to.clone(), except, action: action.clone() };
                    assert_eq!(read_order(&order(&there)), Some(there));
                }
            }
        }
        for action in [Action::Shut, Action::Renew] {
            let there = SessionOrder::to_all("1".into(), action);
            assert_eq!(read_order(&order(&there)), Some(there));
        }
    }
}
