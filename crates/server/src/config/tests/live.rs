//! The keys of live sessions: the settings that they become, and the problems of wrong values.

use tidings_model::app::AppLimits;
use tidings_model::channel::ChannelOptions;

use super::*;
use crate::settings::{ConnectionSettings, LiveSettings};

const APP: &str = "[[apps]]\nid = \"1\"\nkey = \"k\"\napi_keys = [\"a-key-that-is-long\"]\n";

fn app(text: &str) -> tidings_model::app::App {
    settings(&format!("{APP}{text}")).apps.remove(0)
}

/// Asserts the problems of an app with `text` after its first four lines.
#[track_caller]
fn check_app(text: &str, expected: &[&str]) {
    check(&format!("{APP}{text}"), expected);
}

#[test]
fn nothing_written_means_the_defaults() {
    let settings = settings("");
    assert_eq!(settings.live, LiveSettings::default());
    assert!(settings.tls.is_none());
    let ConnectionSettings { max, max_per_ip, trusted_proxies, .. } = settings.connections;
    assert_eq!((max, max_per_ip, trusted_proxies.len()), (100_000, None, 0));
    let app = app("");
    assert_eq!(app.limits, AppLimits::default());
    assert_eq!(app.allowed_origins, ["*"]);
    assert!(app.client_events);
    assert_eq!(**app.namespaces.options("news"), ChannelOptions::default());
}

#[test]
fn what_is_written_holds_and_nothing_warns() {
    let text = format!(
        "max_connections_per_ip = 5\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n[live]\nshards = 2\nsessions = 7\n\
        session_queue = \"64KiB\"\nsend_buffer = \"32KiB\"\nreceive_buffer = \"16KiB\"\nuser_timeout = \"0s\"\n\
        inbox = \"1MiB\"\nactivity_timeout = \"2s\"\npong_timeout = \"3s\"\nrejoin_within = \"40s\"\n\
        {APP}allowed_origins = [\"HTTPS://Example.com:443\", \"https://*.example.com\"]\nclient_events = false\n\
        authorize_within = \"9s\"\n[apps.limits]\nbatch = 20\nmember_id = 64\nwatchlist = 3\nsessions = 3\n\
        channels_per_session = 4\nmessage = \"4KiB\"\nclient_events_per_second = 5\nmember_info = \"6kB\"\nhistory = 0"
    );
    let loaded = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let settings = loaded.settings;
    assert_eq!((settings.connections.max_per_ip, settings.connections.trusted_proxies.len()), (Some(5), 2));
    let live = LiveSettings {
        shards: 2,
        sessions: tidings_live::Settings {
            sessions: 7,
            session_queue: 64 << 10,
            send_buffer: 32 << 10,
            user_timeout: Duration::ZERO,
            inbox_bytes: 1 << 20,
            inbox_age: Duration::from_secs(1),
            door_timeout: Duration::from_secs(5),
        },
        receive_buffer: 16 << 10,
        activity_timeout: 2,
        pong_timeout: 3,
        rejoin_within: Duration::from_secs(40),
    };
    assert_eq!(settings.live, live);
    let app = &settings.apps[0];
    assert_eq!(app.allowed_origins, ["https://example.com", "https://*.example.com"]);
    assert!(!app.client_events);
    assert_eq!(app.authorize_within, Some(Duration::from_secs(9)));
    let limits = AppLimits {
        sessions: 3,
        channels_per_session: 4,
        message: 4 << 10,
        client_events_per_second: 5,
        batch: 20,
        member_id: 64,
        member_info: 6_000,
        watchlist: 3,
        history: 0,
        ..AppLimits::default()
    };
    assert_eq!(app.limits, limits);
}

#[test]
fn a_namespace_has_what_it_says_and_defaults() {
    let app = app("[apps.channels]\npublic = false\nhistory_size = 9\nevent_name = \"said\"\n[[apps.namespaces]]\n\
        name = \"chat\"\nmatch = [\"presence-chat-\"]\nhistory_size = 100\nhistory_ttl = \"1h\"\nreplay = 5\n\
        presence = true\njoin_leave = true\nevent_name = \"chat\"\ncache_ttl = \"1m\"\nsubscription_count = true\n\
        max_members = 7\n[[apps.namespaces]]\nname = \"bare\"");
    let chat = ChannelOptions {
        public: true,
        history_size: 100,
        history_ttl: Duration::from_secs(3_600),
        replay: 5,
        presence: true,
        join_leave: true,
        event_name: "chat".to_owned(),
        cache_ttl: Some(Duration::from_secs(60)),
        subscription_count: true,
        max_members: 7,
    };
    assert_eq!(**app.namespaces.options("chat:1"), chat);
    assert_eq!(**app.namespaces.options("presence-chat-1"), chat);
    let rest =
        ChannelOptions { public: false, history_size: 9, event_name: "said".to_owned(), ..ChannelOptions::default() };
    assert_eq!(**app.namespaces.options("news"), rest);
    assert_eq!(**app.namespaces.options("bare:1"), ChannelOptions::default(), "nothing is inherited");
}

#[test]
fn more_than_is_kept_cannot_be_given() {
    let warned = |text: &str| {
        let text = format!("{APP}[apps.channels]\n{text}");
        read(&text).unwrap_or_else(|problems| panic!("{problems}")).warnings.len()
    };
    assert_eq!(warned("history_size = 5\nreplay = 6"), warned("history_size = 5\nreplay = 5") + 1);
    check_app(
        "authorize_within = \"0s\"",
        &["tidings.toml:5:1: authorize_within must be longer than 0s, as in \"30s\"; leave the key out for no \
            limit"],
    );
}

#[test]
fn namespaces_that_cannot_be_told_apart_are_errors() {
    check_app(
        "[[apps.namespaces]]\nname = \"a\"\nmatch = [\"x-\", \"\", \"x-\"]\n[[apps.namespaces]]\nname = \"bb\"\n\
        match = [\"x-\"]\n[[apps.namespaces]]\nname = \"bb\"\n[[apps.namespaces]]\nmatch = []",
        &[
            "tidings.toml:6:1: a namespace's name has at least 2 characters from A-Z, a-z, 0-9, - and _",
            "tidings.toml:7:16: an empty prefix would match every channel; put options for all other channels in \
            [apps.channels]",
            "tidings.toml:7:20: the prefix \"x-\" is listed already; each prefix can belong to one namespace",
            "tidings.toml:10:10: the prefix \"x-\" is listed already; each prefix can belong to one namespace",
            "tidings.toml:12:1: there are two namespaces \"bb\" in this app",
            "tidings.toml:13:1: a namespace needs a name",
        ],
    );
}

#[test]
fn values_that_cannot_be_served_are_errors() {
    check(
        "trusted_proxies = [\"proxy\"]\n[live]\nshards = 2000\nsession_queue = \"1KiB\"\nuser_timeout = \"25h\"",
        &[
            "tidings.toml:1:20: \"proxy\" is not a network; write it as 10.0.0.0/8, or as fd00::/8",
            "tidings.toml:3:1: live.shards must be 0 to 1024, not 2000",
            "tidings.toml:4:1: live.session_queue must be 4096 to 1073741824, not 1024",
            "tidings.toml:5:1: live.user_timeout must be at most 24h; 0s leaves it to the system",
        ],
    );
    check_app(
        "allowed_origins = [\"*\", \"example.com\"]\n[apps.limits]\nchannels_per_session = 0\n\
        client_events_per_second = 0\n[apps.channels]\nhistory_ttl = \"0s\"\nevent_name = \"\"\nmax_members = 0",
        &[
            "tidings.toml:5:25: \"example.com\" is not an origin; write it as https://example.com, \
            https://example.com:8443, https://*.example.com or *",
            "tidings.toml:7:1: apps[0].limits.channels_per_session must be 1 to 1000000, not 0",
            "tidings.toml:8:1: apps[0].limits.client_events_per_second must be 1 to 1000000, not 0",
            "tidings.toml:10:1: history_ttl must be longer than 0s",
            "tidings.toml:11:1: an event's name has 1 to 200 bytes",
            "tidings.toml:12:1: apps[0].channels.max_members must be 1 to 1000000, not 0",
        ],
    );
    check_app(
        "[apps.channels]\nhistory_sise = 1",
        &["tidings.toml:6:1: unknown key \"history_sise\" in [apps[0].channels]; did you mean \"history_size\"?"],
    );
}

#[test]
fn variables_reach_these_keys_too() {
    let env = vec![
        ("TIDINGS__TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8"),
        ("TIDINGS__LIVE__SHARDS", "3"),
        ("TIDINGS__APPS__1__CHANNELS__HISTORY_SIZE", "5"),
        ("TIDINGS__APPS__1__ALLOWED_ORIGINS", "https://a.example,https://b.example"),
    ];
    let settings = parse("tidings.toml", APP, &env).unwrap_or_else(|problems| panic!("{problems}")).settings;
    assert_eq!(settings.connections.trusted_proxies.len(), 2);
    assert_eq!(settings.live.shards, 3);
    assert_eq!(settings.apps[0].namespaces.options("x").history_size, 5);
    assert_eq!(settings.apps[0].allowed_origins.len(), 2);
}
