//! The lines that a server prints for a newcomer to paste, run by a shell in another folder.

use std::process::Output;

use serde_json::Value;
use tidings_testkit::{Server, own_environment, tidings};
use tokio::process::Command;

use crate::kit::{SOON, open, run_json};

/// Runs the line after "paste this" from another folder, without our variables in the environment.
async fn paste(server: &Server, starts: &str) -> Output {
    let said = server.stdout();
    let lines: Vec<&str> = said.lines().collect();
    let before =
        lines.iter().position(|line| line.contains(starts)).unwrap_or_else(|| panic!("no {starts:?} in\n{said}"));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", lines[before + 1].trim()]).current_dir(elsewhere.path());
    own_environment(command.as_std_mut());
    command.output().await.unwrap()
}

#[tokio::test]
async fn the_line_to_paste_shows_an_event_arriving() {
    let server = open().start().await;
    let output = paste(&server, "paste this into another terminal").await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("published evt_") && text.contains("on disk"), "{text}");
    assert!(text.contains("hello") && text.contains(r#"{"to":"world"}"#), "the list shows the event: {text}");
    // Pasted twice, it is still one event.
    assert!(paste(&server, "paste this into another terminal").await.status.success());
    assert_eq!(run_json(&server, &["event", "list"]).await["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn the_line_for_webhooks_makes_a_listener_that_hears() {
    let server = open().start().await;
    let output = paste(&server, "Webhooks to this machine").await;
    assert!(output.status.success(), "{output:?}");
    let listeners = run_json(&server, &["listener", "list"]).await;
    let made = &listeners["data"][0];
    assert_eq!(made["url"].as_str().map(|url| url.trim_end_matches('/')), Some("http://127.0.0.1:9000"), "{listeners}");
    // Somebody may have port 9000, so it listens elsewhere here.
    let listening = tidings(&server).args(["listen", "0"]).start();
    let line = listening.wait_for_line(|line| line.contains("receiving webhooks on"), SOON).await;
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let id = made["id"].as_str().unwrap();
    run_json(&server, &["listener", "update", id, "--url", url]).await;
    let output = paste(&server, "paste this into another terminal").await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 delivery"), "{output:?}");
    let line = listening.wait_for_line(|line| line.contains("  hello  "), SOON).await;
    assert!(line.contains("NOT VERIFIED: no --secret was given"), "{line}");
}

#[tokio::test]
async fn without_the_permission_it_says_what_is_missing() {
    let server = tidings_testkit::server().start().await;
    let said = server.stdout();
    assert!(said.contains("start the server with --egress-allow 127.0.0.0/8"), "{said}");
    let output = paste(&server, "Webhooks to this machine").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--egress-allow"), "{output:?}");
    let hooks: Value = run_json(&server, &["hook", "list"]).await;
    assert_eq!(hooks["data"][0]["name"], "hello", "{hooks}");
}
