//! The command line as users type it: README.md, exit codes, stdout and stderr, and the verifying receiver.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Answer, Cli, Receiver, tidings};

use crate::kit::{SOON, attempted, hook, listener, open, publish, run, run_json};

/// README.md: "Webhooks in a minute", with its own lines except for the port.
#[tokio::test]
async fn the_readme_works_as_it_is_written() {
    let server = open().start().await;
    run(&server, &["hook", "create", "person.created", "--field", "name", "--field", "address"]).await;
    // The port must be known before the secret is, so a free one is found first.
    let port = tidings_testkit::free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let words =
        ["listener", "create", "--url", &url, "--hook", "person.created", "--match", r#"{"name":{"starts_with":"J"}}"#];
    let made = run(&server, &words).await.stdout;
    let secret =
        made.lines().find_map(|line| line.strip_prefix("secret:")).expect("the secret is shown").trim().to_owned();
    let listening = tidings(&server).args(["listen", &port.to_string(), "--secret", &secret]).start();
    listening.wait_for_line(|line| line.contains("receiving webhooks on"), SOON).await;
    let person = r#"{"name":"Joe","address":"Bergen","secret":"x"}"#;
    let said = run(&server, &["publish", "--event", "person.created", "--data", person]).await.stdout;
    assert!(said.contains("on disk; 1 delivery"), "{said}");
    let line = listening.wait_for_line(|line| line.contains("person.created"), SOON).await;
    assert!(line.ends_with("verified") && !line.contains("NOT"), "{line}");
    listening.wait_for_line(|line| line.contains("\"address\": \"Bergen\""), SOON).await;
    assert!(!listening.stdout().contains("\"secret\""), "{}", listening.stdout());
    listening.interrupt().await.expect_code(0);

    // "Stop `listen`, publish again, start it again: the event arrives on the next attempt."
    run(&server, &["publish", "--event", "person.created", "--id", "again", "--data", person]).await;
    attempted(&server.api(), "again", 1).await;
    let listening = tidings(&server).args(["listen", &port.to_string(), "--secret", &secret]).start();
    let line = listening.wait_for_line(|line| line.contains("again"), Duration::from_secs(40)).await;
    assert!(line.ends_with("verified") && !line.contains("NOT"), "{line}");
    listening.interrupt().await.expect_code(0);
}

/// README.md: "The same over HTTP", with curl.
#[tokio::test]
async fn the_readmes_curl_line_works_as_it_is_written() {
    let server = open().start().await;
    hook(&server.api(), "person.created").await;
    let line = r#"curl -sS "$URL/v1/events" -H "Authorization: Bearer $API_KEY" -H "Idempotency-Key: order-17" -d '{"name":"person.created","data":{"name":"Joe"}}'"#;
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", line]).env("URL", &server.url).env("API_KEY", &server.credentials.api_key);
    let output = command.output().await.unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(
        (&said["logged"], &said["durable"], &said["deliveries"]),
        (&json!(true), &json!(true), &json!(0)),
        "{said}"
    );
    assert!(said["id"].as_str().unwrap().starts_with("evt_"), "{said}");
}

#[tokio::test]
async fn listen_shouts_at_what_is_not_to_be_believed() {
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let wrong = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let listening = tidings(&server).args(["listen", "0", "--secret", wrong, "--status", "500"]).start();
    let line = listening.wait_for_line(|line| line.contains("receiving webhooks on"), SOON).await;
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    listener(&api, json!({"url": url, "hooks": ["e"], "schedule": ["0s"]})).await;
    let event = publish(&api, "e", json!({"n": 1})).await;
    let line = listening.wait_for_line(|line| line.contains(&event), SOON).await;
    assert!(line.contains("NOT VERIFIED: "), "{line}");
    assert!(!listening.stdout().contains(wrong), "a secret was printed");
    let (_, made) = attempted(&api, &event, 1).await;
    assert_eq!(made[0]["status"], 500, "it answers what it was told to: {made:?}");
}

#[tokio::test]
async fn delivery_attempts_show_why_and_retry_mends() {
    let receiver = Receiver::start();
    receiver.respond("/in", Answer::status(503).body("closed for lunch"));
    let server = open().start().await;
    run(&server, &["hook", "create", "e"]).await;
    let made =
        run_json(&server, &["listener", "create", "--url", &receiver.url("/in"), "--hook", "e", "--schedule", "0s"])
            .await;
    let event = run_json(&server, &["publish", "--event", "e", "--data", "1"]).await["id"].as_str().unwrap().to_owned();
    attempted(&server.api(), &event, 1).await;
    let list =
        run(&server, &["delivery", "list", "--state", "undelivered", "--listener", made["id"].as_str().unwrap()]).await;
    let delivery = list.stdout.split_whitespace().find(|word| word.starts_with("dlv_")).expect("a delivery").to_owned();
    let shown = run(&server, &["delivery", "attempts", &delivery]).await.stdout;
    for part in ["http_status", "503", "answered 503 Service Unavailable", &receiver.addr().to_string()] {
        assert!(shown.contains(part), "no {part} in\n{shown}");
    }
    let whole = run_json(&server, &["delivery", "attempts", &delivery]).await;
    assert_eq!(whole["data"][0]["response_body"], "closed for lunch", "{whole}");
    receiver.respond("/in", Answer::status(204));
    run(&server, &["delivery", "retry", &delivery]).await;
    let (_, made) = attempted(&server.api(), &event, 2).await;
    assert_eq!(made[1]["outcome"], "delivered", "{made:?}");
    let shown = run_json(&server, &["delivery", "show", &delivery]).await;
    assert_eq!(
        (&shown["state"], &shown["attempts"], &shown["last_error"]),
        (&json!("delivered"), &json!(2), &json!(null)),
        "{shown}"
    );
}

#[tokio::test]
async fn lists_are_paged_and_every_word_of_a_listener_arrives() {
    let server = open().start().await;
    for name in ["a.b", "a.c", "b"] {
        run(&server, &["hook", "create", name]).await;
    }
    let first = tidings(&server).args(["hook", "list", "--limit", "2"]).run().await.expect_code(0);
    assert!(first.stdout.contains("a.b") && !first.stdout.contains("\nb "), "{}", first.stdout);
    let cursor = first.stderr.split_whitespace().last().expect("where to go on is said").to_owned();
    let second = run(&server, &["hook", "list", "--limit", "2", "--cursor", &cursor]).await.stdout;
    assert!(second.contains("\nb ") && !second.contains("a.b"), "{second}");

    let words = [
        "listener",
        "create",
        "--url",
        "https://partner.example/in",
        "--hook",
        "a.*",
        "--hook",
        "b",
        "--match",
        r#"{"n":1}"#,
        "--header",
        "X-Team: a",
        "--rate",
        "10",
        "--concurrency",
        "4",
        "--order",
        "fifo",
        "--timeout",
        "2s",
        "--schedule",
        "0s,5s",
        "--owner",
        "o",
        "--description",
        "d",
        "--disabled",
    ];
    let made = run_json(&server, &words).await;
    let id = made["id"].as_str().unwrap();
    let shown = run_json(&server, &["listener", "show", id]).await;
    let expected = json!({
        "url": "https://partner.example/in", "hooks": ["a.*", "b"], "match": {"n": 1}, "rate": 10, "concurrency": 4,
        "order": "fifo",
        "timeout": "2s", "schedule": ["0s", "5s"], "owner": "o", "description": "d", "enabled": false,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert_eq!(shown["headers"], json!({"X-Team": "***"}), "{shown}");
    let changed =
        run_json(&server, &["listener", "update", id, "--enabled", "--rate", "none", "--schedule", "none"]).await;
    assert_eq!(
        (&changed["enabled"], &changed["rate"], &changed["schedule"]),
        (&json!(true), &json!(null), &json!(null))
    );
    let rotated = run_json(&server, &["listener", "rotate-secret", id, "--grace", "0s"]).await;
    assert!(
        rotated["secret"].as_str().unwrap().starts_with("whsec_") && rotated["secret"] != made["secret"],
        "{rotated}"
    );
    run(&server, &["listener", "delete", id]).await;
    tidings(&server).args(["listener", "show", id]).run().await.expect_code(1);
}

/// 0 done, 1 failed, 2 usage error; results on stdout, everything else on stderr; secrets on neither.
// covers: K01
#[tokio::test]
async fn exit_codes_and_errors_are_what_the_page_says() {
    let server = open().start().await;
    run(&server, &["hook", "create", "person.created"]).await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let failed: [&[&str]; 6] = [
        &["hook", "create", "person.created"],
        &["hook", "show", "nothing"],
        &["listener", "create", "--url", "http://10.0.0.1/", "--hook", "person.created", "--secret", secret],
        &[
            "listener",
            "create",
            "--url",
            "http://127.0.0.1:9/",
            "--hook",
            "person.craeted",
            "--header",
            "X-Key: hunter2",
        ],
        &["delivery", "retry", "dlv_nothing"],
        &["publish", "--event", "person created"],
    ];
    for words in failed {
        let exit = tidings(&server).args(words.iter().copied()).run().await.expect_code(1);
        assert!(exit.stdout.is_empty() && exit.stderr.starts_with("error: "), "{words:?}: {exit:?}");
        assert!(!exit.stderr.contains("hunter2") && !exit.stderr.contains(secret), "{words:?}: {}", exit.stderr);
    }
    let blocked = tidings(&server).args(failed[2].iter().copied()).run().await;
    assert!(blocked.stderr.contains("--egress-allow 10.0.0.1/32"), "{}", blocked.stderr);
    let misspelt = tidings(&server).args(failed[3].iter().copied()).run().await;
    assert!(misspelt.stderr.contains("did you mean \"person.created\"?"), "{}", misspelt.stderr);

    let unclear: [&[&str]; 6] = [
        &["pubish"],
        &["publish"],
        &["publish", "--event", "e", "--data", "{not json"],
        &["listener", "create", "--hook", "e"],
        &["hook", "update", "e"],
        &["listen", "99999"],
    ];
    for words in unclear {
        let exit = tidings(&server).args(words.iter().copied()).run().await.expect_code(2);
        assert!(exit.stdout.is_empty() && !exit.stderr.is_empty(), "{words:?}: {exit:?}");
    }

    // A wrong key, and a server that is not there.
    let wrong = tidings(&server).args(["hook", "list", "--key", "not-the-key"]).run().await.expect_code(1);
    assert!(!wrong.stderr.contains("not-the-key"), "{}", wrong.stderr);
    let nobody = format!("127.0.0.1:{}", tidings_testkit::free_port());
    let words = ["hook", "list", "--url", &format!("http://{nobody}"), "--key", "k"].map(str::to_owned);
    let absent = Cli::in_dir(&server.dir).args(words).run().await.expect_code(1);
    assert!(absent.stderr.contains(&nobody.to_string()), "{}", absent.stderr);
}
