//! No secret is on the disk, in the log or in answers: searched as text, as bytes and as base64.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tidings_testkit::{Answer, Receiver, Server};

use crate::kit::{attempted, hook, listener, open, publish};

const HEADER: &str = "Bearer the-partners-own-password-5517";
const OWN_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Searches the bytes as they are, and in hexadecimal, as a dump of PostgreSQL has them.
fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    let hex: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
    let has = |needle: &[u8]| haystack.windows(needle.len()).any(|window| window == needle);
    has(needle) || has(hex.as_bytes())
}

// covers: K01, K02, K03
#[tokio::test]
async fn no_secret_is_on_the_disk_in_the_log_or_in_an_answer() {
    let receiver = Receiver::start();
    receiver.respond_sequence("/in", vec![Answer::status(500), Answer::status(204)]);
    let mut server = open().env("TIDINGS_LOG", "trace").start().await;
    let api = server.api();
    hook(&api, "e").await;
    let fields = json!({"url": receiver.url("/in"), "hooks": ["e"], "headers": {"Authorization": HEADER},
        "schedule": ["0s", "50ms"]});
    let made = listener(&api, fields).await;
    let own = listener(&api, json!({"url": receiver.url("/own"), "hooks": ["e"], "secret": OWN_SECRET})).await;
    let rotated = api.post(&format!("/v1/listeners/{}/rotate_secret", own.id), json!({"grace": "1h"})).await;
    let rotated = rotated.expect_status(200).text_at("secret");
    api.patch(&format!("/v1/listeners/{}", made.id), json!({"description": "changed"})).await.expect_status(200);
    let event = publish(&api, "e", json!({"n": 1})).await;
    crate::kit::settled(&api, &event).await;
    assert_eq!(receiver.received_on("/in")[0].header("authorization"), Some(HEADER));

    // Answers: only the one that made it shows a secret, none shows a header's value.
    let mut answers = String::new();
    for path in [
        "/v1/listeners".to_owned(),
        format!("/v1/listeners/{}", made.id),
        format!("/v1/listeners/{}", own.id),
        "/v1/deliveries".to_owned(),
        format!("/v1/events/{event}"),
        "/metrics".to_owned(),
        "/readyz".to_owned(),
    ] {
        answers += &api.get(&path).await.expect_status(200).text();
    }
    for delivery in crate::kit::settled(&api, &event).await {
        let id = delivery["id"].as_str().unwrap();
        answers += &api.get(&format!("/v1/deliveries/{id}/attempts")).await.expect_status(200).text();
    }
    for body in [
        json!({"secret": OWN_SECRET, "headers": {"a b": HEADER}}),
        json!({"url": receiver.url("/in"), "hooks": ["x"], "secret": OWN_SECRET, "headers": {"X": HEADER}}),
        json!({"secrte": OWN_SECRET}),
    ] {
        answers += &api.post("/v1/listeners", body.clone()).await.expect_status(422).text();
        answers += &api.patch(&format!("/v1/listeners/{}", made.id), body).await.text();
    }
    let wrong = api.with_key(&format!("{}x", server.credentials.api_key)).get("/v1/listeners").await.expect_status(401);
    answers += &wrong.text();
    assert!(answers.contains("\"***\""), "that there is a header is shown");

    let log = format!("{}{}", server.stdout(), server.stderr());
    server.terminate().await.expect_code(0);
    let log = log + &server.stderr();
    assert!(log.contains("INFO"), "there is no log: the test proves nothing");
    let credentials = server.credentials.clone();
    let keys = [&credentials.api_key, &credentials.operator_key, &credentials.secret, &credentials.admin_password];
    for (what, text) in [("an answer", &answers), ("the log", &log)] {
        for secret in [made.secret.as_str(), OWN_SECRET, &rotated, HEADER].into_iter().chain(keys.map(String::as_str)) {
            let bare = secret.trim_start_matches("whsec_");
            assert!(!text.contains(bare), "{what} shows {secret}: {text}");
        }
    }

    let named =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap());
    let mut kept: Vec<(String, Vec<u8>)> = files(&server.dir).into_iter().map(named).collect();
    kept.extend(server.database().map(|database| ("the database".to_owned(), database.dump().into_bytes())));
    let mut looked = 0;
    for (name, bytes) in kept {
        looked += bytes.len();
        for secret in [made.secret.as_str(), OWN_SECRET, &rotated] {
            let bare = secret.trim_start_matches("whsec_");
            assert!(!holds(&bytes, bare.as_bytes()), "{name} holds a secret as text");
            let raw = STANDARD.decode(bare).unwrap();
            assert!(!holds(&bytes, &raw), "{name} holds a secret's bytes");
        }
        assert!(!holds(&bytes, HEADER.as_bytes()), "{name} holds a header's value");
        assert!(!holds(&bytes, STANDARD.encode(HEADER).as_bytes()), "{name} holds a header's value in base64");
        // The keys are in the file that is theirs, and nowhere else.
        if name != "credentials.toml" {
            for key in keys {
                assert!(!holds(&bytes, key.as_bytes()), "{name} holds a key of the API");
            }
        }
    }
    assert!(looked > 10_000, "only {looked} bytes were looked through");
}

/// With another main key the secrets cannot be read, and the server says so.
// covers: K01
#[tokio::test]
async fn without_its_main_key_a_database_is_not_served() {
    let mut server = open().alone().start().await;
    hook(&server.api(), "e").await;
    listener(&server.api(), json!({"url": "https://partner.example/", "hooks": ["e"]})).await;
    server.terminate().await.expect_code(0);
    std::fs::remove_file(server.data_dir().join("main.key")).unwrap();
    let exit = tidings_testkit::server().dir(&server.dir).run_to_exit().await.expect_code(1);
    assert!(exit.stderr.contains("main.key") || exit.stderr.contains("key"), "{}", exit.stderr);
}

/// A receiver may echo its request. The answer is shown unchanged to the listener's owner only, and not stored at all
/// if so configured.
// covers: R14
#[tokio::test]
async fn what_a_receiver_echoes_stays_with_its_attempts() {
    let receiver = Receiver::start();
    receiver.answer_with("/in", |request| {
        let echo = request.header("authorization").unwrap_or_default().to_owned();
        Answer::status(500).header("x-echo", &echo).body(echo)
    });
    for (kept, server) in [(true, open()), (false, open().env("TIDINGS__COURIER__KEEP_ANSWERS", "false"))] {
        let server = server.start().await;
        echoed(&server, &receiver, kept).await;
    }
}

async fn echoed(server: &Server, receiver: &Receiver, kept: bool) {
    let api = server.api();
    hook(&api, "e").await;
    let fields =
        json!({"url": receiver.url("/in"), "hooks": ["e"], "headers": {"Authorization": HEADER}, "schedule": ["0s"]});
    listener(&api, fields).await;
    let event = publish(&api, "e", json!({})).await;
    let (delivery, attempts) = attempted(&api, &event, 1).await;
    assert!(!delivery.to_string().contains(HEADER), "{delivery}");
    assert_eq!(attempts[0]["status"], 500);
    assert_eq!(attempts[0]["response_body"].as_str().is_some_and(|body| body.contains(HEADER)), kept, "{attempts:?}");
    assert_eq!(attempts[0]["response_headers"].to_string().contains(HEADER), kept, "{attempts:?}");
    assert!(!server.stderr().contains(HEADER), "{}", server.stderr());
}
