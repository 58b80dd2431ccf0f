//! Verifies our signatures with the official libraries of Standard Webhooks and Pusher.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Received;
use crate::pusher::PusherApp;
use crate::server::{clients_dir, repository};

/// The headers of a signature.
const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
/// The headers that Pusher's libraries read.
const PUSHER_HEADERS: [&str; 3] = ["x-pusher-key", "x-pusher-signature", "content-type"];

/// Has the official JavaScript and Python libraries verify each request with `secret` (`whsec_…`).
///
/// # Panics
/// With their output, when one of them refuses a request, cannot run, or isn't installed (`cargo xtask test` installs
/// both).
pub fn verify_with_official_clients(requests: &[Received], secret: &str) {
    judge(requests, "verify", |request| {
        json!({"secret": secret, "headers": headers(request, &HEADERS),
            "body_base64": STANDARD.encode(&request.body)})
    });
}

/// Has Pusher's libraries for JavaScript and Python verify each webhook of an app; returns the events, as the
/// JavaScript library reads them.
///
/// # Panics
/// As [`verify_with_official_clients`] does.
pub fn verify_with_pushers_libraries(webhooks: &[Received], app: &PusherApp) -> Vec<Value> {
    let said = judge(webhooks, "verify_pusher", |request| {
        json!({"key": app.key, "secret": app.secret, "headers": headers(request, &PUSHER_HEADERS),
               "body_base64": STANDARD.encode(&request.body)})
    });
    let events = said[0].lines().map(|line| line.strip_prefix("ok").unwrap_or_default());
    events
        .flat_map(|events| serde_json::from_str::<Vec<Value>>(events).unwrap_or_else(|e| panic!("{e}: {events}")))
        .collect()
}

/// Passes requests to a script in both languages, which must print a line beginning with "ok" for each. Returns their
/// outputs.
fn judge(requests: &[Received], script: &str, line: impl Fn(&Received) -> Value) -> [String; 2] {
    assert!(!requests.is_empty(), "no requests to verify");
    let input: String = requests.iter().map(|request| line(request).to_string() + "\n").collect();
    let clients = clients_dir().unwrap_or_else(|e| panic!("{e:#}"));
    let scripts = repository().join("tests/clients");
    let node_modules = clients.join("node/node_modules");
    let languages = [
        ("node", format!("{script}.js"), "NODE_PATH", node_modules),
        ("python3", format!("{script}.py"), "PYTHONPATH", clients.join("python")),
    ];
    languages.map(|(program, script, variable, library)| {
        let said = run(program, &scripts.join(&script), variable, &library, &input)
            .unwrap_or_else(|e| panic!("{program} {script}: {e:#}"));
        for (number, line) in said.lines().enumerate() {
            assert!(
                line.starts_with("ok"),
                "{program} refuses {}: {line}",
                requests[number.min(requests.len() - 1)].summary()
            );
        }
        assert_eq!(said.lines().count(), requests.len(), "{program} judged fewer requests than it was given:\n{said}");
        said
    })
}

fn headers(request: &Received, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), json!(request.header(name).unwrap_or_default()))).collect()
}

fn run(program: &str, script: &Path, variable: &str, library: &Path, input: &str) -> anyhow::Result<String> {
    let mut child = Command::new(program)
        .arg(script)
        .env(variable, library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start it")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let text = input.to_owned();
    // Written on another thread: with a long input and a long output, both sides would otherwise wait for each other.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().context("cannot read its answers")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {stderr}", output.status);
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?.context("cannot write to it")?;
    String::from_utf8(output.stdout).context("its answers are not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    use standardwebhooks::Webhook;
    use tidings_model::clock::{Clock, SystemClock};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &str = r#"{"type":"person.created","data":{"name":"Åse"}}"#;

    async fn one_request(body: &str) -> Vec<Received> {
        let now = SystemClock::new().wall_ms() / 1000;
        let signature = Webhook::new(SECRET).unwrap().sign("evt_1", now, BODY.as_bytes()).unwrap();
        let receiver = crate::Receiver::start();
        crate::Api::new(&receiver.url(""), "")
            .request(http::Method::POST, "/")
            .body(body.to_owned(), "application/json")
            .header("webhook-id", "evt_1")
            .header("webhook-timestamp", &now.to_string())
            .header("webhook-signature", &signature)
            .await;
        receiver.received()
    }

    #[tokio::test]
    async fn a_good_signature_is_accepted() {
        verify_with_official_clients(&one_request(BODY).await, SECRET);
    }

    #[tokio::test]
    #[should_panic(expected = "refuses")]
    async fn a_changed_body_is_refused() {
        verify_with_official_clients(&one_request(&BODY.replace("Åse", "Eve")).await, SECRET);
    }
}
