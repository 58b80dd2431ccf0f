//! Fields that a hook does not declare appear nowhere: in no live session of any door, no history, no cache, no
//! webhook, no log.

use serde_json::{Value, json};
use tidings_testkit::{Receiver, Server, ServerBuilder, eventually};

use crate::kit::{APPS, SOON, configured, everywhere, joined, opened};

/// A value that must not appear.
const SECRET: &str = "only-for-our-own-servers";

/// A server whose channels keep a history and a cache, with a webhook for client events.
fn keeping(receiver: &Receiver) -> ServerBuilder {
    let each = format!(
        "[apps.channels]\npublic = true\nhistory_size = 10\nhistory_ttl = \"1h\"\ncache_ttl = \"1h\"\n\
         [[apps.webhooks]]\nurl = {:?}\nevents = [\"client_event\"]\n",
        receiver.url("/app"),
    );
    configured("", &each)
}

/// Makes a hook with a listener, and waits until every node knows it.
async fn hook(server: &Server, receiver: &Receiver, hook: Value) {
    let (api, name) = (APPS[0].api(server), hook["name"].as_str().unwrap().to_owned());
    api.post("/v1/hooks", hook).await.expect_status(201);
    api.post("/v1/listeners", json!({"url": receiver.url("/in"), "hooks": [name]})).await.expect_status(201);
    everywhere(server, &APPS[0].api_key(), &format!("/v1/hooks/{name}"), 200).await;
}

/// Everything that the API shows of the channel and of the event.
async fn kept(server: &Server, channel: &str, id: &str) -> String {
    let api = APPS[0].api(server);
    let mut all = api.get(&format!("/v1/events/{id}")).await.expect_status(200).text();
    all += &api.get("/v1/events").await.expect_status(200).text();
    all += &api.get(&format!("/v1/channels/{channel}?history=10")).await.expect_status(200).text();
    all += &APPS[0].pusher(server).get(&format!("/channels/{channel}"), &[("info", "cache")]).await.text();
    all
}

// covers: G151
#[tokio::test]
async fn undeclared_fields_reach_nobody_through_any_door() {
    let receiver = Receiver::start();
    let server = keeping(&receiver).start().await;
    hook(&server, &receiver, json!({"name": "person.created", "fields": ["name"]})).await;
    let (one, app, api) = (APPS[0], APPS[0].pusher(&server), APPS[0].api(&server));
    let mut session = app.connect().await;
    session.subscribe("news").await;
    let mut stream = opened(one.stream(&server, "news", "")).await;
    joined(&api, "news", 2).await;

    let data = json!({"name": "Ada", "secret": SECRET});
    let event = json!({"name": "person.created", "channels": ["news"], "data": data});
    let by_api = api.post("/v1/events", event).await.expect_status(202).text_at("id");
    app.trigger(&["news"], "person.created", &data.to_string()).await.expect_status(200);
    let batch = json!({"batch": [{"name": "person.created", "channel": "news", "data": data.to_string()}]});
    app.post("/batch_events", &batch).await.expect_status(200);
    for _ in 0..3 {
        let frame = session.expect_on("person.created", "news", SOON).await;
        assert_eq!(frame.raw_data, r#"{"name":"Ada"}"#);
        assert_eq!(stream.expect("message", SOON).await.json()["data"], json!({"name": "Ada"}));
    }
    for request in receiver.wait_for(3, |request| request.path == "/in", SOON).await {
        assert_eq!(request.json()["data"], json!({"name": "Ada"}));
    }
    let kept = kept(&server, "news", &by_api).await;
    assert!(kept.contains("Ada") && !kept.contains(SECRET), "{kept}");
    // Whoever comes late is given what the cache and the history have.
    let mut late = app.connect().await;
    late.subscribe("news").await;
    assert_eq!(late.expect_on("person.created", "news", SOON).await.raw_data, r#"{"name":"Ada"}"#);
    let mut again = opened(one.stream(&server, "news", "").header("last-event-id", &stream_start(&api).await)).await;
    assert_eq!(again.expect("message", SOON).await.json()["data"], json!({"name": "Ada"}));
    assert!(!server.stderr().contains(SECRET), "it was logged");
}

/// The id of a stream of `news` after its first event.
async fn stream_start(api: &tidings_testkit::Api) -> String {
    let channel = api.get("/v1/channels/news").await.expect_status(200);
    format!("{}:1", channel["position"]["epoch"].as_str().unwrap())
}

// covers: G151
#[tokio::test]
async fn nothing_undeclared_is_on_the_disk() {
    let receiver = Receiver::start();
    let dir = tempfile::tempdir().unwrap();
    let mut server = keeping(&receiver).alone().dir(dir.path()).start().await;
    hook(&server, &receiver, json!({"name": "person.created", "fields": ["name"]})).await;
    let event = json!({"name": "person.created", "channels": ["news"], "data": {"name": "Ada L.", "secret": SECRET}});
    let request = APPS[0].api(&server).post("/v1/events", event).header("idempotency-key", "k");
    request.await.expect_status(202);
    server.terminate().await.expect_code(0);
    let mut seen = 0;
    let mut folders = vec![dir.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = std::fs::read(entry.path()).unwrap();
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!has(SECRET), "it is in {}", entry.path().display());
            seen += usize::from(has("Ada L."));
        }
    }
    assert!(seen > 0, "the event itself is nowhere");
}

// covers: G151
#[tokio::test]
async fn a_clients_event_is_held_to_its_hook_before_anybody_hears_it() {
    let receiver = Receiver::start();
    let server = keeping(&receiver).start().await;
    let typed = json!([{"name": "at", "type": "string"}]);
    hook(&server, &receiver, json!({"name": "client-moved", "fields": typed})).await;
    let app = APPS[0].pusher(&server);
    let (mut ann, mut bob) = (app.connect().await, app.connect().await);
    for session in [&mut ann, &mut bob] {
        session.subscribe("private-map").await;
    }
    let say = |data: Value| json!({"event": "client-moved", "channel": "private-map", "data": data});
    ann.send(say(json!({"at": "Bergen", "secret": SECRET}))).await;
    assert_eq!(bob.expect("client-moved", SOON).await.data(), json!({"at": "Bergen"}));
    for path in ["/in", "/app"] {
        let request = receiver.wait_for(1, |request| request.path == path, SOON).await.remove(0);
        let text = String::from_utf8_lossy(&request.body).into_owned();
        assert!(text.contains("Bergen") && !text.contains(SECRET), "{text}");
    }
    // What does not fit is refused, and nobody hears it.
    for wrong in [json!({"at": 5}), json!("text")] {
        ann.send(say(wrong)).await;
        let error = ann.expect("pusher:error", SOON).await.data();
        assert!(error["message"].as_str().unwrap().contains("client-moved"), "{error}");
        assert!(error["code"].is_null(), "{error}");
    }
    crate::kit::heard_nothing(&mut bob, "client-moved").await;
}

// covers: G152
#[tokio::test]
async fn a_hook_can_say_that_its_fields_are_for_webhooks_alone() {
    let receiver = Receiver::start();
    let server = keeping(&receiver).start().await;
    let declared = json!({"name": "person.created", "fields": ["name"], "fields_for": "webhooks"});
    hook(&server, &receiver, declared).await;
    let (app, api) = (APPS[0].pusher(&server), APPS[0].api(&server));
    let mut session = app.connect().await;
    session.subscribe("news").await;
    let publish = async || {
        let data = json!({"name": "Ada", "secret": SECRET});
        let event = json!({"name": "person.created", "channels": ["news"], "data": data});
        api.post("/v1/events", event).await.expect_status(202).text_at("id")
    };
    let id = publish().await;
    assert_eq!(session.expect("person.created", SOON).await.data()["secret"], SECRET);
    let logged = api.get(&format!("/v1/events/{id}")).await.expect_status(200);
    assert_eq!(logged["data"]["secret"], SECRET);
    let request = receiver.wait_for(1, |request| request.path == "/in", SOON).await.remove(0);
    assert_eq!(request.json()["data"], json!({"name": "Ada"}));
    // It can change its mind: the next event is trimmed, on every node.
    let changed = api.patch("/v1/hooks/person.created", json!({"fields_for": "all"})).await.expect_status(200);
    assert_eq!(changed["fields_for"], "all");
    publish().await;
    assert_eq!(session.expect("person.created", SOON).await.data(), json!({"name": "Ada"}));
}

// covers: G153
#[tokio::test]
async fn what_loses_nothing_and_what_is_encrypted_stays_byte_for_byte() {
    let receiver = Receiver::start();
    let server = keeping(&receiver).start().await;
    hook(&server, &receiver, json!({"name": "person.created", "fields": ["name"]})).await;
    let (app, api) = (APPS[0].pusher(&server), APPS[0].api(&server));
    let mut session = app.connect().await;
    for channel in ["news", "private-encrypted-vault"] {
        session.subscribe(channel).await;
    }
    let whole = "{ \"name\" : \"A\\u0064a\",  \"name\":1.50 }";
    app.trigger(&["news"], "person.created", whole).await.expect_status(200);
    assert_eq!(session.expect_on("person.created", "news", SOON).await.raw_data, whole);
    let request = receiver.wait_for(1, |_| true, SOON).await.remove(0);
    assert!(String::from_utf8_lossy(&request.body).contains(whole), "{:?}", request.body);

    let sealed = r#"{"nonce":"bm9uY2U=", "ciphertext":"c2VjcmV0"}"#;
    app.trigger(&["private-encrypted-vault"], "person.created", sealed).await.expect_status(200);
    assert_eq!(session.expect_on("person.created", "private-encrypted-vault", SOON).await.raw_data, sealed);
    let request = receiver.wait_for(2, |_| true, SOON).await.remove(1);
    assert!(String::from_utf8_lossy(&request.body).contains(sealed), "{:?}", request.body);

    // A channel beside it that is open keeps to the fields, and so does what is kept.
    let both = json!({"name": "person.created", "id": "both", "channels": ["private-encrypted-vault", "news"],
        "data": {"name": "Ada", "secret": SECRET}});
    api.post("/v1/events", both).await.expect_status(202);
    let vault = session.expect_on("person.created", "private-encrypted-vault", SOON).await;
    assert_eq!(vault.data()["secret"], SECRET, "what is in an encrypted channel was touched");
    assert_eq!(session.expect_on("person.created", "news", SOON).await.data(), json!({"name": "Ada"}));
    let logged = eventually(SOON, || async {
        let event = api.get("/v1/events/both").await;
        (event.status == 200).then_some(event)
    });
    assert_eq!(logged.await["data"], json!({"name": "Ada"}));
}
