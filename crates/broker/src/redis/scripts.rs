//! The scripts: every write to a channel is one of them.

use std::sync::LazyLock;

use redis::{Cmd, Script};

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

/// A script's text, and the name that Redis gives it.
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

/// In the order of [`ScriptKind`].
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

/// A script and its own arguments.
#[derive(Debug, Clone)]
pub(super) struct ScriptCall {
    kind: ScriptKind,
    args: Vec<Vec<u8>>,
}

impl ScriptCall {
    pub(super) fn new(kind: ScriptKind) -> Self {
        Self { kind, args: Vec::new() }
    }

    pub(super) fn kind(&self) -> ScriptKind {
        self.kind
    }

    pub(super) fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg.as_ref().to_vec());
        self
    }

    pub(super) fn number(self, number: impl std::fmt::Display) -> Self {
        self.arg(number.to_string())
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.arg(if flag { "1" } else { "0" })
    }

    /// The command, about the sessions of `node`; `fresh` is random, with the letters of what is to be noted.
    pub(super) fn command(
        &self,
        pubsub_channel: &str,
        node: &str,
        conn: &RedisConnection,
        now: i64,
        fresh: &str,
    ) -> Cmd {
        let keys = keys::of_channel(pubsub_channel, node);
        let mut command = redis::cmd("EVALSHA");
        command.arg(OF_CHANNEL[self.kind as usize].script.get_hash()).arg(keys.len());
        command.arg(&keys);
        command.arg(conn.generation).arg(now).arg(pubsub_channel).arg(conn.server.publish_command()).arg(fresh);
        command.arg(&self.args);
        command
    }
}

/// Which generation the data is of, now that this server has it: this one at least.
pub(super) fn generation(keyspace: &KeySpace, run_id: &str, newest: u64) -> Cmd {
    eval(&GENERATION, &[&keyspace.generation()], &[run_id, &newest.to_string()])
}

/// A node's heartbeat.
pub(super) fn heartbeat(keyspace: &KeySpace, node: &str, lease_ms: i64) -> Cmd {
    eval(&HEARTBEAT, &[&keyspace.nodes(), &keyspace.generation()], &[node, &lease_ms.to_string()])
}

fn eval(known: &NamedScript, keys: &[&str], args: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(known.script.get_hash()).arg(keys.len());
    command.arg(keys).arg(args);
    command
}

/// What makes a server know all scripts.
pub(super) fn load() -> redis::Pipeline {
    let mut all = redis::pipe();
    for known in OF_CHANNEL.iter().chain([&*GENERATION, &*HEARTBEAT]) {
        all.cmd("SCRIPT").arg("LOAD").arg(known.text).ignore();
    }
    all
}
