//! Addresses that the server refuses: private ones in every spelling, with the running server's default settings.

use std::path::Path;

use serde_json::{Value, json};
use tidings_testkit::{Receiver, Server, eventually, server};

use crate::kit::{SOON, attempted, attempts, hook, listener, only_settled, open, publish};

/// A host name that the server's own hosts file maps to loopback.
const INSIDE: &str = "inside.partner.example";
/// A host name that it maps to another address of this machine.
const BESIDE: &str = "beside.partner.example";

fn port(receiver: &Receiver) -> u16 {
    receiver.addr().port()
}

// covers: S01, S02, S03, S04, S05, S06, S15
#[tokio::test]
async fn an_address_that_is_not_public_is_refused_when_it_is_set() {
    let receiver = Receiver::start();
    let server = server().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let port = port(&receiver);
    let at_the_port = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "foo.localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0x7f000001",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127.255.255.254",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
    ];
    let elsewhere = [
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[::ffff:169.254.169.254]",
        "[2001:0:1::1]",
        "[3fff::1]",
    ];
    let urls = at_the_port
        .iter()
        .map(|host| format!("http://{host}:{port}/in"))
        .chain(elsewhere.iter().map(|host| format!("http://{host}/latest/")))
        // A back slash ends the host, whatever stands behind it.
        .chain([format!("http://127.0.0.1:{port}\\@partner.example/")]);
    for url in urls {
        let refused = api.post("/v1/listeners", json!({"url": url, "hooks": ["e"]})).await;
        assert!(
            refused.status == 422 && refused["code"] == "blocked_address",
            "{url}: {} {}",
            refused.status,
            refused.text()
        );
        assert_eq!(refused["field"], "url", "{url}");
        assert!(
            refused.text().contains("--egress-allow"),
            "{url}: how it could be allowed is not said: {}",
            refused.text()
        );
    }
    assert!(api.get("/v1/listeners").await["data"].as_array().unwrap().is_empty());
    // The same holds for a change.
    let public = listener(&api, json!({"url": "https://partner.example/", "hooks": ["e"]})).await;
    let change = json!({"url": receiver.url("/in")});
    let refused = api.patch(&format!("/v1/listeners/{}", public.id), change).await.expect_status(422);
    assert_eq!(refused["code"], "blocked_address");
    assert_eq!(receiver.connections(), 0, "somebody dialled");
}

// covers: S13, S14, I05
#[tokio::test]
async fn other_schemes_users_and_ports_are_refused_without_repeating_a_password() {
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    for url in [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/_",
        "javascript:1",
        "//127.0.0.1/",
        "http://",
        "",
        "http://ada:hunter2@127.0.0.1:9/",
        "http://ada@partner.example:hunter2@127.0.0.1/",
        "http://[fe80::1%25eth0]/",
        "http://256.1.1.1/",
        "http://127.0.0.1:25/",
        "http://127.0.0.1:6379/",
        "http://127.0.0.1:0/",
    ] {
        let refused = api.post("/v1/listeners", json!({"url": url, "hooks": ["e"]})).await;
        assert_eq!(refused.status, 422, "{url}: {}", refused.text());
        assert!(!refused.text().contains("hunter2"), "a password was repeated: {}", refused.text());
    }
    assert!(!server.stderr().contains("hunter2"), "a password was logged: {}", server.stderr());
    // Look-alike letters are shown as what they are; fragments do not exist on the wire.
    let shown = api
        .post("/v1/listeners", json!({"url": "https://pаrtner.example/in#x", "hooks": ["e"]}))
        .await
        .expect_status(201);
    assert!(shown.text_at("url").starts_with("https://xn--"), "{}", shown.text());
    assert!(!shown.text_at("url").contains('#'), "{}", shown.text());
}

// covers: S15
#[tokio::test]
async fn what_is_allowed_works_and_only_that() {
    let receiver = Receiver::start();
    let server = server().egress_allow("127.0.0.1/32").start().await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    listener(&api, json!({"url": format!("http://localhost:{}/name", port(&receiver)), "hooks": ["e"]})).await;
    publish(&api, "e", json!({})).await;
    receiver.wait_for(2, |_| true, SOON).await;
    for host in ["127.0.0.2", "10.0.0.1", "[::1]", "169.254.169.254"] {
        let refused = api.post("/v1/listeners", json!({"url": format!("http://{host}/"), "hooks": ["e"]})).await;
        assert_eq!((refused.status, &refused["code"]), (422, &json!("blocked_address")), "{host}");
    }
}

/// A server that knows [`INSIDE`] and [`BESIDE`] from a hosts file of its own, which is mounted over the system's for
/// this process only.
async fn server_with_names(dir: &Path, arguments: &[&str]) -> Server {
    let hosts = dir.join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost {INSIDE}\n127.0.0.2 {BESIDE}\n")).unwrap();
    let over = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    let wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", &over, "sh"];
    server().wrapper(wrapper).args(arguments.iter().copied()).start().await
}

async fn outcome(server: &Server, url: &str) -> Value {
    let api = server.api();
    let made = listener(&api, json!({"url": url, "hooks": ["e"], "schedule": ["0s"]})).await;
    let delivery = only_settled(&api, &publish(&api, "e", json!({})).await).await;
    let attempts = attempts(&api, &delivery).await;
    assert_eq!(delivery["state"], "undelivered", "{attempts:?}");
    api.delete(&format!("/v1/listeners/{}", made.id)).await.expect_status(204);
    attempts[0].clone()
}

// covers: S07, S16, S18, S19
#[tokio::test]
async fn a_name_that_leads_inside_is_refused_when_it_is_called_and_says_nothing_of_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let server = server_with_names(dir.path(), &[]).await;
    let api = server.api();
    hook(&api, "e").await;
    // An open port, and one that nobody listens at.
    let closed = tidings_testkit::free_port();
    let mut said = Vec::new();
    for host in [INSIDE, BESIDE] {
        for port in [port(&receiver), closed] {
            let attempt = outcome(&server, &format!("http://{host}:{port}/in")).await;
            assert_eq!(attempt["outcome"], "blocked_address", "{host}: {attempt}");
            assert!(
                attempt["remote"].is_null() && attempt["response_body"].as_str().unwrap_or_default().is_empty(),
                "{attempt}"
            );
            said.push(attempt["error"].as_str().unwrap().to_owned());
        }
    }
    assert!(said[0].contains("--egress-allow"), "{said:?}");
    assert!(said.iter().all(|error| *error == said[0]), "open and closed can be told apart: {said:?}");
    assert!(!said[0].contains("127.0.0.1"), "the address of a name was told: {}", said[0]);

    // A test goes the same way.
    let url = format!("http://{INSIDE}:{}/in", port(&receiver));
    let made = listener(&api, json!({"url": url, "hooks": ["e"], "schedule": ["0s"]})).await;
    let test = api.post(&format!("/v1/listeners/{}/test", made.id), json!({})).await.expect_status(202);
    let delivery = only_settled(&api, &test.text_at("id")).await;
    assert_eq!(delivery["id"], test["delivery"]);
    assert_eq!(attempts(&api, &delivery).await[0]["outcome"], "blocked_address");
    // So does a retry by hand.
    api.post(&format!("/v1/deliveries/{}/retry", test.text_at("delivery")), json!({})).await.expect_status(202);
    let (_, twice) = attempted(&api, &test.text_at("id"), 2).await;
    assert_eq!(twice[1]["outcome"], "blocked_address", "{twice:?}");
    assert_eq!(receiver.connections(), 0, "somebody dialled");
}

// covers: S15
#[tokio::test]
async fn a_name_that_leads_inside_works_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let server = server_with_names(dir.path(), &["--egress-allow", "127.0.0.0/8"]).await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": format!("http://{INSIDE}:{}/in", port(&receiver)), "hooks": ["e"]})).await;
    publish(&api, "e", json!({})).await;
    let host = receiver.wait_for(1, |_| true, SOON).await[0].header("host").map(str::to_owned);
    assert_eq!(host, Some(format!("{INSIDE}:{}", port(&receiver))));
}

// covers: S17
#[tokio::test]
async fn a_url_that_changed_meanwhile_is_judged_as_it_is_when_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Receiver::start(), Receiver::start());
    first.respond_otherwise(tidings_testkit::Answer::status(500));
    let server = server_with_names(dir.path(), &["--egress-allow", "127.0.0.1/32"]).await;
    let api = server.api();
    hook(&api, "e").await;
    let schedule = json!(["0s", "1s", "100ms"]);
    let made = listener(&api, json!({"url": first.url("/in"), "hooks": ["e"], "schedule": schedule})).await;
    let event = publish(&api, "e", json!({})).await;
    attempted(&api, &event, 1).await;
    // Where a name leads cannot be judged when it is set; when it is called, it can.
    let url = format!("http://{BESIDE}:{}/in", port(&second));
    api.patch(&format!("/v1/listeners/{}", made.id), json!({"url": url})).await.expect_status(200);
    let (_, made_attempts) = attempted(&api, &event, 2).await;
    assert_eq!(made_attempts[1]["outcome"], "blocked_address", "{made_attempts:?}");
    assert_eq!((first.total(), second.connections()), (1, 0));
}

/// An address that was allowed when the listener was made may be refused later.
// covers: S17
#[tokio::test]
async fn after_a_restart_without_the_permission_a_retry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.respond_otherwise(tidings_testkit::Answer::status(500));
    let mut first = open().alone().dir(dir.path()).start().await;
    let api = first.api();
    hook(&api, "e").await;
    let schedule = json!(["0s", "1s", "100ms"]);
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "schedule": schedule})).await;
    let event = publish(&api, "e", json!({})).await;
    attempted(&api, &event, 1).await;
    first.terminate().await.expect_code(0);
    let before = receiver.connections();
    let second = server().alone().dir(dir.path()).start().await;
    let (_, made) = attempted(&second.api(), &event, 3).await;
    assert!(made[1..].iter().all(|attempt| attempt["outcome"] == "blocked_address"), "{made:?}");
    assert_eq!(receiver.connections(), before, "somebody dialled");
    eventually(SOON, || async { (only_settled(&second.api(), &event).await["state"] == "undelivered").then_some(()) })
        .await;
}
