//! Carries out what this node asks about its own sessions in one channel: one batch after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{RedisError, Value};
use tidings_model::channel::ChannelKey;

use super::core::Core;
use super::entry::{Entry, Op, Outcome, Work};
use super::keys;
use super::reply::Reply;
use super::scripts::{Call, Kind};
use super::servers::Up;
use crate::broker::{BrokerError, Join, Since};
use crate::codec;
use crate::told::Welcome;

/// How often is looked whether a connection that was given up is used no more.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks after a channel until nothing is to be done.
pub(super) fn drive(core: &Arc<Core>, key: ChannelKey) {
    let core = Arc::clone(core);
    tokio::spawn(async move { while step(&core, &key).await {} });
}

/// The next thing to do for the channel. False: there is none.
async fn step(core: &Core, key: &ChannelKey) -> bool {
    let Ok(lane) = core.lanes.acquire().await else { return false };
    let (up, work, calls) = {
        let mut entries = core.partition(key);
        let Some(entry) = entries.get_mut(key) else { return false };
        // Asked for under the lock, so that a new connection finds either this task or that there is none.
        let Ok(up) = core.up(key) else {
            entry.cut_off(core.teller(key));
            entry.driven = false;
            return false;
        };
        let work = entry.work(up.number);
        if work == Work::Rest && entry.is_over() {
            entries.remove(key);
            return false;
        }
        let calls: Vec<_> = entry.flying.iter().map(|op| call(op, entry, &up)).collect();
        (up, work, calls)
    };
    match work {
        Work::Rest => false,
        Work::Unsubscribe => {
            // Should it fail, the connection is given up, and with it the subscription.
            let gone = unsubscribe(core, &up, key).await;
            tracing::trace!(channel = %key.name, ?gone, "nobody is here any more");
            true
        }
        Work::Send { subscribe } => {
            let ended = send(core, &up, key, subscribe, &calls).await;
            let is_whole = {
                let mut entries = core.partition(key);
                let Some(entry) = entries.get_mut(key) else { return false };
                match ended {
                    Ok(ended) => entry.landed(up.number, ended, core.teller(key)),
                    // Whoever gives up the connection calls off what is under way.
                    Err(_) => false,
                }
            };
            if !is_whole {
                drop(lane);
                up.give_up("joins or leaves have no answer, or a message is missing");
                wait_for_end(core, &up, key).await;
            }
            true
        }
    }
}

/// Waits until a connection that was given up is used no more; not for ever, since the broker may be gone meanwhile.
async fn wait_for_end(core: &Core, up: &Up, key: &ChannelKey) {
    let is_used = || core.up(key).is_ok_and(|now| now.number == up.number);
    let ended = async {
        while is_used() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(core.settings.patience, ended).await.is_err() {
        tracing::debug!("a connection that was given up is still there");
    }
}

async fn unsubscribe(core: &Core, up: &Up, key: &ChannelKey) -> Result<(), BrokerError> {
    let voice = keys::voice(key);
    if let Err(error) = up.unsubscribe(&voice).await {
        core.failed(up, &error);
    }
    let mut command = redis::cmd("ZREM");
    command.arg(up.site.home.index(&up.node)).arg(keys::indexed(key));
    core.send(up, &command).await.map(drop)
}

/// Sends the calls of a batch, and says how each ended.
async fn send(
    core: &Core,
    up: &Up,
    key: &ChannelKey,
    subscribe: bool,
    calls: &[Call],
) -> Result<Vec<(u64, Outcome, bool)>, BrokerError> {
    let voice = keys::voice(key);
    let mut connection = up.connection.clone();
    let mut batch = redis::pipe();
    batch.ignore_errors();
    if subscribe {
        up.site
            .subscribe(&mut connection, &voice)
            .await
            .map_err(|error| core.failed(up, &error))
            .map_err(unavailable)?;
        // Before the first session is in: whoever clears up after this node looks there.
        batch.cmd("ZADD").arg(up.site.home.index(&up.node)).arg(0).arg(keys::indexed(key)).ignore();
    }
    for call in calls {
        batch.add_command(core.command(up, &up.node, key, call)?);
    }
    let answer = batch.query_async::<Vec<Result<Value, RedisError>>>(&mut connection);
    let answers = match tokio::time::timeout(core.settings.patience, answer).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            core.failed(up, &error);
            return Err(BrokerError::Unavailable);
        }
        Err(_) => return Err(BrokerError::Unavailable),
    };
    if answers.len() != calls.len() || up.is_confused.load(Relaxed) {
        return Err(BrokerError::Unavailable);
    }
    let read = |(answer, call): (Result<Value, RedisError>, &Call)| match answer {
        Ok(mut value) => {
            core.heed(&mut value, key);
            read(value, call.kind(), key).ok_or(BrokerError::Unavailable)
        }
        Err(error) => {
            core.failed(up, &error);
            Ok((0, Outcome::Failed, false))
        }
    };
    answers.into_iter().zip(calls).map(read).collect()
}

fn unavailable(_: ()) -> BrokerError {
    BrokerError::Unavailable
}

fn call(op: &Op, entry: &Entry, up: &Up) -> Call {
    match op {
        Op::Join(join, _) => join_call(join),
        Op::Leave(leave, _) => Call::new(Kind::Leave).arg(place(leave.at)),
        Op::Resync => resync_call(entry, up.is_same_data),
    }
}

fn place(at: crate::told::SessionRef) -> String {
    format!("{}.{}.{}", at.shard, at.slot, at.life)
}

fn join_call(join: &Join) -> Call {
    let options = &join.options;
    let (user, shown) = match &join.member {
        Some(member) => (member.user.as_bytes(), codec::member(member)),
        None => (&[][..], Vec::new()),
    };
    let call = Call::new(Kind::Join)
        .arg(place(join.at))
        .arg(join.session.to_string())
        .arg(user)
        .arg(shown)
        .flag(options.presence)
        .flag(options.join_leave)
        .flag(options.subscription_count)
        .number(options.max_members)
        .number(options.history_size)
        .number(options.history_ttl.as_millis())
        .flag(options.cache_ttl.is_some());
    match &join.since {
        None => call.arg("").arg("").arg(""),
        Some(Since::Last(count)) => call.arg("last").number(count).arg(""),
        Some(Since::Position(position)) => call.arg("position").arg(position.epoch.as_str()).number(position.offset),
    }
}

fn resync_call(entry: &Entry, tells: bool) -> Call {
    let options = entry.options.as_deref();
    let flag = |of: fn(&tidings_model::channel::ChannelOptions) -> bool| options.is_some_and(of);
    let call = Call::new(Kind::Resync)
        .flag(flag(|options| options.presence))
        .flag(flag(|options| options.join_leave))
        .flag(flag(|options| options.subscription_count))
        .number(options.map_or(0, |options| options.history_size))
        .number(options.map_or(0, |options| options.history_ttl.as_millis()))
        .flag(tells);
    let mut call = match &entry.position {
        Some(position) => call.arg(position.epoch.as_str()).number(position.offset),
        None => call.arg("").number(0),
    };
    for (at, seat) in &entry.seats {
        let (user, shown) = match &seat.member {
            Some(member) => (member.user.as_bytes(), codec::member(member)),
            None => (&[][..], Vec::new()),
        };
        call = call.arg(place(*at)).arg(seat.session.to_string()).arg(user).arg(shown);
    }
    call
}

/// Reads how an op ended: the number of the message before it, the end, and whether a number of subscriptions is owed.
fn read(value: Value, kind: Kind, key: &ChannelKey) -> Option<(u64, Outcome, bool)> {
    let mut reply = Reply::of(value)?;
    match kind {
        Kind::Join if reply.text()? == "full" => Some((reply.int()?, Outcome::Full, false)),
        Kind::Join => {
            let at = reply.int()?;
            let position = reply.position()?;
            let recovery = reply.recovery()?;
            let entries = reply.entries(key, position.as_ref())?;
            let publications = entries.into_iter().map(|(prepared, _)| prepared).collect();
            let (members, subscriptions) = (reply.members()?, reply.int()?);
            let cached = reply.cached(key)?.map(|cached| cached.publication);
            let owed = reply.text()? == "1";
            let welcome = Welcome { position, recovery, publications, members, subscriptions, cached };
            Some((at, Outcome::In(Box::new(welcome)), owed))
        }
        Kind::Resync => {
            let at = reply.int()?;
            let (position, recovery) = (reply.position()?, reply.recovery()?);
            let missed = reply.entries(key, position.as_ref())?;
            let owed = reply.text()? == "1";
            Some((at, Outcome::Resynced { position, recovery, missed }, owed))
        }
        _ => Some((reply.int()?, Outcome::Out, reply.text()? == "1")),
    }
}
