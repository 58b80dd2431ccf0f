//! The Redis servers: a single one, or the masters of a cluster; and the connection to one of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionInfo, RedisError, RedisResult};
use tidings_model::channel::ChannelKey;
use tokio::sync::Notify;

use super::keys::{self, KeySpace};

/// A Redis server, as configured or found in the cluster.
pub(super) struct RedisServer {
    pub(super) client: Client,
    pub(super) keyspace: KeySpace,
    /// Whether it belongs to a cluster. There, only the channel's master publishes its messages (sharded pub/sub).
    pub(super) is_clustered: bool,
    /// The newest generation found in a channel of this server: a slot that moves here keeps its generation.
    pub(super) newest: AtomicU64,
}

/// The single server, or a master of a cluster, and the connection to it.
pub(super) struct Master {
    pub(super) server: Arc<RedisServer>,
    connection: RwLock<Option<Arc<RedisConnection>>>,
}

impl Master {
    /// The single server.
    ///
    /// # Errors
    /// When the address can never lead to a connection.
    pub(super) fn alone(server: ConnectionInfo) -> RedisResult<Self> {
        Self::new(server, KeySpace::alone(), false)
    }

    /// The master of a cluster whose first slot is this.
    ///
    /// # Errors
    /// When the address can never lead to a connection.
    pub(super) fn of_cluster(server: ConnectionInfo, first: u16) -> RedisResult<Self> {
        Self::new(server, KeySpace::in_slot(first), true)
    }

    fn new(server: ConnectionInfo, keyspace: KeySpace, is_clustered: bool) -> RedisResult<Self> {
        let server = RedisServer { client: Client::open(server)?, keyspace, is_clustered, newest: AtomicU64::new(0) };
        Ok(Self { server: Arc::new(server), connection: RwLock::default() })
    }

    /// Whether it has the same address and the same first slot.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        let addr = |master: &Self| master.server.client.get_connection_info().addr().to_string();
        addr(self) == addr(other) && self.server.keyspace == other.server.keyspace
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Option<Arc<RedisConnection>> {
        self.connection.read().clone()
    }

    /// Replaces the connection, and returns the previous one.
    pub(super) fn set_connection(&self, conn: Option<RedisConnection>) -> Option<Arc<RedisConnection>> {
        std::mem::replace(&mut *self.connection.write(), conn.map(Arc::new))
    }
}

impl RedisServer {
    /// The oldest supported version, major and minor: sharded pub/sub exists since 7.0.
    pub(super) fn oldest(&self) -> (u32, u32) {
        if self.is_clustered { (7, 0) } else { (6, 2) }
    }

    /// The command that publishes a message.
    pub(super) fn publish_command(&self) -> &'static str {
        if self.is_clustered { "SPUBLISH" } else { "PUBLISH" }
    }

    /// Subscribes this connection to a pub/sub channel.
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

/// An established connection.
pub(super) struct RedisConnection {
    /// The number of the connection, counted by node.
    pub(super) number: u64,
    pub(super) server: Arc<RedisServer>,
    pub(super) multiplexed: MultiplexedConnection,
    /// The generation of the server's data.
    pub(super) generation: u64,
    /// This node's name.
    pub(super) node: Arc<str>,
    /// Whether the node got a new name; sessions may still be registered under the old one.
    pub(super) is_renamed: bool,
    /// Whether Redis still has the data of this node's previous connection. Then a member who is missing there was
    /// removed by another node.
    pub(super) is_same_data: bool,
    /// How far Redis' time is ahead of ours, in milliseconds.
    pub(super) ahead: Arc<AtomicI64>,
    /// Whether the connection is closed, so that it must not be used any more.
    pub(super) is_closed: AtomicBool,
    /// Whether answers may belong to other calls than they seem to: see [`RedisConnection::unsubscribed`].
    pub(super) is_out_of_sync: AtomicBool,
    /// Notified when the connection is closed.
    pub(super) broken: Notify,
    /// Channels whose unsubscription is in flight.
    unsubscribing: Mutex<HashSet<String>>,
}

/// What the handshake has found out about a server, before the connection is used.
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
            is_closed: AtomicBool::new(false),
            is_out_of_sync: AtomicBool::new(false),
            broken: Notify::new(),
            unsubscribing: Mutex::default(),
        }
    }

    /// Closes the connection.
    pub(super) fn close(&self, why: &str) {
        if !self.is_closed.swap(true, Relaxed) {
            tracing::warn!(why, "connection to Redis closed");
            self.broken.notify_one();
        }
    }

    pub(super) async fn unsubscribe(&self, pubsub_channel: &str) -> RedisResult<()> {
        let mut connection = self.multiplexed.clone();
        if !self.server.is_clustered {
            return connection.unsubscribe(pubsub_channel).await;
        }
        self.unsubscribing.lock().insert(pubsub_channel.to_owned());
        redis::cmd("SUNSUBSCRIBE").arg(pubsub_channel).exec_async(&mut connection).await
    }

    /// A subscription has ended. If this node did not ask for that, the channel's slot has moved, and the client
    /// library takes the push for the answer to another call; from then on, answers may belong to other calls.
    pub(super) fn unsubscribed(&self, pubsub_channel: &str) {
        if self.server.is_clustered && !self.unsubscribing.lock().remove(pubsub_channel) {
            self.is_out_of_sync.store(true, Relaxed);
            self.close("a slot has moved to another master");
        }
    }
}

/// The servers, and which of them has which channel.
#[derive(Default)]
pub(super) struct Servers {
    masters: Vec<Arc<Master>>,
    /// First and last slot, and the index of their master; empty for a single server.
    ranges: Vec<(u16, u16, usize)>,
}

impl Servers {
    pub(super) fn alone(master: Arc<Master>) -> Self {
        Self { masters: vec![master], ranges: Vec::new() }
    }

    /// The masters of a cluster; `ranges` are first and last slots, and the index of their master.
    pub(super) fn cluster(masters: Vec<Arc<Master>>, mut ranges: Vec<(u16, u16, usize)>) -> Self {
        ranges.sort_unstable();
        Self { masters, ranges }
    }

    pub(super) fn all(&self) -> &[Arc<Master>] {
        &self.masters
    }

    /// The server that has a channel; `None` while no master has its slot.
    pub(super) fn of(&self, channel: &ChannelKey) -> Option<&Arc<Master>> {
        let Some(_) = self.ranges.first() else { return self.masters.first() };
        let slot = keys::slot(channel);
        let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
        let (first, _, index) = self.ranges.get(at)?;
        (*first <= slot).then(|| self.masters.get(*index)).flatten()
    }
}

/// Whether the error says that the server is a replica or still loads its data. Before 7.0, Redis wraps the error of a
/// command in a script into another error.
pub(super) fn is_not_master(error: &RedisError) -> bool {
    const CODES: [&str; 3] = ["READONLY", "MASTERDOWN", "LOADING"];
    let wrapped = |detail: &str| CODES.iter().any(|code| detail.contains(&format!("-{code} ")));
    error.code().is_some_and(|code| CODES.contains(&code)) || error.detail().is_some_and(wrapped)
}

/// Whether the error says that the channel's slot is on another master, or that the cluster is not stable at present.
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
