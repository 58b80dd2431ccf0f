//! What a client of the stream receives, and what its session requests.

use tidings_live::{CloseWith, ProtocolTester, Refused};
use tidings_model::channel::{Epoch, SessionId};
use tidings_model::event::{Data, Event};
use tidings_wire::Publication;
use tidings_wire::sse::Parser;

use super::*;

/// A session, and its client's parser.
struct Scene {
    tester: ProtocolTester,
    session: StreamSession,
    parser: Parser,
}

/// What a client has received: (event, last id, data).
type Received = (String, String, String);

impl Scene {
    fn new(request: AuthorizedRequest) -> Self {
        Self::framed(request, Framing::None)
    }

    fn framed(request: AuthorizedRequest, framing: Framing) -> Self {
        let (tester, session) =
            (ProtocolTester::new(SessionId::from_random([0; 16])), StreamSession::new(request, framing));
        let mut scene = Self { tester, session, parser: Parser::default() };
        scene.session.opened(&mut scene.tester.context());
        scene
    }

    /// A session for these channels: name, history, last position.
    fn wanting(channels: &[(&str, bool, Option<Position>)]) -> Self {
        let wanted = |(name, history, since): &(&str, bool, Option<Position>)| AuthorizedChannel {
            name: (*name).into(),
            proof: Proof::None,
            history: *history,
            since: since.clone(),
        };
        Self::new(AuthorizedRequest { channels: channels.iter().map(wanted).collect(), ..AuthorizedRequest::default() })
    }

    fn received(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        for bytes in self.tester.written() {
            received.extend(self.parser.feed(&bytes).unwrap().into_iter().map(|e| (e.name, e.id, e.data)));
        }
        received
    }

    /// The chunks that have been written, which must be complete.
    fn chunks(&mut self) -> Vec<String> {
        let written: Vec<u8> = self.tester.written().concat();
        let (mut chunks, mut rest) = (Vec::new(), String::from_utf8(written).unwrap());
        while let Some((length, behind)) = rest.split_once("\r\n") {
            let length = usize::from_str_radix(length, 16).unwrap();
            let (data, behind) = behind.split_at(length);
            chunks.push(data.to_owned());
            rest = behind.strip_prefix("\r\n").unwrap_or_else(|| panic!("no end after {data:?}")).to_owned();
        }
        assert_eq!(rest, "");
        chunks
    }

    fn joined(&mut self, request_id: u32, name: &str, outcome: Result<Welcome, JoinRefused>) {
        let channel = ChannelKey::new("1".into(), name);
        self.session.joined(&mut self.tester.context(), request_id, &channel, outcome);
    }

    fn said(&mut self, name: &str, id: &str, position: Option<Position>) {
        self.session.channel_message(&mut self.tester.context(), &said(name, id, position));
    }
}

fn at(offset: u64) -> Option<Position> {
    Some(Position { offset, epoch: Epoch::parse("e").unwrap() })
}

fn said(channel: &str, id: &str, position: Option<Position>) -> Arc<EncodedMessage> {
    let event = Event {
        id: id.to_owned(),
        app: "1".into(),
        name: "n".to_owned(),
        channels: vec![channel.to_owned()],
        data: Data::json("1"),
        time: 0,
        op: None,
        key: None,
        except: None,
    };
    let channel = ChannelKey::new("1".into(), channel);
    Arc::new(EncodedMessage::new(ChannelMessage::Publication(Publication {
        event: Arc::new(event),
        channel,
        position,
        user: None,
    })))
}

fn message(channel: &str, id: &str, cursor: &str) -> Received {
    let data = format!(
        "{{\"id\":\"{id}\",\"channel\":\"{channel}\",\"name\":\"n\",\"data\":1,\"time\":\"1970-01-01T00:00:00.000Z\"}}"
    );
    ("message".to_owned(), cursor.to_owned(), data)
}

fn event(name: &str, cursor: &str, data: &str) -> Received {
    (name.to_owned(), cursor.to_owned(), data.to_owned())
}

#[test]
fn a_session_says_who_it_is_and_joins_what_it_may() {
    let member = Arc::new(Member { user: "u".into(), info: Some("{}".into()) });
    let wanted = |name: &str, proof, history, since| AuthorizedChannel { name: name.into(), proof, history, since };
    let mut scene = Scene::new(AuthorizedRequest {
        channels: vec![wanted("a", Proof::None, false, None), wanted("$b", Proof::Channel, true, at(3))],
        user: Some("u".into()),
        member: Some(Arc::clone(&member)),
        expires_at: None,
    });
    let written = scene.tester.written();
    assert!(written[0].starts_with(b"retry: 2000\n"), "{written:?}");
    let opened = scene.parser.feed(&written[0]).unwrap().remove(0);
    assert_eq!(
        (opened.name.as_str(), opened.data.as_str()),
        ("tidings.open", r#"{"session":"0.0","channels":["a","$b"]}"#)
    );
    assert_eq!(scene.tester.user().as_deref(), Some("u"));
    let asked: Vec<JoinRequest> = scene
        .tester
        .asked()
        .into_iter()
        .map(|(_, request_id)| match request_id {
            SessionRequest::Join(join) => join,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].channel.as_ref(), asked[0].proof, &asked[0].since), ("a", Proof::None, &None));
    assert_eq!(asked[1].since, at(3).map(Since::Position));
    assert_eq!((asked[1].proof, asked[1].member.as_ref()), (Proof::Channel, Some(&member)));
    assert!(matches!(asked[0].mode, DeliveryMode::Shared(_)), "without history the bytes are everybody's");
    assert!(matches!(asked[1].mode, DeliveryMode::Session));
}

#[test]
fn the_cursor_counts_what_was_written_and_keeps_what_was_not_reached() {
    let mut scene = Scene::wanting(&[("b", true, at(5)), ("x", false, None), ("a", true, at(7)), ("c", true, None)]);
    scene.received();
    let missed = vec![said("a", "a8", at(8)), said("a", "a9", at(9))];
    let welcome = Welcome { position: at(9), recovery: Recovery::Complete, publications: missed, ..Welcome::default() };
    scene.joined(3, "a", Ok(welcome));
    // Before b and c have joined: a break now must bring b's back.
    scene.said("a", "a10", at(10));
    assert_eq!(
        scene.received(),
        [message("a", "a8", "e:5,-,e:8,-"), message("a", "a9", "e:5,-,e:9,-"), message("a", "a10", "e:5,-,e:10,-")]
    );
    scene.joined(2, "x", Ok(Welcome::default()));
    let missed = vec![said("b", "b6", at(6))];
    let welcome = Welcome { position: at(6), recovery: Recovery::Complete, publications: missed, ..Welcome::default() };
    scene.joined(1, "b", Ok(welcome));
    assert_eq!(scene.received(), [message("b", "b6", "e:6,-,e:10,-")]);
    scene.joined(4, "c", Ok(Welcome { position: at(40), ..Welcome::default() }));
    // From here on a client that breaks off misses nothing.
    let joined = event("tidings.joined", "e:6,-,e:10,e:40", r#"{"channels":["b","x","a","c"]}"#);
    assert_eq!(scene.received(), [joined]);
    // What a client says isn't kept, so it has no position.
    scene.said("c", "client", None);
    scene.said("b", "b7", at(7));
    assert_eq!(scene.received(), [message("c", "client", "e:6,-,e:10,e:40"), message("b", "b7", "e:7,-,e:10,e:40")]);
    // Read back, it is where the session is.
    let text = scene.parser.last_id().to_owned();
    assert_eq!(cursor::read(&text, 4), Some(vec![at(7), None, at(10), at(40)]));
}

#[test]
fn a_loss_is_told_once_and_then_it_goes_on() {
    let mut scene = Scene::wanting(&[("a", true, at(1)), ("b", true, at(2))]);
    scene.received();
    let lost = Welcome {
        position: at(9),
        recovery: Recovery::Lost,
        cached: Some(said("a", "a9", at(9))),
        ..Welcome::default()
    };
    scene.joined(1, "a", Ok(lost));
    assert_eq!(
        scene.received(),
        [event("tidings.lost", "e:9,e:2", r#"{"channel":"a"}"#), message("a", "a9", "e:9,e:2")]
    );
    // History is no longer kept.
    let lost = Welcome { recovery: Recovery::Lost, ..Welcome::default() };
    scene.joined(2, "b", Ok(lost));
    let joined = event("tidings.joined", "e:9,-", r#"{"channels":["a","b"]}"#);
    assert_eq!(scene.received(), [event("tidings.lost", "e:9,-", r#"{"channel":"b"}"#), joined]);
}

#[test]
fn what_a_node_that_was_cut_off_has_missed_is_told_where_it_has_a_position() {
    let mut scene = Scene::wanting(&[("a", true, at(1)), ("b", false, None)]);
    scene.joined(1, "a", Ok(Welcome { position: at(1), recovery: Recovery::Complete, ..Welcome::default() }));
    scene.joined(2, "b", Ok(Welcome::default()));
    scene.received();
    for (name, publications, expected) in [
        ("b", true, vec![]),
        ("a", false, vec![]),
        ("a", true, vec![event("tidings.lost", "e:7,-", r#"{"channel":"a"}"#)]),
    ] {
        let channel = ChannelKey::new("1".into(), name);
        let lost = Lost { channel, position: at(7), publications, members: true };
        scene.session.lost(&mut scene.tester.context(), &lost);
        assert_eq!(scene.received(), expected, "{name} {publications}");
    }
    scene.said("a", "a8", at(8));
    assert_eq!(scene.received(), [message("a", "a8", "e:8,-")]);
}

#[test]
fn the_last_words_are_for_who_does_not_know_them() {
    let mut scene = Scene::wanting(&[("cache-a", false, None), ("b", true, at(1))]);
    scene.received();
    scene.joined(1, "cache-a", Ok(Welcome { cached: Some(said("cache-a", "c", None)), ..Welcome::default() }));
    assert_eq!(scene.received(), [message("cache-a", "c", "")]);
    let cached = Some(said("b", "b1", at(1)));
    scene.joined(2, "b", Ok(Welcome { position: at(1), recovery: Recovery::Complete, cached, ..Welcome::default() }));
    assert_eq!(scene.received(), [event("tidings.joined", "-,e:1", r#"{"channels":["cache-a","b"]}"#)]);
}

#[test]
fn a_refused_channel_is_told_and_the_others_go_on() {
    let full = || Err(JoinRefused::TooManyMembers { limit: 1 });
    let mut scene = Scene::wanting(&[("presence-a", false, None), ("b", true, None)]);
    scene.received();
    scene.joined(1, "presence-a", full());
    let told = event(
        "tidings.refused",
        "",
        r#"{"channel":"presence-a","reason":"the channel is full: its limit of members is 1"}"#,
    );
    assert_eq!(scene.received(), [told]);
    assert_eq!(scene.tester.ended(), None);
    scene.joined(2, "b", Err(JoinRefused::NoProof));
    let told = event(
        "tidings.refused",
        "",
        r#"{"channel":"b","reason":"the channel requires a proof, and the session gave none"}"#,
    );
    assert_eq!(scene.received(), [told, event("tidings.close", "", r#"{"reason":"refused"}"#)]);
    assert_eq!(scene.tester.ended(), Some(CloseWith::EndOfStream), "nothing is left to wait for");
    assert_eq!(scene.tester.refused(), [Refused::Quota, Refused::FailedProof]);
}

#[test]
fn a_broker_that_is_away_ends_the_stream_so_that_it_comes_back() {
    let mut scene = Scene::wanting(&[("a", true, at(1))]);
    scene.received();
    scene.joined(1, "a", Err(JoinRefused::Unavailable));
    assert_eq!(scene.received(), [event("tidings.close", "", r#"{"reason":"unavailable"}"#)]);
    assert_eq!(scene.tester.ended(), Some(CloseWith::EndOfStream));
}

#[test]
fn a_stream_shows_that_it_lives_until_its_token_ends() {
    let mut scene = Scene::new(AuthorizedRequest { expires_at: Some(60_000), ..AuthorizedRequest::default() });
    scene.received();
    let mut comments = 0;
    loop {
        scene.tester.now = scene.tester.wake_at().unwrap();
        scene.session.woken(&mut scene.tester.context());
        if scene.tester.now >= 60_000 {
            break;
        }
        assert_eq!(scene.tester.written(), [":\n"]);
        comments += 1;
    }
    assert_eq!((comments, scene.tester.now), (2, 60_000));
    assert_eq!(scene.received(), [event("tidings.close", "", r#"{"reason":"token_expired"}"#)]);
    assert_eq!(scene.tester.ended(), Some(CloseWith::EndOfStream));
}

#[test]
fn the_end_has_a_reason() {
    for (why, reason) in
        [(CloseReason::GoingAway, "going_away"), (CloseReason::Restarting, "going_away"), (CloseReason::Slow, "slow")]
    {
        let mut scene = Scene::wanting(&[("a", false, None)]);
        scene.received();
        scene.session.closing(&mut scene.tester.context(), why);
        let written = scene.tester.written().concat();
        let told = scene.parser.feed(&written).unwrap().remove(0);
        assert_eq!((told.name.as_str(), told.data), ("tidings.close", format!("{{\"reason\":\"{reason}\"}}")));
        let retry = String::from_utf8(written).unwrap();
        let retry: Option<u32> =
            retry.lines().find_map(|line| line.strip_prefix("retry: ")).map(|millis| millis.parse().unwrap());
        match why {
            CloseReason::GoingAway => {
                assert!((100..1_000).contains(&retry.unwrap()), "at once, but not all at one time")
            }
            CloseReason::Restarting => assert!((1_000..1_500).contains(&retry.unwrap()), "when it is back"),
            _ => assert_eq!(retry, None),
        }
        assert_eq!(scene.tester.ended(), Some(CloseWith::EndOfStream));
    }
}

// covers: G242, G251
#[test]
fn each_event_is_a_chunk_and_only_events_end_with_an_empty_line() {
    let wanted =
        |name: &str, history, since| AuthorizedChannel { name: name.into(), proof: Proof::None, history, since };
    let channels = vec![wanted("a", true, at(1)), wanted("b", false, None), wanted("full", false, None)];
    let mut scene = Scene::framed(AuthorizedRequest { channels, ..AuthorizedRequest::default() }, Framing::Chunks);
    let missed = vec![said("a", "a2", at(2)), said("a", "a3", at(3))];
    let welcome = Welcome { position: at(3), recovery: Recovery::Complete, publications: missed, ..Welcome::default() };
    scene.joined(1, "a", Ok(welcome));
    let cached = Some(said("b", "b0", None));
    scene.joined(2, "b", Ok(Welcome { cached, ..Welcome::default() }));
    scene.joined(3, "full", Err(JoinRefused::TooManyMembers { limit: 1 }));
    scene.said("a", "a4", at(4));
    scene.session.woken(&mut scene.tester.context());
    let lost = Lost { channel: ChannelKey::new("1".into(), "a"), position: at(9), publications: true, members: true };
    scene.session.lost(&mut scene.tester.context(), &lost);
    scene.said("a", "a10", at(10));
    scene.session.closing(&mut scene.tester.context(), CloseReason::GoingAway);
    let chunks = scene.chunks();
    let mut received = Vec::new();
    for chunk in &chunks[..chunks.len() - 1] {
        let events = scene.parser.feed(chunk.as_bytes()).unwrap();
        assert_eq!(chunk.matches("\n\n").count(), events.len(), "an empty line that ends no event: {chunk:?}");
        assert_eq!(events.len(), usize::from(chunk != ":\n"), "{chunk:?}");
        received.extend(events.into_iter().map(|event| (event.name, event.id, event.data)));
    }
    assert_eq!(chunks.last().unwrap(), "", "the last chunk");
    let expected = [
        event("tidings.open", "", r#"{"session":"0.0","channels":["a","b","full"]}"#),
        message("a", "a2", "e:2,-,-"),
        message("a", "a3", "e:3,-,-"),
        message("b", "b0", "e:3,-,-"),
        event(
            "tidings.refused",
            "e:3,-,-",
            r#"{"channel":"full","reason":"the channel is full: its limit of members is 1"}"#,
        ),
        event("tidings.joined", "e:3,-,-", r#"{"channels":["a","b"]}"#),
        message("a", "a4", "e:4,-,-"),
        event("tidings.lost", "e:9,-,-", r#"{"channel":"a"}"#),
        message("a", "a10", "e:10,-,-"),
        event("tidings.close", "e:10,-,-", r#"{"reason":"going_away"}"#),
    ];
    assert_eq!(received, expected);
}
