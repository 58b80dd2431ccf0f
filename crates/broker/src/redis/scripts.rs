//! The scripts: every write to a channel is one of them.

use std::sync::LazyLock;

use redis::{Cmd, Script};

use super::arguments::Arguments;
use super::keys::{self, KeySpace};
use super::servers::RedisConnection;

/// A script of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScriptKind {
    Publish,
    Join,
    Leave,
    Reap,
    Count,
    Resync,
    State,
    Members,
    History,
    Cached,
}

impl ScriptKind {
    /// As the log names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Reap => "reap",
            Self::Count => "count",
            Self::Resync => "resync",
            Self::State => "state",
            Self::Members => "members",
            Self::History => "history",
            Self::Cached => "cached",
        }
    }
}

/// A script's text, and its hash, by which Redis calls it.
struct NamedScript {
    text: &'static str,
    script: Script,
}

impl NamedScript {
    fn new(text: &'static str) -> Self {
        Self { text, script: Script::new(text) }
    }
}

macro_rules! of_channel {
    ($file:literal) => {
        NamedScript::new(concat!(include_str!("scripts/channel.lua"), include_str!(concat!("scripts/", $file))))
    };
}

/// The scripts of channels, in the order of [`ScriptKind`].
static OF_CHANNEL: LazyLock<[NamedScript; 10]> = LazyLock::new(|| {
    [
        of_channel!("publish.lua"),
        of_channel!("join.lua"),
        of_channel!("leave.lua"),
        of_channel!("reap.lua"),
        of_channel!("count.lua"),
        of_channel!("resync.lua"),
        of_channel!("state.lua"),
        of_channel!("members.lua"),
        of_channel!("history.lua"),
        of_channel!("cached.lua"),
    ]
});
static GENERATION: LazyLock<NamedScript> = LazyLock::new(|| NamedScript::new(include_str!("scripts/generation.lua")));
static HEARTBEAT: LazyLock<NamedScript> = LazyLock::new(|| NamedScript::new(include_str!("scripts/heartbeat.lua")));

/// A call of a channel's script, with the script's own arguments.
#[derive(Debug, Clone)]
pub(super) struct ScriptCall {
    kind: ScriptKind,
    arguments: Arguments,
    /// The event's bytes. They follow the named arguments, which saves a copy.
    event: Option<Vec<u8>>,
}

/// The arguments that every script of a channel gets.
pub(super) struct CallContext<'a> {
    pub(super) pubsub_channel: &'a str,
    /// The node whose sessions the script reads or changes.
    pub(super) node: &'a str,
    /// Redis' time, in milliseconds.
    pub(super) now: i64,
    /// 16 random hexadecimal digits.
    pub(super) random: &'a str,
    /// The letters of the kinds of transitions to record.
    pub(super) transitions: &'a str,
}

impl ScriptCall {
    pub(super) fn new(kind: ScriptKind) -> Self {
        Self::with(kind, Arguments::default())
    }

    pub(super) fn with(kind: ScriptKind, arguments: Arguments) -> Self {
        Self { kind, arguments, event: None }
    }

    pub(super) fn publish(arguments: Arguments, event: Vec<u8>) -> Self {
        Self { kind: ScriptKind::Publish, arguments, event: Some(event) }
    }

    pub(super) fn kind(&self) -> ScriptKind {
        self.kind
    }

    pub(super) fn command(&self, conn: &RedisConnection, context: &CallContext<'_>) -> Cmd {
        let keys = keys::of_channel(context.pubsub_channel, context.node);
        let mut command = redis::cmd("EVALSHA");
        command.arg(OF_CHANNEL[self.kind as usize].script.get_hash()).arg(keys.len());
        command.arg(&keys);
        let arguments = self
            .arguments
            .clone()
            .count("generation", conn.generation)
            .number("now", context.now)
            .text("pubsub_channel", context.pubsub_channel)
            .text("publish_command", conn.server.publish_command())
            .text("random", context.random)
            .text("transitions", context.transitions);
        command.arg(arguments.packed()).arg(&self.event);
        command
    }
}

/// Asks for the generation of the server's data: a new one if the run id has changed, and at least `newest`.
pub(super) fn generation(keyspace: &KeySpace, run_id: &str, newest: u64) -> Cmd {
    let arguments = Arguments::default().text("run_id", run_id).count("newest", newest);
    eval(&GENERATION, &[&keyspace.generation()], &arguments)
}

/// A node's heartbeat.
pub(super) fn heartbeat(keyspace: &KeySpace, node: &str, lease_ms: i64) -> Cmd {
    let arguments = Arguments::default().text("node", node).number("lease", lease_ms);
    eval(&HEARTBEAT, &[&keyspace.nodes(), &keyspace.generation()], &arguments)
}

fn eval(known: &NamedScript, keys: &[&str], arguments: &Arguments) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(known.script.get_hash()).arg(keys.len());
    command.arg(keys).arg(arguments.packed());
    command
}

/// Loads all scripts into a server.
pub(super) fn load() -> redis::Pipeline {
    let mut all = redis::pipe();
    for known in OF_CHANNEL.iter().chain([&*GENERATION, &*HEARTBEAT]) {
        all.cmd("SCRIPT").arg("LOAD").arg(known.text).ignore();
    }
    all
}
