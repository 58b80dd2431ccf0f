//! Sends the ops of this node's sessions (join, leave, resync) to Redis: per channel, one batch after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{RedisError, Value};
use tidings_model::channel::{ChannelKey, ChannelOptions, Member, Position, SessionId};
use tidings_model::clock::millis;
use tracing::Instrument as _;

use super::arguments::Arguments;
use super::core::{Core, call_span};
use super::keys;
use super::local_channel::{LocalChannel, Op, OpOutcome, Work};
use super::reply::{HistoryEntry, Reply};
use super::scripts::{ScriptCall, ScriptKind};
use super::servers::RedisConnection;
use crate::broker::{BrokerError, Join, Since};
use crate::codec;
use crate::shard_message::{Recovery, SessionRef, Welcome};

/// How often a task checks whether a closed connection has been replaced.
const PAUSE: Duration = Duration::from_millis(10);

/// Queues an op, and starts the channel's task if none runs.
pub(super) fn submit(core: &Arc<Core>, key: &ChannelKey, op: Op) {
    let starts = {
        let mut channels = core.partition(key);
        let local = channels.entry(key.clone()).or_default();
        local.queue.push_back(op);
        let starts = local.wants_task();
        local.has_task |= starts;
        starts
    };
    if starts {
        start_task(core, key.clone());
    }
}

/// Starts a task for every channel that has work and whose server is connected.
pub(super) fn start_tasks(core: &Arc<Core>) {
    let servers = core.servers();
    let is_connected = |key: &ChannelKey| servers.of(key).is_some_and(|master| master.connection().is_some());
    let waiting = core.of_all(|key, local| {
        let starts = local.wants_task() && is_connected(key);
        local.has_task |= starts;
        starts.then(|| key.clone())
    });
    waiting.into_iter().for_each(|key| start_task(core, key));
}

/// Starts a task that works on a channel until nothing is left to do.
pub(super) fn start_task(core: &Arc<Core>, key: ChannelKey) {
    let core = Arc::clone(core);
    let supervisor = core.supervisor.clone();
    supervisor.task("redis-channel", async move { while step(&core, &key).await {} });
}

/// Carries out the channel's next step. False: there is none.
async fn step(core: &Core, key: &ChannelKey) -> bool {
    let Ok(permit) = core.channel_tasks.acquire().await else { return false };
    let (conn, work, calls) = {
        let mut channels = core.partition(key);
        let Some(local) = channels.get_mut(key) else { return false };
        // Read under the lock, so that a new connection either finds this task running or starts one.
        let Ok(conn) = core.connection(key) else {
            local.disconnect(core.notifier(key));
            local.has_task = false;
            return false;
        };
        let work = local.work(conn.number);
        if work == Work::Rest && local.is_over() {
            channels.remove(key);
            return false;
        }
        let calls: Vec<_> = local.in_flight.iter().map(|op| call(op, local, &conn)).collect();
        (conn, work, calls)
    };
    match work {
        Work::Rest => false,
        Work::Unsubscribe => {
            // If it fails, the connection is closed, and the subscription ends with it.
            let result = unsubscribe(core, &conn, key).await;
            tracing::trace!(channel = %key.name, ?result, "unsubscribed: no session left on this node");
            true
        }
        Work::Send { subscribe } => {
            // One call for all that has been asked meanwhile.
            let span = call_span("ops", key, &conn);
            let ended = send(core, &conn, key, subscribe, &calls).instrument(span).await;
            let is_whole = {
                let mut channels = core.partition(key);
                let Some(local) = channels.get_mut(key) else { return false };
                match ended {
                    Ok(ended) => local.completed(conn.number, ended, core.notifier(key)),
                    // Closing the connection cancels the ops in flight.
                    Err(_) => false,
                }
            };
            if !is_whole {
                drop(permit);
                conn.close("joins or leaves were not answered, or a message is missing");
                wait_for_end(core, &conn, key).await;
            }
            true
        }
    }
}

/// Waits until a closed connection is no longer in use; at most for the timeout, since the broker may be dropped
/// meanwhile.
async fn wait_for_end(core: &Core, conn: &RedisConnection, key: &ChannelKey) {
    let is_used = || core.connection(key).is_ok_and(|now| now.number == conn.number);
    let ended = async {
        while is_used() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(core.settings.timeout, ended).await.is_err() {
        tracing::debug!("closed connection to Redis is still in use");
    }
}

async fn unsubscribe(core: &Core, conn: &RedisConnection, key: &ChannelKey) -> Result<(), BrokerError> {
    let pubsub_channel = keys::pubsub_channel(key);
    if let Err(error) = conn.unsubscribe(&pubsub_channel).await {
        core.failed(conn, &error);
    }
    let mut command = redis::cmd("ZREM");
    command.arg(conn.server.keyspace.index(&conn.node)).arg(keys::indexed(key));
    core.send(conn, &command).await.map(drop)
}

/// Sends the calls of a batch, and returns the outcome of each.
async fn send(
    core: &Core,
    conn: &RedisConnection,
    key: &ChannelKey,
    subscribe: bool,
    calls: &[ScriptCall],
) -> Result<Vec<(u64, OpOutcome, bool)>, BrokerError> {
    let pubsub_channel = keys::pubsub_channel(key);
    let mut connection = conn.multiplexed.clone();
    let mut batch = redis::pipe();
    batch.ignore_errors();
    if subscribe {
        conn.server
            .subscribe(&mut connection, &pubsub_channel)
            .await
            .map_err(|error| core.failed(conn, &error))
            .map_err(unavailable)?;
        // Written before the first session joins: if this node dies, the clean-up finds its channels in the index.
        batch.cmd("ZADD").arg(conn.server.keyspace.index(&conn.node)).arg(0).arg(keys::indexed(key)).ignore();
    }
    for call in calls {
        batch.add_command(core.command(conn, &conn.node, key, call)?);
    }
    let answer = batch.query_async::<Vec<Result<Value, RedisError>>>(&mut connection);
    let answers = match tokio::time::timeout(core.settings.timeout, answer).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            core.failed(conn, &error);
            return Err(BrokerError::Unavailable);
        }
        Err(_) => return Err(BrokerError::Unavailable),
    };
    tracing::debug!(calls = calls.len(), "Redis has answered");
    if answers.len() != calls.len() || conn.is_out_of_sync.load(Relaxed) {
        return Err(BrokerError::Unavailable);
    }
    let read = |(answer, call): (Result<Value, RedisError>, &ScriptCall)| match answer {
        Ok(value) => {
            let reply = core.reply(value, key);
            reply.and_then(|reply| read(reply, call.kind(), key)).ok_or(BrokerError::Unavailable)
        }
        Err(error) => {
            core.failed(conn, &error);
            Ok((0, OpOutcome::Failed, false))
        }
    };
    answers.into_iter().zip(calls).map(read).collect()
}

fn unavailable(_: ()) -> BrokerError {
    BrokerError::Unavailable
}

fn call(op: &Op, local: &LocalChannel, conn: &RedisConnection) -> ScriptCall {
    match op {
        Op::Join(join, _) => join_call(join),
        Op::Leave(leave, _) => {
            let arguments = Arguments::default().text("session_ref", session_ref(leave.at));
            ScriptCall::with(ScriptKind::Leave, arguments)
        }
        Op::Resync => resync_call(local, conn.is_same_data),
    }
}

fn session_ref(at: SessionRef) -> String {
    format!("{}.{}.{}", at.shard, at.slot, at.life)
}

/// A session in the form that scripts store.
fn session(at: SessionRef, session: SessionId, member: Option<&Member>) -> Arguments {
    let (user, shown) = match member {
        Some(member) => (member.user.as_bytes(), codec::member(member)),
        None => (&[][..], Vec::new()),
    };
    Arguments::default()
        .text("session_ref", session_ref(at))
        .text("session", session.to_string())
        .text("user", user)
        .text("shown", shown)
}

/// Adds the channel's options.
fn behaviour(arguments: Arguments, options: &ChannelOptions) -> Arguments {
    arguments
        .flag("presence", options.presence)
        .flag("join_leave", options.join_leave)
        .flag("subscription_count", options.subscription_count)
        .count("history_size", options.history_size)
        .number("history_ttl", millis(options.history_ttl))
}

fn since(arguments: Arguments, position: &Position) -> Arguments {
    arguments.text("epoch", position.epoch.as_str()).count("offset", position.offset)
}

fn join_call(join: &Join) -> ScriptCall {
    let options = &join.options;
    let arguments = behaviour(session(join.at, join.session, join.member.as_deref()), options)
        .count("max_members", options.max_members)
        .flag("caches", options.cache_ttl.is_some());
    let arguments = match &join.since {
        None => arguments,
        Some(Since::Last(count)) => arguments.count("last", *count),
        Some(Since::Position(position)) => since(arguments, position),
    };
    ScriptCall::with(ScriptKind::Join, arguments)
}

fn resync_call(local: &LocalChannel, tells: bool) -> ScriptCall {
    let sessions: Vec<_> =
        local.sessions.iter().map(|(at, local)| session(*at, local.session, local.member.as_deref())).collect();
    let mut arguments = Arguments::default().flag("tells", tells).list("sessions", &sessions);
    if let Some(options) = &local.options {
        arguments = behaviour(arguments, options);
    }
    if let Some(position) = &local.position {
        arguments = since(arguments, position);
    }
    ScriptCall::with(ScriptKind::Resync, arguments)
}

/// Reads the outcome of an op: the number of the message before it, the outcome, and whether a subscription count is
/// pending.
fn read(mut reply: Reply, kind: ScriptKind, key: &ChannelKey) -> Option<(u64, OpOutcome, bool)> {
    let at = reply.int("at")?;
    match kind {
        ScriptKind::Join if reply.text("outcome")? == "full" => Some((at, OpOutcome::Full, false)),
        ScriptKind::Join => {
            let position = reply.position()?;
            let (recovery, entries) = recovered(&mut reply, key, position.as_ref())?;
            let publications = entries.into_iter().map(|(message, _)| message).collect();
            let (members, subscriptions) = (reply.members()?, reply.int("subscriptions")?);
            let cached = reply.cached(key)?.map(|cached| cached.publication);
            let count_pending = reply.flag("count_pending")?;
            let welcome = Welcome { position, recovery, publications, members, subscriptions, cached };
            Some((at, OpOutcome::In(Box::new(welcome)), count_pending))
        }
        ScriptKind::Resync => {
            let position = reply.position()?;
            let (recovery, missed) = recovered(&mut reply, key, position.as_ref())?;
            let count_pending = reply.flag("count_pending")?;
            Some((at, OpOutcome::Resynced { position, recovery, missed }, count_pending))
        }
        _ => Some((at, OpOutcome::Out, reply.flag("count_pending")?)),
    }
}

/// The missed publications. The recovery is `Lost` if this version cannot read all of them.
fn recovered(reply: &mut Reply, key: &ChannelKey, newest: Option<&Position>) -> Option<(Recovery, Vec<HistoryEntry>)> {
    let recovery = reply.recovery()?;
    let (entries, is_whole) = reply.entries(key, newest)?;
    let is_lost = recovery == Recovery::Complete && !is_whole;
    Some((if is_lost { Recovery::Lost } else { recovery }, entries))
}
