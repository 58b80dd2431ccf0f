//! The command line: each form is parsed as documented.

use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

use super::args::{Cli, Command};
use super::hook::{self, HookCommand};
use super::listener::{self, ListenerCommand};
use super::token;
use crate::credentials::Credentials;

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("tidings").chain(line.iter().copied()))
}

#[test]
fn the_definitions_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_form_is_understood() {
    let forms: &[&[&str]] = &[
        &[],
        &[
            "--config",
            "tidings.toml",
            "--listen",
            "127.0.0.1:0",
            "--egress-allow",
            "127.0.0.0/8",
            "--egress-allow",
            "10.0.0.1",
        ],
        &["serve"],
        &[
            "serve",
            "--config",
            "t.toml",
            "--listen",
            "localhost:80",
            "--egress-allow",
            "::1/128,10.0.0.0/8",
            "--log",
            "json",
        ],
        &["--log", "text", "serve", "--listen", "[::]:0"],
        &["init"],
        &["init", "--config", "other.toml"],
        &["check"],
        &["check", "--config", "other.toml"],
        &["publish", "--event", "hello"],
        &[
            "publish",
            "a",
            "b",
            "--event",
            "hello",
            "--data",
            "{}",
            "--id",
            "e1",
            "--order-key",
            "k",
            "--idempotency-key",
            "i",
            "--except",
            "1.2",
        ],
        &["pub", "-e", "hello", "-d", "-"],
        &["publish", "--event", "hello", "--data", "-5"],
        &["publish", "--event", "hello", "--data", "@file", "--url", "http://h", "--key", "k", "--json"],
        &["--url", "http://h", "--key", "k", "publish", "--event", "hello"],
        &["listen", "9000"],
        &["listen", "9000", "--secret", "whsec_x", "--status", "500"],
        &["hook", "list", "--limit", "10", "--cursor", "c"],
        &["hook", "ls"],
        &["hook", "show", "h"],
        &["hook", "get", "h"],
        &[
            "hook",
            "create",
            "h",
            "--field",
            "name",
            "--field",
            "age:integer",
            "--description",
            "d",
            "--schema",
            "@f",
            "--timeout",
            "15s",
            "--schedule",
            "0s,5s",
        ],
        &["hook", "new", "h", "--no-fields"],
        &["hook", "add", "h"],
        &["hook", "update", "h", "--all-fields", "--timeout", "none"],
        &["hook", "delete", "h"],
        &["hook", "rm", "h"],
        &["hook", "remove", "h"],
        &["listener", "list", "--hook", "h", "--owner", "o", "--enabled", "false"],
        &["listener", "ls", "--enabled"],
        &["listener", "show", "l"],
        &[
            "listener",
            "create",
            "--url",
            "http://r",
            "--hook",
            "a",
            "--hook",
            "b.*",
            "--match",
            "{}",
            "--secret",
            "whsec_x",
            "--header",
            "X-A: b",
            "--rate",
            "5",
            "--concurrency",
            "2",
            "--order",
            "fifo",
            "--timeout",
            "5s",
            "--schedule",
            "0s,5s",
            "--disabled",
            "--owner",
            "o",
            "--description",
            "d",
        ],
        &["listener", "add", "--url", "http://r", "--hook", "a", "--server", "http://s", "--key", "k", "--json"],
        &["listener", "update", "l", "--enabled", "--rate", "none"],
        &["listener", "delete", "l"],
        &["listener", "test", "l"],
        &["listener", "test", "l", "--event", "e", "--data", "{}"],
        &["listener", "rotate-secret", "l", "--secret", "whsec_x", "--grace", "0s"],
        &["delivery", "list", "--state", "undelivered", "--listener", "l", "--event", "e", "--limit", "5"],
        &["delivery", "show", "d"],
        &["delivery", "attempts", "d"],
        &["delivery", "retry", "d"],
        &["event", "list", "--name", "n", "--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"],
        &["events", "ls", "--channel", "c"],
        &["event", "show", "e", "--json"],
        &["subscribe", "a", "#u", "--json"],
        &["sub", "a", "--url", "http://h", "--key", "k"],
        &["token"],
        &["token", "--sub", "u", "--channel", "a", "--channel", "b", "--expires-in", "1h", "--info", "{}"],
        &["channel", "list", "--prefix", "room-", "--limit", "5", "--cursor", "c"],
        &["channel", "ls"],
        &["channel", "show", "a", "--history", "10"],
    ];
    for form in forms {
        if let Err(error) = parse(form) {
            panic!("tidings {}: {error}", form.join(" "));
        }
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let forms: &[&[&str]] = &[
        &["frobnicate"],
        &["publish"],
        &["publish", "--evnt", "x"],
        &["--listen", "here"],
        &["--egress-allow", "lan"],
        &["listen"],
        &["listen", "99999"],
        &["listen", "9000", "--status", "99"],
        &["hook"],
        &["subscribe"],
        &["token", "--info", "{}"],
        &["channel", "show"],
        &["channel", "show", "a", "--history", "0"],
        &["hook", "create", "h", "--field", "a", "--no-fields"],
        &["listener", "create", "--order", "some"],
        &["listener", "update", "l", "--enabled", "--disabled"],
        &["listener", "update", "l", "--rate", "fast"],
        &["delivery", "list", "--state", "lost"],
        &["event", "list", "--limit", "0"],
        &["event", "list", "--name", "n", "--channel", "c"],
    ];
    for form in forms {
        let code = parse(form).err().map(|error| error.exit_code());
        assert_eq!(code, Some(2), "tidings {}", form.join(" "));
    }
}

fn listener_body(line: &[&str]) -> Value {
    match parse(line).unwrap().command {
        Some(Command::Listener {
            command: ListenerCommand::Create { fields, .. } | ListenerCommand::Update { fields, .. },
        }) => listener::body_of(&fields),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listeners_flags_are_the_apis_fields() {
    let line = [
        "listener",
        "create",
        "--url",
        "http://r",
        "--hook",
        "a",
        "--hook",
        "b",
        "--match",
        r#"{"n":1}"#,
        "--header",
        "X-A: b:c",
        "--rate",
        "5",
        "--schedule",
        "0s, 5s",
        "--disabled",
        "--owner",
        "o",
        "--timeout",
        "3s",
    ];
    let expected = json!({
        "url": "http://r", "hooks": ["a", "b"], "match": {"n": 1}, "headers": {"X-A": "b:c"}, "rate": 5,
        "schedule": ["0s", "5s"],
        "enabled": false, "owner": "o", "timeout": "3s",
    });
    assert_eq!(listener_body(&line), expected);
    assert_eq!(
        listener_body(&["listener", "update", "l", "--rate", "none", "--owner", "none", "--enable"]),
        json!({"rate": null, "owner": null, "enabled": true})
    );
    assert_eq!(listener_body(&["listener", "update", "l"]), json!({}));
}

#[test]
fn a_hooks_flags_are_the_apis_fields() {
    let body = |line: &[&str]| match parse(line).unwrap().command {
        Some(Command::Hook { command: HookCommand::Create(args) | HookCommand::Update(args) }) => hook::body_of(&args),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        body(&[
            "hook",
            "create",
            "h",
            "--field",
            "name",
            "--field",
            "age:integer",
            "--timeout",
            "5s",
            "--schedule",
            "0s"
        ]),
        json!({"fields": ["name", {"name": "age", "type": "integer"}],
            "defaults": {"timeout": "5s", "schedule": ["0s"]}})
    );
    assert_eq!(body(&["hook", "create", "h", "--no-fields"]), json!({"fields": []}));
    assert_eq!(body(&["hook", "update", "h", "--all-fields"]), json!({"fields": null}));
    assert_eq!(body(&["hook", "create", "h"]), json!({}));
}

#[test]
fn a_tokens_flags_are_the_apis_fields() {
    let body = |line: &[&str]| match parse(line).unwrap().command {
        Some(Command::Token(args)) => token::body_of(&args),
        other => panic!("{other:?}"),
    };
    assert_eq!(body(&["token"]), json!({}));
    let line = ["token", "--user", "u", "--channel", "a", "--channel", "#b,c", "--expires-in", "90s", "--info", "[1]"];
    assert_eq!(body(&line), json!({"sub": "u", "channels": ["a", "#b,c"], "expires_in": "90s", "info": [1]}));
}

#[test]
fn what_init_writes_passes_check() {
    let nothing = Vec::<(&str, &str)>::new();
    let text = super::init::text(&Credentials::default()).unwrap();
    let loaded = crate::config::parse("tidings.toml", &text, &nothing).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(!text.contains("{{") && text != super::init::text(&Credentials::default()).unwrap(), "secrets are fresh");
    // With its commented lines enabled, the template is still a valid config.
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.split(' ').nth(1) == Some("=")).unwrap_or(line))
        .collect();
    crate::config::parse("tidings.toml", &uncommented.join("\n"), &nothing)
        .unwrap_or_else(|problems| panic!("{problems}"));
}

// covers: G341
#[test]
fn init_takes_the_app_of_the_first_start_over() {
    let nothing = Vec::<(&str, &str)>::new();
    let parse = |text: &str| {
        crate::config::parse("tidings.toml", text, &nothing).unwrap_or_else(|problems| panic!("{problems}")).settings
    };
    let made =
        crate::first_start::complete(&mut parse(""), Credentials { app_id: "7".into(), ..Default::default() }, false);
    let made = made.unwrap();
    let settings = parse(&super::init::text(&made).unwrap());
    let [app] = settings.apps.as_slice() else { panic!("not one app") };
    assert_eq!(
        (app.id.as_str(), app.key.as_str(), app.secret.expose()),
        ("7", made.key.as_str(), made.secret.as_str())
    );
    assert!(app.default && app.api_keys[0].matches(&made.api_key) && app.tokens.can_issue());
    assert!(super::init::text(&made).unwrap().contains(&format!("token_hmac_secret = \"{}\"", made.token_hmac_secret)));
    assert!(settings.operator_key.unwrap().matches(&made.operator_key));
    // A credentials file that was edited by hand: quoted as TOML requires.
    let odd = Credentials { secret: "a\"b\\c-a-secret-of-some-length".into(), ..made };
    assert_eq!(parse(&super::init::text(&odd).unwrap()).apps[0].secret.expose(), odd.secret);
}
