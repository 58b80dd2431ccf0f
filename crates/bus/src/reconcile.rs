//! Reconciliation: announces channel events that were missed, after a start, a node's death, or a queue overflow.
//!
//! First, sessions get time to come back. Then the presence journal is compared with the broker: a departure is
//! announced for each channel and member that is gone, and an arrival for each channel that is occupied and was never
//! announced. Several nodes may do this at once; each change is applied once.

use std::sync::Arc;
use std::time::Duration;

use tidings_broker::{BrokerError, ChannelFilter};
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::Millis;
use tidings_model::event::Event;
use tidings_model::id::AppId;
use tidings_model::transition::{Change, Kind, Transition};
use tidings_store::presence::{PresenceChange, PresenceKey, PresenceRecord};
use tidings_supervisor::fault;

use crate::bus::Bus;
use crate::error::PublishError;
use crate::presence_events::{event, key};
use crate::retry::retry;

/// How many records or channels are read at once.
const PAGE: usize = 500;
/// How long the node that recorded a change may take to announce it before another node does.
const ANNOUNCING: Millis = 10_000;
/// The pause before another attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// Reconciles whenever events may be missing.
pub(crate) async fn run(bus: Bus) {
    let transitions = &bus.shared.transitions;
    loop {
        transitions.reconcile_needed.notified().await;
        fault::point("reconciliation");
        let began = bus.shared.clock.wall_ms();
        tokio::time::sleep(transitions.rejoin_within).await;
        if let Err(error) = reconcile(&bus, began).await {
            tracing::warn!(%error, "reconciliation of channels failed; trying again");
            tokio::time::sleep(PAUSE).await;
            transitions.reconcile_needed.notify_one();
        }
    }
}

async fn reconcile(bus: &Bus, began: Millis) -> Result<(), PublishError> {
    let mut after = None;
    let mut members = (None, Vec::new());
    loop {
        let page = retry!(bus.shared.store.presence_records(after.clone(), PAGE).await)?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        for record in &page {
            reconcile_record(bus, record, began, &mut members).await?;
        }
    }
    for app in bus.shared.apps.all() {
        if bus.catalogue().wanted(&app.id).has(Kind::Occupied) {
            announce_unknown(bus, &app.id, began).await?;
        }
    }
    Ok(())
}

/// The members of the channel that was read last: records come channel by channel.
type Members = (Option<ChannelKey>, Vec<Arc<Member>>);

async fn reconcile_record(
    bus: &Bus,
    record: &PresenceRecord,
    began: Millis,
    members: &mut Members,
) -> Result<(), PublishError> {
    let PresenceKey { app, channel, user } = &record.key;
    let key = ChannelKey::new(app.clone(), channel.as_str());
    let now = bus.shared.clock.wall_ms();
    if !record.announced && record.since < now.saturating_sub(ANNOUNCING) {
        let change = change(record.present, user.as_deref());
        let transition = Transition { channel: key, number: record.number.unsigned_abs(), change };
        let announced = Event { id: record.event.clone(), ..event(&transition, record.since) };
        bus.publish_about(announced, None).await?;
        return retry!(bus.shared.store.mark_announced(&record.key, record.number).await);
    }
    if !record.present || record.since > began || is_present(bus, &key, user.as_deref(), members).await? {
        return Ok(());
    }
    // The number is above the arrival's and below the broker's next one, so that a transition of the broker in the
    // meantime has precedence.
    let number = record.number.saturating_add(1);
    let transition = Transition { channel: key, number: number.unsigned_abs(), change: change(false, user.as_deref()) };
    apply(bus, &transition, false, number, now).await
}

/// Announces occupied channels that the journal does not know: the node that should have announced them has died.
async fn announce_unknown(bus: &Bus, app: &AppId, began: Millis) -> Result<(), PublishError> {
    let mut after = None;
    loop {
        let filter = ChannelFilter { prefix: String::new(), after: after.take(), limit: PAGE };
        let page = bus.channels(app, filter).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.name.as_ref().to_owned());
        for state in &page {
            let key = ChannelKey::new(app.clone(), Arc::clone(&state.name));
            // The event's id is specific to this reconciliation. The change's number 1 is below all numbers of the
            // broker.
            let number = began.unsigned_abs();
            let transition = Transition { channel: key, number, change: Change::Occupied };
            apply(bus, &transition, true, 1, bus.shared.clock.wall_ms()).await?;
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

async fn apply(
    bus: &Bus,
    transition: &Transition,
    present: bool,
    number: i64,
    now: Millis,
) -> Result<(), PublishError> {
    let event = event(transition, now);
    let steady = bus.shared.clock.steady_ms();
    let Some(app) = bus.shared.apps.by_id(event.app.as_str()) else { return Ok(()) };
    let event_id = event.id.clone();
    let change = PresenceChange {
        key: key(transition),
        present,
        number,
        event: event_id,
        suppress: false,
        window: 0,
        now: steady,
        wall: now,
    };
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

async fn is_present(
    bus: &Bus,
    key: &ChannelKey,
    user: Option<&str>,
    members: &mut Members,
) -> Result<bool, BrokerError> {
    let Some(user) = user else {
        let state = bus.channel(key).await?;
        return Ok(state.is_some_and(|state| state.occupancy.subscriptions > 0));
    };
    if members.0.as_ref() != Some(key) {
        *members = (Some(key.clone()), bus.members(key).await?);
    }
    Ok(members.1.iter().any(|member| &*member.user == user))
}
