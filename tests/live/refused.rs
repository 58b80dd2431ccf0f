//! A client without permission is refused by every door and receives nothing; one with permission may join.

use serde_json::{Value, json};
use tidings_model::clock::{Clock, SystemClock};
use tidings_testkit::{PusherApp, PusherSession, Server, ServerBuilder, eventually, token, unsigned_token};

use crate::kit::{APPS, SOON, configured, heard_nothing, joined, opened};

/// A namespace that is not public.
fn guarded() -> ServerBuilder {
    configured("", "[[apps.namespaces]]\nname = \"closed\"\nmatch = [\"closed-\"]\npublic = false\n")
}

/// Every kind of channel that requires a proof.
const GUARDED: [&str; 10] = [
    "private-a",
    "private-encrypted-a",
    "private-cache-a",
    "presence-a",
    "$a",
    "chat:$a",
    "#alice",
    "room#alice,bob",
    "closed:a",
    "closed-a",
];

// covers: A01, A02
#[tokio::test]
async fn through_pusher_nobody_joins_without_the_right_proof() {
    let server = guarded().start().await;
    let (app, other) = (APPS[0].pusher(&server), APPS[1].pusher(&server));
    let stranger = app.connect().await;
    let mut eve = app.connect().await;
    let data = json!({"user_id": "eve"}).to_string();
    for channel in GUARDED {
        let channel_data = channel.starts_with("presence-").then_some(data.as_str());
        let id = eve.socket_id.clone();
        let right = app.auth(&id, channel, channel_data);
        let wrong: [(&str, String, Option<&str>); 10] = [
            ("nothing", String::new(), channel_data),
            ("nonsense", "nonsense".to_owned(), channel_data),
            ("no signature", format!("{}:", app.key), channel_data),
            ("a signature with a digit changed", tampered(&right), channel_data),
            ("another app's", other.auth(&id, channel, channel_data), channel_data),
            ("another app's under our key", other_secret(&app, &other).auth(&id, channel, channel_data), channel_data),
            ("another session's", app.auth(&stranger.socket_id, channel, channel_data), channel_data),
            ("another channel's", app.auth(&id, "private-b", channel_data), channel_data),
            ("a sign-in's", app.user_auth(&id, &data), channel_data),
            ("one for other channel_data", app.auth(&id, channel, Some("{\"user_id\":\"eva\"}")), Some(&data)),
        ];
        for (what, auth, data) in &wrong {
            eve.ask_to_join(channel, auth, *data).await;
            assert_refused(&mut eve, channel, what).await;
        }
    }
    // The right signature under the wrong conditions.
    let id = eve.socket_id.clone();
    for data in [None, Some("{}"), Some("not json"), Some("[]"), Some("{\"user_id\":\"\"}"), Some("{\"user_id\":{}}")] {
        let auth = app.auth(&id, "presence-a", data);
        eve.ask_to_join("presence-a", &auth, data).await;
        assert_refused(&mut eve, "presence-a", &format!("channel_data {data:?}")).await;
    }
    for channel in ["#server-to-user-alice", "#alice", "room#alice,bob"] {
        let auth = app.auth(&id, channel, None);
        eve.ask_to_join(channel, &auth, None).await;
        assert_refused(&mut eve, channel, "a proof of the channel where a user is asked for").await;
    }
    let names = GUARDED.map(str::to_owned);
    hears_nothing(&server, &mut eve, &names).await;
}

/// Changes the last hexadecimal digit.
fn tampered(auth: &str) -> String {
    let (rest, last) = auth.split_at(auth.len() - 1);
    format!("{rest}{}", if last == "0" { '1' } else { '0' })
}

fn other_secret(app: &PusherApp, other: &PusherApp) -> PusherApp {
    PusherApp { secret: other.secret.clone(), ..app.clone() }
}

async fn assert_refused(session: &mut PusherSession, channel: &str, what: &str) {
    session.settle().await;
    let mut errors = 0;
    for frame in session.waiting() {
        let joined = frame.event.ends_with("subscription_succeeded") && frame.channel.as_deref() == Some(channel);
        assert!(!joined, "{channel} was joined with {what}");
        errors += usize::from(frame.event == "pusher:error" || frame.event == "pusher:subscription_error");
    }
    assert!(errors > 0, "{channel} with {what}: no error was told");
    while session.waiting().next().is_some() {
        session.next(SOON).await;
    }
}

/// Asserts that messages in the channels do not reach the session.
async fn hears_nothing(server: &Server, session: &mut PusherSession, channels: &[String]) {
    let event = json!({"name": "secret", "channels": channels, "data": {}});
    APPS[0].api(server).post("/v1/events", event).await.expect_status(202);
    heard_nothing(session, "secret").await;
}

// covers: A01
#[tokio::test]
async fn through_pusher_the_right_proof_lets_in() {
    let server = guarded().start().await;
    let app = APPS[0].pusher(&server);
    let mut alice = app.connect().await;
    for channel in ["public", "private-a", "private-encrypted-a", "private-cache-a"] {
        alice.subscribe(channel).await;
    }
    let said = alice.subscribe_as("presence-a", "alice", json!({})).await;
    assert_eq!(said["presence"]["ids"], json!(["alice"]), "{said}");
    let id = alice.socket_id.clone();
    for (channel, data) in [("closed-a", None), ("private-b", Some("{\"any\":1}")), ("closed-b", Some("text"))] {
        let auth = app.auth(&id, channel, data);
        alice.ask_to_join(channel, &auth, data).await;
        alice.expect_on("pusher_internal:subscription_succeeded", channel, SOON).await;
    }
    let user = json!({"id": "alice"}).to_string();
    let auth = app.user_auth(&id, &user);
    alice.send(json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user}})).await;
    alice.expect("pusher:signin_success", SOON).await;
    alice.ask_to_join("#server-to-user-alice", "", None).await;
    alice.expect_on("pusher_internal:subscription_succeeded", "#server-to-user-alice", SOON).await;
    app.trigger(&["#server-to-user-alice"], "hello", "1").await.expect_status(200);
    alice.expect_on("hello", "#server-to-user-alice", SOON).await;
    alice.ask_to_join("#server-to-user-bob", "", None).await;
    assert_refused(&mut alice, "#server-to-user-bob", "being somebody else").await;
    // A sign-in with somebody else's signature, or as a second user, changes nothing.
    for (data, auth) in
        [("{\"id\":\"bob\"}", auth.clone()), ("{\"id\":\"bob\"}", app.user_auth(&id, "{\"id\":\"bob\"}"))]
    {
        alice.send(json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": data}})).await;
        alice.expect("pusher:error", SOON).await;
    }
    heard_nothing(&mut alice, "pusher:signin_success").await;
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"exp": SystemClock::new().wall_ms() / 1000 + 600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

// covers: A03
#[tokio::test]
async fn through_the_stream_nobody_joins_without_the_right_token() {
    let server = guarded().start().await;
    let (one, two) = (APPS[0], APPS[1]);
    let secret = one.token_secret();
    for channel in GUARDED {
        let right = claims(json!({"sub": "alice", "channels": [channel]}));
        let mut expired = right.clone();
        expired["exp"] = json!(SystemClock::new().wall_ms() / 1000 - 600);
        let mut early = right.clone();
        early["nbf"] = json!(SystemClock::new().wall_ms() / 1000 + 600);
        let good = token(&secret, &right);
        let wrong: [(&str, Option<String>); 12] = [
            ("no token", None),
            ("an empty token", Some(String::new())),
            ("nonsense", Some("a.b.c".to_owned())),
            ("another app's key", Some(token(&two.token_secret(), &right))),
            ("the app's other secret", Some(token(&one.secret(), &right))),
            ("alg none", Some(unsigned_token(&right))),
            ("alg none with a signature", Some(format!("{}x", unsigned_token(&right)))),
            ("a changed signature", Some(swapped(&good))),
            ("expired", Some(token(&secret, &expired))),
            ("not yet", Some(token(&secret, &early))),
            ("another channel", Some(token(&secret, &claims(json!({"sub": "eve", "channels": ["private-z"]}))))),
            ("another user", Some(token(&secret, &claims(json!({"sub": "eve"}))))),
        ];
        for (what, token) in wrong {
            let more = token.map(|token| format!("&token={token}")).unwrap_or_default();
            match one.stream(&server, channel, &more).stream().await {
                Ok(_) => panic!("{channel} was joined with {what}"),
                Err(reply) => assert!([401, 403].contains(&reply.status), "{channel}, {what}: {}", reply.text()),
            }
        }
        opened(one.stream(&server, channel, &format!("&token={good}"))).await;
        if !channel.contains('#') {
            // A token that names the channel says nothing of users.
            let nameless = token(&secret, &claims(json!({"channels": [channel]})));
            opened(one.stream(&server, channel, &format!("&token={nameless}"))).await;
        }
    }
}

/// Replaces the last two characters of a signature.
fn swapped(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", signature.chars().rev().collect::<String>())
}

// covers: A03
#[tokio::test]
async fn through_the_stream_servers_join_everything_of_their_own_app() {
    let server = guarded().start().await;
    let (one, two) = (APPS[0], APPS[1]);
    for channel in GUARDED {
        let path = format!("/v1/stream?channel={}", crate::kit::escaped(channel));
        let mut stream = opened(one.api(&server).get(&path)).await;
        joined(&one.api(&server), &crate::kit::escaped(channel), 1).await;
        let event = json!({"name": "e", "channels": [channel], "data": {"of": "two"}});
        two.api(&server).post("/v1/events", event).await.expect_status(202);
        let event = json!({"name": "e", "channels": [channel], "data": {"of": "one"}});
        one.api(&server).post("/v1/events", event).await.expect_status(202);
        assert_eq!(stream.expect("message", SOON).await.json()["data"]["of"], "one");
    }
    // A foreign or wrong API key is no key, also where the channel would be open to all.
    let path = format!("/v1/stream?app={}&channel=public", one.key());
    for key in [two.api_key(), "wrong".to_owned()] {
        let refused = one.api(&server).with_key(&key).get(&path).stream().await.unwrap_err();
        assert!([401, 403].contains(&refused.status), "{}", refused.text());
    }
    opened(one.stream(&server, "public", "")).await;
}

// covers: G367
#[tokio::test]
async fn which_clients_are_refused_and_what_to_do_is_logged_and_counted() {
    let server = configured("", "[apps.limits]\nsessions = 1\n").alone().start().await;
    let app = APPS[0].pusher(&server);
    let nobody = server.pusher_app("1", "no-such-key", "x");
    assert!(nobody.session().try_connect().await.is_err());
    let mut only = app.connect().await;
    assert!(app.session().try_connect().await.is_err(), "the app may have one session");
    only.ask_to_join("private-a", "nonsense", None).await;
    assert_refused(&mut only, "private-a", "nonsense").await;
    let counted = server.metrics().await;
    for (id, reason, remedy) in [
        ("", "unknown_key", "check the key and the host"),
        ("1", "app_full", "raise limits.sessions of the app"),
        ("1", "failed_proof", "check that the app's auth endpoint signs"),
    ] {
        let line = format!("tidings_app_refusals_total{{app=\"{id}\",reason=\"{reason}\"}} 1");
        assert!(counted.contains(&line), "{line} is not in\n{counted}");
        let is_told = |line: &str| [reason, remedy, "client=127.0.0.1"].iter().all(|word| line.contains(word));
        // What a server writes is read by a thread of its own.
        eventually(SOON, || async { (server.stdout() + &server.stderr()).lines().any(is_told).then_some(()) }).await;
    }
    for name in ["connects", "messages_received", "received_bytes", "sent_bytes"] {
        let name = format!("tidings_app_{name}_total");
        assert!(crate::kit::metric(&server, &name).await > 0.0, "{name}");
    }
}
