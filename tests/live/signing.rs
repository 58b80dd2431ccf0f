//! Signatures of random requests, made by the official libraries and verified by the running server: parameters in any
//! order, text in any script, no body, arrays.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tidings_testkit::{AppServer, PusherSession, Server};

use crate::kit::{APPS, SOON, configured};

/// The number of cases of each kind.
const CASES: usize = 60;

/// The seed, so that every run has the same cases.
fn cases<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// A parameter value that both libraries can send: they do not escape it in the URL, so `&`, `#` and `%` are left out,
/// and HTTP libraries trim blanks at the ends.
fn value() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_=@,.;:!$'()*+/?~äßéλЖ漢字😀-]{1,12}"
}

/// Random data: strings in any script, numbers, arrays, objects.
fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[\"\\\\\u{1}\u{7f}\u{2028}😀{}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-zä]{1,4}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

async fn libraries(server: &Server) -> (AppServer, AppServer, PusherSession) {
    let app = APPS[0].pusher(server);
    let node = AppServer::node(server, &app, json!({})).await;
    (AppServer::start(server, &app).await, node, app.connect().await)
}

// covers: U18
#[tokio::test]
async fn whatever_the_libraries_sign_of_a_request_is_accepted() {
    let server = configured("", "").start().await;
    let (python, node, mut session) = libraries(&server).await;
    session.subscribe("a").await;
    let params = proptest::collection::hash_map("[b-z][a-z_]{0,8}", value(), 0..5);
    for (params, prefix) in cases((params, value())) {
        let params: serde_json::Map<_, _> = params
            .into_iter()
            .filter(|(name, _)| !name.starts_with("body_") && name != "info")
            .map(|(name, value)| (name, value.into()))
            .collect();
        let said = node.call("get", json!([{"path": "/channels", "params": params}])).await;
        assert_eq!(said["status"], 200, "{params:?}: {said}");
        // A list of attributes, and no body, which this library signs all the same.
        let arguments = json!({"prefix_filter": prefix, "attributes": ["subscription_count", "nothing"]});
        let said = python.call("channels_info", arguments).await;
        assert!(said["channels"].is_object(), "{prefix}: {said}");
    }
    for (n, data) in cases(data()).into_iter().enumerate() {
        node.call("trigger", json!(["a", format!("node ä {n}"), data])).await;
        expect(&mut session, &format!("node ä {n}"), &data).await;
        python.trigger(&["a"], &format!("python 漢 {n}"), data.clone()).await;
        expect(&mut session, &format!("python 漢 {n}"), &data).await;
    }
}

/// Libraries send a string as it is, and anything else as JSON.
async fn expect(session: &mut PusherSession, event: &str, data: &Value) {
    let frame = session.expect(event, SOON).await;
    match data {
        Value::String(_) => assert_eq!(frame.raw_data, *data),
        _ => assert_eq!(frame.data(), *data),
    }
}

// covers: U18
#[tokio::test]
async fn whatever_the_libraries_sign_for_a_client_lets_it_in() {
    let server = configured("", "[apps.limits]\nmember_info = \"64KiB\"\n").start().await;
    let (python, node, mut session) = libraries(&server).await;
    let socket = session.socket_id.clone();
    for (n, (id, info)) in cases(("[a-zA-Z0-9_=@,.;äλ漢😀-]{1,20}", data())).into_iter().enumerate() {
        let channel = format!("presence-{n}");
        let who = json!({"user_id": id, "user_info": info});
        let proof = match n % 2 {
            0 => node.call("authorizeChannel", json!([socket, channel, who])).await,
            _ => {
                python.call("authenticate", json!({"channel": channel, "socket_id": socket, "custom_data": who})).await
            }
        };
        let (auth, shown) = (proof["auth"].as_str().unwrap(), proof["channel_data"].as_str());
        session.ask_to_join(&channel, auth, shown).await;
        let joined = session.expect_on("pusher_internal:subscription_succeeded", &channel, SOON).await;
        assert_eq!(joined.data()["presence"]["hash"][&id], info, "{proof}");
        // One character more is another text.
        let more = format!("{} ", shown.unwrap());
        session.ask_to_join(&format!("{channel}-b"), auth, Some(&more)).await;
        session.expect("pusher:error", SOON).await;
    }
}

// covers: U18
#[tokio::test]
async fn whatever_the_libraries_sign_of_a_user_signs_in() {
    let server = configured("", "[apps.limits]\nmember_info = \"64KiB\"\n").start().await;
    let (python, node, _) = libraries(&server).await;
    let app = APPS[0].pusher(&server);
    for (n, (id, info)) in cases(("[a-zA-Z0-9_=@,.;-]{1,20}", data())).into_iter().enumerate() {
        let mut session = app.connect().await;
        let socket = session.socket_id.clone();
        let who = json!({"id": id, "user_info": info, "watchlist": ["somebody", id]});
        let proof = match n % 2 {
            0 => node.call("authenticateUser", json!([socket, who])).await,
            _ => python.call("authenticate_user", json!({"socket_id": socket, "user_data": who})).await,
        };
        session.send(json!({"event": "pusher:signin", "data": proof})).await;
        let signed_in = session.expect("pusher:signin_success", SOON).await;
        assert_eq!(signed_in.data()["user_data"], proof["user_data"], "as it came");
        let online = session.expect("pusher_internal:watchlist_events", SOON).await;
        assert_eq!(online.data()["events"][0], json!({"name": "online", "user_ids": [id]}));
    }
}
