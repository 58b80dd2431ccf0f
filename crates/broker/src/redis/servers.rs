//! The servers that have the channels: a single one, or the masters of a cluster; and a connection to one of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionInfo, RedisError, RedisResult};
use tidings_model::channel::ChannelKey;
use tokio::sync::Notify;

use super::keys::{self, KeySpace};

/// What is known of a server that has channels.
pub(super) struct RedisServer {
    pub(super) client: Client,
    pub(super) keyspace: KeySpace,
    /// Whether it belongs to a cluster, which tells messages by the master that has the channel.
    pub(super) is_clustered: bool,
    /// The newest generation that a channel there was found to be of: slots that move bring theirs along.
    pub(super) newest: AtomicU64,
}

/// A server that has channels: the only one, or a master of a cluster.
pub(super) struct Master {
    pub(super) server: Arc<RedisServer>,
    connection: RwLock<Option<Arc<RedisConnection>>>,
}

impl Master {
    /// The only server.
    ///
    /// # Errors
    /// When a connection could never be made.
    pub(super) fn alone(server: ConnectionInfo) -> RedisResult<Self> {
        Self::new(server, KeySpace::alone(), false)
    }

    /// The one of a cluster whose first slot is this.
    ///
    /// # Errors
    /// When a connection could never be made.
    pub(super) fn of_cluster(server: ConnectionInfo, first: u16) -> RedisResult<Self> {
        Self::new(server, KeySpace::in_slot(first), true)
    }

    fn new(server: ConnectionInfo, keyspace: KeySpace, is_clustered: bool) -> RedisResult<Self> {
        let server = RedisServer { client: Client::open(server)?, keyspace, is_clustered, newest: AtomicU64::new(0) };
        Ok(Self { server: Arc::new(server), connection: RwLock::default() })
    }

    /// Whether it is the server at the same address with the same first slot.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let addr = |master: &Self| master.server.client.get_connection_info().addr().to_string();
        addr(self) == addr(other) && self.server.keyspace == other.server.keyspace
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Option<Arc<RedisConnection>> {
        self.connection.read().clone()
    }

    /// Has another connection, or none; answers the one before.
    pub(super) fn set_connection(&self, conn: Option<RedisConnection>) -> Option<Arc<RedisConnection>> {
        std::mem::replace(&mut *self.connection.write(), conn.map(Arc::new))
    }
}

impl RedisServer {
    /// The oldest version that will do, major and minor: messages are told by one master alone since 7.0.
    pub(super) fn oldest(&self) -> (u32, u32) {
        if self.is_clustered { (7, 0) } else { (6, 2) }
    }

    /// How a message is published there.
    pub(super) fn publish_command(&self) -> &'static str {
        if self.is_clustered { "SPUBLISH" } else { "PUBLISH" }
    }

    /// Has what is published there pushed over this connection.
    pub(super) async fn subscribe(
        &self,
        connection: &mut MultiplexedConnection,
        pubsub_channel: &str,
    ) -> RedisResult<()> {
        if !self.is_clustered {
            return connection.subscribe(pubsub_channel).await;
        }
        redis::cmd("SSUBSCRIBE").arg(pubsub_channel).exec_async(connection).await
    }
}

/// A connection that can be used.
pub(super) struct RedisConnection {
    /// Counts this node's connections.
    pub(super) number: u64,
    pub(super) server: Arc<RedisServer>,
    pub(super) multiplexed: MultiplexedConnection,
    /// Which generation of the data it is connected to.
    pub(super) generation: u64,
    /// What this node calls itself.
    pub(super) node: Arc<str>,
    /// Whether it has another name than before, under which its sessions may still stand.
    pub(super) is_renamed: bool,
    /// Whether Redis has kept what this node told it before, so that a member who is missing there was taken out by
    /// others.
    pub(super) is_same_data: bool,
    /// How far the time of Redis is ahead of ours.
    pub(super) ahead: Arc<AtomicI64>,
    /// It is not to be used any more.
    pub(super) given_up: AtomicBool,
    /// What comes over it answers something else than what was asked.
    pub(super) is_confused: AtomicBool,
    /// Rung then.
    pub(super) broken: Notify,
    /// Channels that are being unsubscribed from.
    leaving: Mutex<HashSet<String>>,
}

/// What is found out about a server before a connection to it is used.
pub(super) struct Handshake {
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) node: Arc<str>,
    pub(super) is_renamed: bool,
    pub(super) is_same_data: bool,
    pub(super) ahead: Arc<AtomicI64>,
}

impl RedisConnection {
    pub(super) fn new(server: Arc<RedisServer>, multiplexed: MultiplexedConnection, handshake: Handshake) -> Self {
        let Handshake { number, generation, node, is_renamed, is_same_data, ahead } = handshake;
        Self {
            number,
            server,
            multiplexed,
            generation,
            node,
            is_renamed,
            is_same_data,
            ahead,
            given_up: AtomicBool::new(false),
            is_confused: AtomicBool::new(false),
            broken: Notify::new(),
            leaving: Mutex::default(),
        }
    }

    /// Has the connection given up.
    pub(super) fn give_up(&self, why: &str) {
        if !self.given_up.swap(true, Relaxed) {
            tracing::warn!(why, "the connection to Redis is given up");
            self.broken.notify_one();
        }
    }

    pub(super) async fn unsubscribe(&self, pubsub_channel: &str) -> RedisResult<()> {
        let mut connection = self.multiplexed.clone();
        if !self.server.is_clustered {
            return connection.unsubscribe(pubsub_channel).await;
        }
        self.leaving.lock().insert(pubsub_channel.to_owned());
        redis::cmd("SUNSUBSCRIBE").arg(pubsub_channel).exec_async(&mut connection).await
    }

    /// A channel is no longer subscribed to. If that was not asked for, its slot has moved, and the connection takes
    /// this for the answer to something else.
    pub(super) fn unsubscribed(&self, pubsub_channel: &str) {
        if self.server.is_clustered && !self.leaving.lock().remove(pubsub_channel) {
            self.is_confused.store(true, Relaxed);
            self.give_up("a slot has moved away");
        }
    }
}

/// Which server has which channel.
#[derive(Default)]
pub(super) struct Servers {
    masters: Vec<Arc<Master>>,
    /// First and last slot, and which of the masters has them; empty where there is one for all.
    ranges: Vec<(u16, u16, usize)>,
}

impl Servers {
    pub(super) fn alone(master: Arc<Master>) -> Self {
        Self { masters: vec![master], ranges: Vec::new() }
    }

    /// The masters of a cluster; `ranges` are first and last slots, and whose they are.
    pub(super) fn cluster(masters: Vec<Arc<Master>>, mut ranges: Vec<(u16, u16, usize)>) -> Self {
        ranges.sort_unstable();
        Self { masters, ranges }
    }

    pub(super) fn all(&self) -> &[Arc<Master>] {
        &self.masters
    }

    /// The server that has a channel; `None` while nobody has its slot.
    pub(super) fn of(&self, channel: &ChannelKey) -> Option<&Arc<Master>> {
        let Some(_) = self.ranges.first() else { return self.masters.first() };
        let slot = keys::slot(channel);
        let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
        let (first, _, index) = self.ranges.get(at)?;
        (*first <= slot).then(|| self.masters.get(*index)).flatten()
    }
}

/// Whether a server says that it is not the one that has the data: it follows another one, or is not ready. Before 7.0
/// Redis wraps what a command in a script answers into an error of its own.
pub(super) fn is_not_master(error: &RedisError) -> bool {
    const CODES: [&str; 3] = ["READONLY", "MASTERDOWN", "LOADING"];
    let wrapped = |detail: &str| CODES.iter().any(|code| detail.contains(&format!("-{code} ")));
    error.code().is_some_and(|code| CODES.contains(&code)) || error.detail().is_some_and(wrapped)
}

/// Whether a server says that a channel is elsewhere, or that its cluster is at odds, for now.
pub(super) fn is_redirect(error: &RedisError) -> bool {
    matches!(error.code(), Some("MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" | "CLUSTERDOWN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G079
    #[test]
    fn a_server_that_is_not_the_master_says_so_in_several_ways() {
        let says = |line: &str| {
            redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).and_then(redis::Value::extract_error)
        };
        for line in [
            "READONLY You can't write against a read only replica. script: 3f5, on @user_script:1.",
            "ERR Error running script (call to f_3f5): @user_script:1: @user_script: 1: -READONLY You can't write \
            against a read only replica. ",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "LOADING Redis is loading the dataset in memory",
        ] {
            assert!(is_not_master(&says(line).unwrap_err()), "{line}");
        }
        for line in ["ERR unknown command", "WRONGTYPE Operation against a key", "OOM command not allowed"] {
            assert!(!is_not_master(&says(line).unwrap_err()), "{line}");
        }
    }
}
