//! Making up for what was not told of channels: after a start, a node's death, or a line that ran over.
//!
//! Whoever was there is waited for, since clients come back. Then what stands in the store is held against what the
//! broker knows: what is not there any more is told to have gone, and what is there and was never told is told. Several
//! nodes may do it at once; each turn is taken once.

use std::sync::Arc;
use std::time::Duration;

use tidings_broker::{BrokerError, ChannelFilter};
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::Millis;
use tidings_model::transition::{Change, Kind, Transition};
use tidings_store::presence::{PresenceChange, PresenceKey, PresenceRecord};
use tidings_supervisor::fault;

use crate::bus::Bus;
use crate::error::PublishError;
use crate::transitions::{event, persist};

/// Standings and channels that are looked at in one go.
const PAGE: usize = 500;
/// How long whoever wrote a turn down may take to tell it before somebody else does.
const TELLING: Millis = 10_000;
/// How long is waited before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until something is unsure, again and again.
pub(crate) async fn run(bus: Bus) {
    let transitions = &bus.shared.transitions;
    loop {
        transitions.unsure.notified().await;
        fault::point("reconciliation");
        let began = bus.shared.clock.wall_ms();
        tokio::time::sleep(transitions.rejoin_within).await;
        if let Err(error) = make_up(&bus, began).await {
            tracing::warn!(%error, "what became of channels meanwhile is not known yet; trying again");
            tokio::time::sleep(PAUSE).await;
            transitions.unsure.notify_one();
        }
    }
}

async fn make_up(bus: &Bus, began: Millis) -> Result<(), PublishError> {
    let mut after = None;
    let mut members = (None, Vec::new());
    loop {
        let page = persist!(bus.shared.store.presence_records(after.clone(), PAGE).await)?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        for record in &page {
            look_at(bus, record, began, &mut members).await?;
        }
    }
    for app in bus.shared.apps.all() {
        if bus.catalogue().wanted(&app.id).has(Kind::Occupied) {
            find_untold(bus, &app.id, began).await?;
        }
    }
    Ok(())
}

/// The members of the channel that was looked at last: standings come channel by channel.
type Members = (Option<ChannelKey>, Vec<Arc<Member>>);

async fn look_at(bus: &Bus, record: &PresenceRecord, began: Millis, members: &mut Members) -> Result<(), PublishError> {
    let PresenceKey { app, channel, user } = &record.key;
    let key = ChannelKey::new(app.clone(), channel.as_str());
    let now = bus.shared.clock.wall_ms();
    if !record.announced && record.since < now.saturating_sub(TELLING) {
        let change = change(record.present, user.as_deref());
        let transition = Transition { channel: key, number: record.number.unsigned_abs(), change };
        let told = tidings_model::event::Event { id: record.event.clone(), ..event(&transition, record.since) };
        bus.tell(told, None).await?;
        return persist!(bus.shared.store.mark_announced(&record.key, record.number).await);
    }
    if !record.present || record.since > began || is_there(bus, &key, user.as_deref(), members).await? {
        return Ok(());
    }
    // Above the coming and below whatever the broker decides next: so what it decides holds, should it come between.
    let number = record.number.saturating_add(1);
    let transition = Transition { channel: key, number: number.unsigned_abs(), change: change(false, user.as_deref()) };
    take(bus, &transition, false, number, now).await
}

/// Channels that are occupied and of which nothing is known: who was to tell it has gone.
async fn find_untold(bus: &Bus, app: &tidings_model::id::AppId, began: Millis) -> Result<(), PublishError> {
    let mut after = None;
    loop {
        let filter = ChannelFilter { prefix: String::new(), after: after.take(), limit: PAGE };
        let page = bus.channels(app, filter).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.name.as_ref().to_owned());
        for state in &page {
            let key = ChannelKey::new(app.clone(), Arc::clone(&state.name));
            // The event is of this occasion; the turn comes before all that the broker numbers.
            let number = began.unsigned_abs();
            let transition = Transition { channel: key, number, change: Change::Occupied };
            take(bus, &transition, true, 1, bus.shared.clock.wall_ms()).await?;
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

async fn take(bus: &Bus, transition: &Transition, present: bool, number: i64, now: Millis) -> Result<(), PublishError> {
    let event = event(transition, now);
    let key = PresenceKey {
        app: transition.channel.app.clone(),
        channel: transition.channel.name.as_ref().to_owned(),
        user: transition.change.user().map(str::to_owned),
    };
    let steady = bus.shared.clock.steady_ms();
    let Some(app) = bus.shared.apps.by_id(event.app.as_str()) else { return Ok(()) };
    let event_id = event.id.clone();
    let change =
        PresenceChange { key, present, number, event: event_id, suppress: false, window: 0, now: steady, wall: now };
    if present {
        bus.arrive(&app, change, event, None).await
    } else {
        bus.apply_change(change, event, None).await.map(drop)
    }
}

fn change(present: bool, user: Option<&str>) -> Change {
    match (present, user.map(str::to_owned)) {
        (true, None) => Change::Occupied,
        (false, None) => Change::Vacated,
        (true, Some(user)) => Change::MemberAdded(user),
        (false, Some(user)) => Change::MemberRemoved(user),
    }
}

async fn is_there(bus: &Bus, key: &ChannelKey, user: Option<&str>, members: &mut Members) -> Result<bool, BrokerError> {
    let Some(user) = user else {
        let state = bus.channel(key).await?;
        return Ok(state.is_some_and(|state| state.occupancy.subscriptions > 0));
    };
    if members.0.as_ref() != Some(key) {
        *members = (Some(key.clone()), bus.members(key).await?);
    }
    Ok(members.1.iter().any(|member| &*member.user == user))
}
