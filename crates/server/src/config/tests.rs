//! The config as people write it: the settings that are read, and the problems that are reported.

use std::time::Duration;

use super::top::DEFAULT_LISTEN;
use super::*;
use crate::settings::{Settings, StoreSettings};

mod keys;
mod live;
mod tls;

/// The config of the design document, verbatim.
const DESIGN: &str = include_str!("tests/design.toml");

fn read(text: &str) -> Result<Loaded, Problems> {
    parse("tidings.toml", text, &Vec::<(&str, &str)>::new())
}

/// SQLite's path, and whether commits are synced.
#[track_caller]
fn kept(settings: &Settings) -> (&str, bool) {
    match &settings.store {
        StoreSettings::Sqlite { path, durable } => (path.to_str().unwrap(), *durable),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn settings(text: &str) -> Settings {
    read(text).unwrap_or_else(|problems| panic!("{problems}")).settings
}

/// Asserts the problems of `text`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = match read(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected, "{text}");
}

#[track_caller]
fn check_env(text: &str, env: &[(&str, &str)], expected: &[&str]) {
    let found = match parse("tidings.toml", text, &env.to_vec()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected, "{text} {env:?}");
}

#[test]
fn the_designs_example_is_understood() {
    let loaded = read(DESIGN).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(kept(settings), ("tidings-data/tidings.db", true));
    assert_eq!(settings.courier.schedule, tidings_model::schedule::Schedule::default());
    assert_eq!(settings.apps.len(), 1);
    assert_eq!(settings.apps[0].limits.payload, 10 * 1024);
    assert!(settings.apps[0].secret.matches("app-secret"));
    assert!(settings.operator_key.is_none(), "an empty key opens nothing");
    let chat = settings.apps[0].namespaces.options("presence-chat-1");
    assert_eq!((chat.history_size, chat.history_ttl), (100, Duration::from_secs(300)));
    assert_eq!(settings.apps[0].namespaces.options("news").history_size, 0);

    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    for section in ["admin.password_hash", "egress.topics", "websub", "pages", "outbox", "apps[0].accounts"] {
        let about = format!(": {section} has no effect in this version");
        assert_eq!(warnings.iter().filter(|warning| warning.contains(&about)).count(), 1, "{section}: {warnings:#?}");
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    let settings = settings("");
    assert_eq!(settings.listen, DEFAULT_LISTEN);
    assert_eq!(kept(&settings).0, "tidings-data/tidings.db");
    assert_eq!(settings.main_key_file.to_str(), Some("tidings-data/main.key"));
    assert_eq!(settings.courier.timeout, Duration::from_secs(15));
    assert_eq!(settings.courier.lease, Duration::from_secs(120));
    assert_eq!((settings.keep.age, settings.keep.bytes), (Duration::from_secs(30 * 86_400), 10 << 30));
    assert!(settings.egress.allow.is_empty() && settings.apps.is_empty());
}

#[test]
fn unknown_keys_are_named_with_their_place_and_the_nearest_right_one() {
    check("listn = \"x\"", &["tidings.toml:1:1: unknown key \"listn\" at the top level; did you mean \"listen\"?"]);
    check(
        "[courier]\n\n  timeuot = \"5s\"",
        &["tidings.toml:3:3: unknown key \"timeuot\" in [courier]; did you mean \"timeout\"?"],
    );
    check(
        "[retension]\nevents = \"1d\"",
        &["tidings.toml:1:2: unknown key \"retension\" at the top level; did you mean \"retention\"?"],
    );
    check(
        "[[apps]]\nid = \"1\"\nkey = \"k\"\n[apps.limits]\npaylod = 1",
        &["tidings.toml:5:1: unknown key \"paylod\" in [apps[0].limits]; did you mean \"payload\"?"],
    );
    check(
        "[store]\nzzz = 1",
        &["tidings.toml:2:1: unknown key \"zzz\" in [store]; the keys are url, sync, connections, statement_timeout"],
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    check(
        "listen = 8000\nheader_timeout = \"soon\"\n[store]\nurl = \"mysql://db\"\nsnyc = \"full\"\n[egress]\n\
        allow = [\"10.0.0.0/8\", \"lan\"]\n[retention]\nbytes = \"10 gigs\"",
        &[
            "tidings.toml:1:10: listen: must be a string, not a number",
            "tidings.toml:2:18: header_timeout: \"soon\" is not a time; write a whole number and a unit (ms, s, m, h \
            or d), such as 500ms, 30s or 24h",
            "tidings.toml:4:1: the store's URL must begin with sqlite://, as in sqlite://tidings-data/tidings.db, or \
            with postgres://",
            "tidings.toml:5:1: unknown key \"snyc\" in [store]; did you mean \"sync\"?",
            "tidings.toml:7:24: \"lan\" is not a network; write it as 10.0.0.0/8, or as fd00::/8",
            "tidings.toml:9:9: retention.bytes: \"10 gigs\" is not a size; write it as \"10KiB\", \"64MiB\" or \
            \"10GiB\"",
        ],
    );
}

#[test]
fn a_value_that_may_be_a_secret_is_not_repeated() {
    check(
        "[admin]\noperator_key = 12345678",
        &["tidings.toml:2:16: admin.operator_key: must be a string or { file = \"…\" }, not a number"],
    );
    let problem =
        read("[[apps]]\nid = \"1\"\nkey = \"k\"\napi_keys = [\"hunter2hunter2hunter2\", \"hunter2hunter2hunter2\"]")
            .unwrap_err();
    assert_eq!(problem.to_string(), "tidings.toml:4:38: this API key is listed twice");
}

#[test]
fn postgres_is_understood_and_its_password_not_shown() {
    let text = "[store]\nurl = \"postgres://u:sesame@db/t\"\nconnections = 4\nstatement_timeout = \"3s\"";
    let settings = settings(text);
    let StoreSettings::Postgres { url, options } = &settings.store else { panic!("{:?}", settings.store) };
    assert_eq!(url.expose(), "postgres://u:sesame@db/t");
    assert_eq!((options.connections, options.statement_timeout), (4, Duration::from_secs(3)));
    assert!(!format!("{:?}", settings.store).contains("sesame"));
    check("[store]\nconnections = 4", &["tidings.toml:2:1: store.connections is for PostgreSQL; SQLite has none"]);
    check(
        "[store]\nurl = \"postgres://db/t\"\nsync = \"normal\"",
        &["tidings.toml:3:1: store.sync = \"normal\" is for SQLite; PostgreSQL always syncs"],
    );
}

#[test]
fn a_broker_of_several_nodes_needs_a_store_of_several_nodes() {
    let expected = "broker.url is Redis, for several nodes, but store.url is SQLite, which belongs to one: each node \
        would have its own listeners and deliveries; set store.url to postgres://…, or broker.url to memory://";
    check("[broker]\nurl = \"redis://r\"", &[&format!("tidings.toml:2:1: {expected}")]);
    check(
        "[store]\nurl = \"sqlite://a/b.db\"\n[broker]\nurl = \"rediss://r\"",
        &[&format!("tidings.toml:4:1: {expected}")],
    );
    let variables = vec![("TIDINGS__BROKER__URL", "redis://r")];
    let problems = parse("tidings.toml", "", &variables).unwrap_err();
    assert_eq!(problems.to_string(), format!("TIDINGS__BROKER__URL: {expected}"));
    // An unreadable URL is not taken for SQLite.
    check(
        "[store]\nurl = \"mysql://db\"\n[broker]\nurl = \"redis://r\"",
        &["tidings.toml:2:1: the store's URL must begin with sqlite://, as in sqlite://tidings-data/tidings.db, or \
            with postgres://"],
    );
    let both = read("[store]\nurl = \"postgres://db/t\"\n[broker]\nurl = \"redis://r\"").unwrap();
    assert!(both.warnings.is_empty(), "{:?}", both.warnings);
    settings("[store]\nurl = \"postgres://db/t\"");
}

#[test]
fn what_is_not_toml_is_placed() {
    check("listen = \"x", &["tidings.toml:1:12: invalid basic string, expected `\"`"]);
}

#[test]
fn schemes_and_values_that_cannot_be_served_are_errors() {
    for other in ["nats://r", "redis+sentinel://r", "redis"] {
        check(
            &format!("[broker]\nurl = \"{other}\""),
            &["tidings.toml:2:1: the broker's URL must be memory://, or begin with redis:// or redis+cluster:// \
                (with TLS rediss:// or rediss+cluster://)"],
        );
    }
    check(
        "store.url = \"postgres://db/t\"\n[broker]\nurl = \"redis://r\"\nlease = \"1s\"\ntimeout = \"2h\"",
        &["tidings.toml:4:1: broker.lease must be 3s to 600s", "tidings.toml:5:1: broker.timeout must be 100ms to 60s"],
    );
    check("[store]\nsync = \"off\"", &["tidings.toml:2:1: store.sync must be \"full\" or \"normal\", not \"off\""]);
    check(
        "listen = \"here\"",
        &["tidings.toml:1:1: \"here\" is not an address and a port; write it as 127.0.0.1:8000, 0.0.0.0:8000 or \
            [::]:8000"],
    );
    check(
        "[courier]\nlease = \"5ms\"",
        &["tidings.toml:2:1: courier.lease must be at least 1s, or slow attempts would be made twice"],
    );
    check("[courier]\nconcurrency = 0", &["tidings.toml:2:1: courier.concurrency must be 1 to 256, not 0"]);
    check(
        "[courier]\nschedule = []",
        &["tidings.toml:2:1: schedule: it is empty; write [\"0s\"] for one attempt without retries"],
    );
    check(
        "[admin]\npassword_hash = \"hunter2\"",
        &["tidings.toml:2:1: admin.password_hash must be an argon2id hash, which begins with $argon2id$; a password \
            itself does not belong here"],
    );
    check("[retention]\nevents = \"5m\"", &["tidings.toml:2:1: retention.events must be at least 1h"]);
    check(
        "[egress]\nproxy = \"https://p\"",
        &["tidings.toml:2:1: the proxy's own URL must begin with http://; requests through it may still use https"],
    );
}

#[test]
fn apps_must_be_told_apart() {
    let two = "[[apps]]\nid = \"1\"\nkey = \"k\"\nhosts = [\"a.example\"]\ndefault = true\n[[apps]]\nid = \"1\"\n\
        key = \"k\"\nhosts = [\"A.example\"]\ndefault = true";
    check(
        two,
        &[
            "tidings.toml:7:1: this id belongs to apps[0] already; each id names one app",
            "tidings.toml:8:1: this key belongs to apps[0] already; each key names one app",
            "tidings.toml:9:10: this host belongs to apps[0] already; each host names one app",
            "tidings.toml:10:1: only one app can be the default, and app \"1\" is",
        ],
    );
    check(
        "[[apps]]\nid = \"a/b\"",
        &[
            "tidings.toml:1:1: an app needs a key; it is public, and unique among the apps",
            "tidings.toml:2:1: an app's id has 1 to 64 characters from A-Z, a-z, 0-9, - and _",
        ],
    );
    check(
        "[[apps]]\nid = \"1\"\nkey = \"k\"\ndoors = [\"apii\"]",
        &["tidings.toml:4:10: apps[0].doors: unknown variant `apii`, expected one of `api`, `pusher`, `centrifugo`, \
            `websub`, `accounts`"],
    );
}

#[test]
fn a_single_app_is_the_default_one() {
    assert!(settings("[[apps]]\nid = \"1\"\nkey = \"k\"").apps[0].default);
    assert!(!settings("[[apps]]\nid = \"1\"\nkey = \"k\"\n[[apps]]\nid = \"2\"\nkey = \"l\"").apps[0].default);
}

#[test]
fn a_key_for_tokens_is_of_the_kind_that_it_is_said_to_be() {
    let app = "[[apps]]\nid = \"1\"\nkey = \"k\"\n";
    let keys = settings(keys::EVERY_KEY).apps[0].tokens.clone();
    assert!(
        keys.can_issue() && format!("{keys:?}").contains("PublicKey(Rsa), PublicKey(Ec), PublicKey(Ed)"),
        "{keys:?}"
    );
    assert!(settings(app).apps[0].tokens.is_empty());
    check(
        &format!("{app}token_rsa_public_key = \"hunter2\"\ntoken_ed25519_public_key = \"-----BEGIN PRIVATE KEY-----\""),
        &[
            "tidings.toml:4:1: this is not an RSA public key in PEM; it begins with -----BEGIN PUBLIC KEY-----",
            "tidings.toml:5:1: this is a private key, which belongs on the app's servers only; put the public one \
            here, and make a new pair",
        ],
    );
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let config = format!("[admin]\noperator_key = {{ file = \"{}\" }}", path.display());
    check(
        &config,
        &[&format!(
            "tidings.toml:2:1: the secret's file {} cannot be read: No such file or directory (os error 2)",
            path.display()
        )],
    );
    std::fs::write(&path, "a key\nof two lines\n\n").unwrap();
    assert!(
        settings(&config).operator_key.unwrap().matches("a key\nof two lines\n"),
        "one newline is trimmed, not two"
    );
    std::fs::write(&path, "\n").unwrap();
    check(&config, &[&format!("tidings.toml:2:1: the secret's file {} cannot be read: it is empty", path.display())]);
}

#[test]
fn variables_win_over_the_file() {
    let env = vec![
        ("TIDINGS__STORE__URL", "sqlite:///var/lib/t.db"),
        ("tidings__courier__schedule", "0s, 2s"),
        ("TIDINGS__COURIER__CONCURRENCY", "3"),
        ("TIDINGS__EGRESS__ALLOW", "10.0.0.0/8"),
        ("TIDINGS__EGRESS__HTTPS_ONLY", "true"),
        ("TIDINGS__EGRESS__DENY_PORTS", "[22, 25]"),
        ("TIDINGS__APPS__Main__SECRET", "12345"),
        ("TIDINGS__APPS__MAIN__LIMITS__PAYLOAD", "1MiB"),
        ("TIDINGS__APPS__MAIN__API_KEYS", "one-key-of-this-app,another-key-of-this-app"),
        ("TIDINGS_PORT", "tcp://10.0.0.1:8000"),
    ];
    let text = "[courier]\nconcurrency = 5\n[[apps]]\nid = \"main\"\nkey = \"k\"\nsecret = { file = \"/none\" }";
    let settings = parse("tidings.toml", text, &env).unwrap_or_else(|problems| panic!("{problems}")).settings;
    assert_eq!(kept(&settings).0, "/var/lib/t.db");
    assert_eq!(settings.courier.schedule.delays(), [Duration::ZERO, Duration::from_secs(2)]);
    assert_eq!(settings.courier.concurrency, 3);
    assert_eq!(settings.egress.allow.len(), 1);
    assert!(settings.egress.https_only);
    assert_eq!(settings.egress.deny_ports, vec![22, 25]);
    assert!(settings.apps[0].secret.matches("12345"), "a secret of digits is a text");
    assert_eq!(settings.apps[0].limits.payload, 1 << 20);
    assert_eq!(settings.apps[0].api_keys.len(), 2);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    check_env(
        "",
        &[("TIDINGS__STORE__URI", "x")],
        &["TIDINGS__STORE__URI: unknown key \"uri\"; did you mean \"url\"?"],
    );
    check_env(
        "",
        &[("TIDINGS__COURIER__TIMEOUT", "5")],
        &["TIDINGS__COURIER__TIMEOUT: \"5\" is not a time; write a whole number and a unit (ms, s, m, h or d), such \
            as 500ms, 30s or 24h"],
    );
    check_env(
        "",
        &[("TIDINGS__STORE__URL", "mysql://x")],
        &["TIDINGS__STORE__URL: the store's URL must begin with sqlite://, as in sqlite://tidings-data/tidings.db, \
            or with postgres://"],
    );
    check_env(
        "",
        &[("TIDINGS__COURIER__CONCURRENCY", "many")],
        &["TIDINGS__COURIER__CONCURRENCY: must be a whole number, not a string"],
    );
    check_env(
        "",
        &[("TIDINGS__APPS__2__SECRET", "x")],
        &["TIDINGS__APPS__2__SECRET: names the app \"2\", but the config file has no [[apps]]"],
    );
    check_env(
        "[[apps]]\nid = \"1\"\nkey = \"k\"",
        &[("TIDINGS__APPS__2__SECRET", "x")],
        &["TIDINGS__APPS__2__SECRET: names the app \"2\", which is not in the config file; its apps are 1"],
    );
    check_env(
        "",
        &[("TIDINGS__STORE____URL", "x")],
        &["TIDINGS__STORE____URL: is not the name of a key; sections and keys are parted by two underscores, as in \
            TIDINGS__STORE__URL"],
    );
}
