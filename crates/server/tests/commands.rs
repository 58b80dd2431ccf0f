//! The commands as a user types them, against a scripted server.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tidings_testkit::{Answer, Cli, Receiver};

fn cli(server: &Receiver, line: &[&str]) -> Cli {
    Cli::elsewhere().args(line.iter().copied()).env("TIDINGS_URL", &server.url("")).env("TIDINGS_API_KEY", "the-key")
}

fn answering(path: &str, status: u16, body: &'static str) -> Receiver {
    let server = Receiver::start();
    server.respond(path, Answer::status(status).body(body));
    server
}

#[tokio::test]
async fn init_writes_once_and_what_it_writes_passes_check() {
    let dir = tempfile::tempdir().unwrap();
    let here = || Cli::in_dir(dir.path());
    here().arg("init").run().await.expect_code(0);
    let path = dir.path().join("tidings.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&path).unwrap();
    let again = here().arg("init").run().await.expect_code(1);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let checked = here().arg("check").run().await.expect_code(0);
    assert!(checked.stdout.starts_with("ok\n") && checked.stdout.contains("127.0.0.1:8000"), "{}", checked.stdout);
    assert!(!dir.path().join("tidings-data").exists(), "check makes nothing");
}

#[tokio::test]
async fn check_says_everything_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tidings.toml"), "listn = \"x\"\n[courier]\ntimeout = \"soon\"\n").unwrap();
    let exit = Cli::in_dir(dir.path()).arg("check").run().await.expect_code(1);
    assert!(
        exit.stderr.contains("tidings.toml:1:1: unknown key \"listn\" at the top level; did you mean \"listen\"?"),
        "{}",
        exit.stderr
    );
    assert!(
        exit.stderr.contains("tidings.toml:3:11: courier.timeout: ") && exit.stderr.contains("2 mistakes"),
        "{}",
        exit.stderr
    );
    let missing = Cli::in_dir(dir.path()).args(["check", "--config", "none.toml"]).run().await.expect_code(1);
    assert!(
        missing.stderr.contains("none.toml: there is no such file; `tidings init` writes one"),
        "{}",
        missing.stderr
    );
}

#[tokio::test]
async fn publish_sends_the_event_and_tells_the_answer() {
    let server = answering("/v1/events", 202, r#"{"id":"evt_1","logged":true,"durable":true,"deliveries":2}"#);
    let line = [
        "publish",
        "room",
        "--event",
        "hello",
        "--data",
        r#"{"to": "world"}"#,
        "--idempotency-key",
        "i-1",
        "--order-key",
        "o",
    ];
    let exit = cli(&server, &line).run().await.expect_code(0);
    assert_eq!(exit.stdout, "published evt_1: on disk; 2 deliveries\n");
    let request = &server.received()[0];
    assert_eq!(request.text(), r#"{"name":"hello","channels":["room"],"data":{"to": "world"},"key":"o"}"#);
    assert_eq!(request.header("authorization"), Some("Bearer the-key"));
    assert_eq!(request.header("idempotency-key"), Some("i-1"));
    let raw = cli(&server, &["publish", "--event", "hello", "--json"]).run().await.expect_code(0);
    assert_eq!(raw.stdout, "{\"id\":\"evt_1\",\"logged\":true,\"durable\":true,\"deliveries\":2}\n");
}

#[tokio::test]
async fn a_refusal_is_told_and_exits_with_1() {
    let problem = r#"{"title":"Unknown hook","status":422,"detail":"there is no hook \"a\"","field":"hooks[0]","remedy":"did you mean \"b\"?"}"#;
    let server = answering("/v1/listeners", 422, problem);
    let exit = cli(&server, &["listener", "create", "--url", "http://r", "--hook", "a"]).run().await.expect_code(1);
    assert_eq!(exit.stderr, "error: there is no hook \"a\"\n  field: hooks[0]\n  remedy: did you mean \"b\"?\n");
}

#[tokio::test]
async fn lists_are_columns() {
    let body = r#"{"data":[{"id":"lst_1","url":"http://r/in","hooks":["a","b.*"],"enabled":true},{"id":"lst_22","url":"http://s","hooks":["c"],"enabled":false,"disabled_reason":"gone"}],"next":"c2"}"#;
    let server = answering("/v1/listeners", 200, body);
    let exit = cli(&server, &["listener", "ls", "--hook", "a b", "--limit", "2"]).run().await.expect_code(0);
    assert_eq!(
        exit.stdout,
        "ID      STATE            HOOKS   URL\nlst_1   enabled          a, b.*  http://r/in\n\
        lst_22  disabled (gone)  c       http://s\n"
    );
    assert_eq!(exit.stderr, "there are more: --cursor c2\n");
    assert_eq!(server.received()[0].query, "hook=a+b&limit=2");
}

#[tokio::test]
async fn deleting_says_so() {
    let server = answering("/v1/hooks/a.b", 204, "");
    let exit = cli(&server, &["hook", "rm", "a.b"]).run().await.expect_code(0);
    assert_eq!(exit.stdout, "hook a.b is deleted\n");
    assert_eq!(server.received()[0].method.as_str(), "DELETE");
}

#[tokio::test]
async fn what_makes_no_sense_exits_with_2() {
    for line in [
        &["frobnicate"][..],
        &["publish"],
        &["publish", "--event", "x", "--data", "{"],
        &["listener", "create"],
        &["--listen", "x"],
        &["listener", "update", "l"],
    ] {
        let exit = Cli::elsewhere().args(line.iter().copied()).run().await.expect_code(2);
        assert!(exit.stderr.starts_with("error: "), "{line:?}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let server = Receiver::start();
    let url = server.url("");
    drop(server);
    let exit = Cli::elsewhere().args(["hook", "list", "--url", &url, "--key", "k"]).run().await.expect_code(1);
    assert!(
        exit.stderr.contains(url.trim_end_matches('/')) && exit.stderr.contains("tidings serve"),
        "{}",
        exit.stderr
    );
    let dir = tempfile::tempdir().unwrap();
    let lost = Cli::in_dir(dir.path()).args(["hook", "list"]).run().await.expect_code(1);
    assert!(lost.stderr.contains("TIDINGS_URL"), "{}", lost.stderr);
}

#[tokio::test]
async fn listen_prints_what_comes_and_ends_when_interrupted() {
    let listen = Cli::elsewhere().args(["listen", "0", "--status", "418"]).start();
    let line = listen.wait_for_line(|line| line.contains("http://127.0.0.1:"), Duration::from_secs(10)).await;
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let api = tidings_testkit::Api::new(url.trim_end_matches('/'), "");
    let reply =
        api.post("/in", serde_json::json!({"type": "person.created", "data": {"name": "Ada"}})).send().await.unwrap();
    assert_eq!(reply.status, 418);
    listen
        .wait_for_line(
            |line| line.contains("person.created") && line.contains("NOT VERIFIED: no --secret was given"),
            Duration::from_secs(10),
        )
        .await;
    listen.wait_for_line(|line| line.contains("\"name\": \"Ada\""), Duration::from_secs(10)).await;
    listen.interrupt().await.expect_code(0);
}

// covers: G351
#[tokio::test]
async fn what_cannot_be_meant_is_refused_or_pointed_out() {
    let server = answering("/v1/events", 202, r#"{"id":"evt_1","logged":false,"durable":false,"deliveries":0}"#);
    let data_as_channel = cli(&server, &["publish", "news", r#"{"to":"world"}"#, "--event", "x"]);
    let exit = data_as_channel.run().await.expect_code(2);
    assert!(exit.stderr.contains("is JSON, not a channel's name; give data with --data"), "{}", exit.stderr);
    assert!(server.received().is_empty(), "nothing was published");
    let exit = cli(&server, &["publish", "a,b", "--event", "x"]).run().await.expect_code(0);
    assert!(exit.stderr.contains("put spaces between them: a b"), "{}", exit.stderr);

    let server = answering("/v1/tokens", 201, r#"{"token":"t","expires_at":"2026-01-01T00:00:00.000Z"}"#);
    let exit = cli(&server, &["token"]).run().await.expect_code(0);
    assert!(exit.stdout == "t\n" && exit.stderr.contains("give a --channel"), "{}", exit.stderr);
    let exit = cli(&server, &["token", "--sub", "u1"]).run().await.expect_code(0);
    assert!(!exit.stderr.contains("give a --channel"), "{}", exit.stderr);
}

// covers: G351, G371
#[tokio::test]
async fn check_points_out_what_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[apps]]\nid = \"1\"\nkey = \"k\"\n[[apps.webhooks]]\nurl = \"http://127.0.0.1:9/hook\"\n\
        events = [\"channel_occupied\"]\n";
    std::fs::write(dir.path().join("tidings.toml"), config).unwrap();
    let check = Cli::in_dir(dir.path()).arg("check");
    let exit = check.env("TIDINGS_STORE_URL", "sqlite://x.db").env("TIDINGS_PORT", "tcp://10.0.0.1:80").run().await;
    let exit = exit.expect_code(0);
    for said in [
        "TIDINGS_STORE_URL: is not read: two underscores separate the parts, as in TIDINGS__STORE__URL",
        "app \"1\": nothing will be sent to webhooks[0]:",
        "--egress-allow 127.0.0.1/32",
    ] {
        assert!(exit.stderr.contains(said), "{said:?} is not in\n{}", exit.stderr);
    }
    assert!(!exit.stderr.contains("TIDINGS_PORT"), "{}", exit.stderr);
}

// covers: G351
#[tokio::test]
async fn a_log_level_that_does_not_exist_stops_the_start() {
    let serve = Cli::elsewhere().args(["serve", "--listen", "127.0.0.1:0"]).env("TIDINGS_LOG", "verbose");
    let exit = serve.run().await.expect_code(1);
    assert!(exit.stderr.contains("TIDINGS_LOG: \"verbose\" is not a level"), "{}", exit.stderr);
}
