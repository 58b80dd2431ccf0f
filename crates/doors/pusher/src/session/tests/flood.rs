//! Clients that send too many invalid or refused messages.

use serde_json::{Value, json};
use tidings_live::{Refused, SessionProtocol};
use tidings_model::app::{App, AppLimits};

use super::kit::{Client, KEY, app};

fn wrong(channel: &str) -> Value {
    json!({"channel": channel, "auth": format!("{KEY}:{}", "00".repeat(32))})
}

/// How many of these a client may send before its session is ended, the code that ends it, and why it was refused.
fn sent_until_ended(client: &mut Client, event: &str, data: &Value) -> (usize, u16, Vec<Refused>) {
    let mut refused = Vec::new();
    for sent in 1..5_000 {
        assert!(!client.say(event, data.clone()).is_empty(), "everything is answered");
        refused.extend(client.tester.refused());
        if let Some((code, _)) = client.ended() {
            return (sent, code, refused);
        }
    }
    panic!("{event} {data} may be sent for ever")
}

// covers: G236
#[test]
fn who_sends_what_is_no_subscription_is_sent_away() {
    for (event, data) in [
        ("pusher:subscribe", json!({})),
        ("pusher:subscribe", json!("no JSON")),
        ("pusher:unsubscribe", json!([])),
        ("pusher:signin", json!({"auth": 1})),
        ("pusher:sign", json!({})),
    ] {
        let (sent, code, refused) = sent_until_ended(&mut Client::new(), event, &data);
        assert_eq!((sent, code), (51, 1002), "{event} {data}");
        assert_eq!(refused[..51], [Refused::Malformed; 51]);
        assert_eq!(refused[51..], [Refused::Flood]);
    }
}

// covers: G237
#[test]
fn who_guesses_at_proofs_is_sent_away_for_good() {
    let limits = AppLimits { channels_per_session: 200, ..AppLimits::default() };
    let app = || App { limits: limits.clone(), ..app() };
    for (event, data, code) in [
        ("pusher:subscribe", wrong("private-a"), 4009),
        ("pusher:subscribe", json!({"channel": "presence-a"}), 4009),
        ("pusher:signin", json!({"auth": format!("{KEY}:00"), "user_data": "{\"id\":\"u\"}"}), 4009),
        ("pusher:subscribe", json!({"channel": "no channel"}), 1002),
        ("pusher:subscribe", json!({"channel": "a", "since": "x"}), 1002),
    ] {
        let (sent, ended, refused) = sent_until_ended(&mut Client::of(app(), 7), event, &data);
        assert_eq!((sent, ended), (201, code), "{event} {data}");
        assert_eq!(refused.len(), 202);
        assert_eq!(refused[201], Refused::Flood);
        assert!(refused[..201].iter().all(|why| *why == refused[0]));
    }
}

// covers: G238
#[test]
fn who_comes_back_to_all_its_channels_with_old_proofs_stays() {
    let mut client = Client::new();
    for n in 0..1_000 {
        assert_eq!(client.say("pusher:subscribe", wrong(&format!("private-{n}"))).len(), 2);
    }
    assert_eq!(client.ended(), None);
    client.join("private-1", None);
    client.tester.now += 60_000;
    for n in 0..50 {
        client.say("pusher:subscribe", wrong(&format!("private-more-{n}")));
    }
    assert_eq!(client.ended(), None, "in time it is forgiven");
}

// covers: G365
#[test]
fn what_an_apps_limits_refuse_is_noted() {
    let limits = AppLimits { channels_per_session: 1, client_events_per_second: 1, ..AppLimits::default() };
    let mut client = Client::of(App { limits, ..app() }, 7);
    client.join("private-a", None);
    client.say("pusher:subscribe", json!({"channel": "b"}));
    assert_eq!(client.tester.refused(), [Refused::Quota]);
    for _ in 0..2 {
        client.send(r#"{"event":"client-x","channel":"private-a","data":1}"#);
        if let Some((request_id, _)) = client.tester.asked().pop() {
            client.session.published(&mut client.tester.context(), request_id, Ok(()));
        }
    }
    assert_eq!(client.tester.refused(), [Refused::EventRate]);
    let mut client = Client::of(App { authorize_within: Some(std::time::Duration::from_secs(1)), ..app() }, 7);
    client.tester.now += 1_000;
    client.session.woken(&mut client.tester.context());
    assert_eq!(client.tester.refused(), [Refused::NothingProved]);
}
