//! Writes a group of publishes in one transaction.
//!
//! A group takes the same few statements, however many publishes it has. Idempotency keys and event ids are claimed by
//! inserting them, in sorted order: if two nodes get the same one, the second waits for the first without a deadlock,
//! and then finds its key or event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::{PgConnection, Row};
use tidings_model::id::EventNo;

use super::clock::ServerClock;
use super::connect::{numeric, sql};
use super::lanes::{self, DueIndex};
use super::{leased_batches, locks};
use crate::destinations;
use crate::error::StoreError;
use crate::log::{Lane, Lease, Publish, Published};
use crate::rules::placement::{NewDelivery, Placement, PublishPlan};
use crate::rules::repeat;

/// A publish and the digest of its event.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) publish: Publish,
    pub(super) digest: [u8; 32],
}

impl Pending {
    fn id(&self) -> (&str, &str) {
        (self.publish.event.app.as_str(), &self.publish.event.id)
    }

    fn key(&self) -> Option<(&str, &str)> {
        self.publish.idempotency.as_ref().map(|key| (self.publish.event.app.as_str(), key.key.as_str()))
    }
}

/// Gives numbers to events. They grow over all nodes: each is above those that were committed before. The lowest bits
/// come from the node's incarnation, and differ between nodes that number at the same moment.
#[derive(Debug)]
pub(super) struct Numbers {
    newest: AtomicI64,
    node: i64,
}

impl Numbers {
    const NODE_BITS: u32 = 8;

    pub(super) fn of(incarnation: i64) -> Self {
        Self { newest: AtomicI64::new(0), node: incarnation & ((1 << Self::NODE_BITS) - 1) }
    }

    /// The next number for an event stored at `time`: above `newest` and above all that this node gave before.
    fn next(&self, newest: i64, time: i64) -> EventNo {
        let above = EventNo(newest.max(self.newest.load(Ordering::Relaxed))).next(time).0;
        let step = 1 << Self::NODE_BITS;
        let mut no = above / step * step + self.node;
        if no < above {
            no += step;
        }
        self.newest.store(no, Ordering::Relaxed);
        EventNo(no)
    }
}

/// How many of the first of `waiting` can share a transaction: no id and no key occurs twice, so that a repeated
/// publish finds the first in the store.
pub(super) fn distinct(waiting: &[&Pending]) -> usize {
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    for (count, one) in waiting.iter().enumerate() {
        if !ids.insert(one.id()) || one.key().is_some_and(|key| !keys.insert(key)) {
            return count;
        }
    }
    waiting.len()
}

/// Writes a group in which no id and no key occurs twice. Returns the outcomes in its order. A publish with more than
/// `direct` destinations gets a fan-out row.
pub(super) async fn publish(
    db: &mut PgConnection,
    group: &[Pending],
    direct: usize,
    numbers: &Numbers,
    clock: &ServerClock,
) -> Result<Vec<Published>, StoreError> {
    let held = locks::holding_catalogue_and_lanes(&stripes(group, direct));
    let rows = numeric(format!(
        "{held}; SELECT (SELECT value FROM meta WHERE name = 'catalogue_version'), coalesce((SELECT MAX(no) FROM \
        event), 0),
         ARRAY(SELECT DISTINCT app FROM fanout)"
    ))
    .fetch_all(&mut *db)
    .await?;
    // The rows before the last are the results of the lock functions.
    let row = rows.last().ok_or_else(|| StoreError::Corrupt("no catalogue version".to_owned()))?;
    let (version, newest): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let behind: Vec<String> = row.try_get(2)?;

    let mut answers: Vec<Option<Published>> = vec![None; group.len()];
    let stale = stale(db, group, version).await?;
    let current = |i: usize| !stale.contains(&i);
    claim_keys(db, group, current, clock, &mut answers).await?;
    let fresh: Vec<usize> = (0..group.len()).filter(|&i| answers[i].is_none() && current(i)).collect();
    let numbered: Vec<(usize, EventNo)> =
        fresh.iter().map(|&i| (i, numbers.next(newest, clock.server(group[i].publish.now)))).collect();
    let written = insert_events(db, group, &numbered, clock).await?;
    let (stored, refused): (Vec<_>, Vec<_>) = numbered.into_iter().partition(|(_, no)| written.contains(&no.0));
    // A refused publish does not use its idempotency key.
    let unused: Vec<(&str, &str)> = refused.iter().filter_map(|(i, _)| group[*i].key()).collect();
    forget_keys(db, &unused).await?;
    same_ids(db, group, &mut answers, &stored).await?;
    insert_channels(db, group, &stored).await?;
    place(db, group, &stored, direct, behind.into_iter().collect(), clock, &mut answers).await?;
    let or_refused = |(i, answer): (usize, Option<Published>)| {
        answer.unwrap_or(if current(i) { Published::IdTaken } else { Published::StaleCatalogue })
    };
    Ok(answers.into_iter().enumerate().map(or_refused).collect())
}

/// The publishes whose app's hooks or listeners have changed since they were matched. Changes of other apps are no
/// reason to match an event again.
async fn stale(db: &mut PgConnection, group: &[Pending], version: i64) -> Result<HashSet<usize>, StoreError> {
    let older = || group.iter().enumerate().filter(|(_, one)| one.publish.catalogue_version != version);
    if older().next().is_none() {
        return Ok(HashSet::new());
    }
    let rows = sql("SELECT w.place FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS w (place, app, version)
         WHERE EXISTS (SELECT 1 FROM hook h WHERE h.version > w.version AND h.app = w.app)
         OR EXISTS (SELECT 1 FROM listener l WHERE l.version > w.version AND l.app = w.app)")
    .bind(older().map(|(place, _)| place as i64).collect::<Vec<_>>())
    .bind(older().map(|(_, one)| one.publish.event.app.as_str().to_owned()).collect::<Vec<_>>())
    .bind(older().map(|(_, one)| one.publish.catalogue_version).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok(usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX))).collect()
}

/// The stripes of the lanes that get deliveries of the group.
fn stripes(group: &[Pending], direct: usize) -> Vec<i32> {
    let direct = group.iter().map(|p| &p.publish).filter(|publish| publish.destinations.len() <= direct);
    locks::stripes(direct.flat_map(|publish| {
        let key = publish.event.key.as_deref();
        publish.destinations.iter().filter_map(move |d| Some((d.no, d.lane.name(key)?)))
    }))
}

/// Claims the idempotency keys of the `current` publishes, and sets the answers of those whose key was used before.
async fn claim_keys(
    db: &mut PgConnection,
    group: &[Pending],
    current: impl Fn(usize) -> bool,
    clock: &ServerClock,
    answers: &mut [Option<Published>],
) -> Result<(), StoreError> {
    // Sorted by key, against deadlocks.
    let keyed: BTreeMap<(&str, &str), usize> =
        group.iter().enumerate().filter_map(|(i, p)| Some((p.key()?, i))).collect();
    if keyed.is_empty() {
        return Ok(());
    }
    let apps: Vec<String> = keyed.keys().map(|(app, _)| (*app).to_owned()).collect();
    let keys: Vec<String> = keyed.keys().map(|(_, key)| (*key).to_owned()).collect();
    let forget =
        |i: &usize| group[*i].publish.idempotency.as_ref().map(|key| clock_shift(group, *i, clock) + key.forget_before);
    sql("DELETE FROM idempotency i USING unnest($1::text[], $2::text[], $3::bigint[]) AS w (app, key, before)
         WHERE i.app = w.app AND i.key = w.key AND i.created_at < w.before")
    .bind(apps.clone())
    .bind(keys.clone())
    .bind(keyed.values().map(forget).collect::<Vec<_>>())
    .execute(&mut *db)
    .await?;
    let wanted: Vec<usize> = keyed.values().copied().filter(|&i| current(i)).collect();
    let claimed = sql("INSERT INTO idempotency (app, key, digest, event_id, deliveries, created_at)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[], $6::bigint[])
         ON CONFLICT (app, key) DO NOTHING RETURNING app, key")
    .bind(wanted.iter().map(|&i| group[i].publish.event.app.as_str().to_owned()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|&i| group[i].publish.idempotency.as_ref().map(|k| k.key.clone())).collect::<Vec<_>>())
    .bind(wanted.iter().map(|&i| group[i].publish.idempotency.as_ref().map(|k| k.digest.to_vec())).collect::<Vec<_>>())
    .bind(wanted.iter().map(|&i| group[i].publish.event.id.clone()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|&i| group[i].publish.destinations.len() as i64).collect::<Vec<_>>())
    .bind(wanted.iter().map(|&i| clock.server(group[i].publish.now)).collect::<Vec<_>>())
    .fetch_all(&mut *db)
    .await?;
    let claimed: HashSet<(String, String)> =
        claimed.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    if claimed.len() == keyed.len() {
        return Ok(());
    }
    let used = sql(
        "SELECT i.app, i.key, i.digest, i.event_id, i.deliveries FROM unnest($1::text[], $2::text[]) AS w (app, key)
         JOIN idempotency i ON i.app = w.app AND i.key = w.key",
    )
    .bind(apps)
    .bind(keys)
    .fetch_all(db)
    .await?;
    for row in used {
        let at: (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let Some(&i) = keyed.get(&(at.0.as_str(), at.1.as_str())) else { continue };
        if claimed.contains(&at) {
            continue;
        }
        let same = group[i]
            .publish
            .idempotency
            .as_ref()
            .is_some_and(|key| row.try_get::<&[u8], _>(2).is_ok_and(|d| d == key.digest));
        let deliveries = row.try_get::<i64, _>(4)?.unsigned_abs();
        answers[i] = Some(repeat::of_key(same, row.try_get(3)?, deliveries));
    }
    Ok(())
}

/// How far the server's clock is ahead of a publish's wall time.
fn clock_shift(group: &[Pending], i: usize, clock: &ServerClock) -> i64 {
    clock.server(group[i].publish.now) - group[i].publish.received_at
}

async fn forget_keys(db: &mut PgConnection, unused: &[(&str, &str)]) -> Result<(), StoreError> {
    if unused.is_empty() {
        return Ok(());
    }
    sql("DELETE FROM idempotency i USING unnest($1::text[], $2::text[]) AS w (app, key) WHERE i.app = w.app
         AND i.key = w.key")
    .bind(unused.iter().map(|(app, _)| (*app).to_owned()).collect::<Vec<_>>())
    .bind(unused.iter().map(|(_, key)| (*key).to_owned()).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Writes the events. Returns the numbers of those whose ids were free.
async fn insert_events(
    db: &mut PgConnection,
    group: &[Pending],
    numbered: &[(usize, EventNo)],
    clock: &ServerClock,
) -> Result<HashSet<i64>, StoreError> {
    if numbered.is_empty() {
        return Ok(HashSet::new());
    }
    // Sorted by id, against deadlocks.
    let mut sorted: Vec<(&Pending, EventNo)> = numbered.iter().map(|(i, no)| (&group[*i], *no)).collect();
    sorted.sort_unstable_by_key(|(p, _)| p.id());
    let texts = |read: fn(&Publish) -> Option<&String>| -> Vec<Option<String>> {
        sorted.iter().map(|(p, _)| read(&p.publish).cloned()).collect()
    };
    let mut channels = Vec::with_capacity(sorted.len());
    for (p, _) in &sorted {
        let all = &p.publish.event.channels;
        channels.push(if all.is_empty() { None } else { Some(serde_json::to_string(all)?) });
    }
    let rows = sql("INSERT INTO event (no, app, id, name, channels, content_type, time, op, key, except_session,
         hook_version, received_at, deliveries, digest, data)
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
         $8::text[],
                              $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bytea[],
                              $15::bytea[])
         ON CONFLICT (app, id) DO NOTHING RETURNING no")
    .bind(sorted.iter().map(|(_, no)| no.0).collect::<Vec<_>>())
    .bind(sorted.iter().map(|(p, _)| p.publish.event.app.as_str().to_owned()).collect::<Vec<_>>())
    .bind(texts(|p| Some(&p.event.id)))
    .bind(texts(|p| Some(&p.event.name)))
    .bind(channels)
    .bind(texts(|p| p.event.data.content_type.as_ref()))
    .bind(sorted.iter().map(|(p, _)| p.publish.event.time).collect::<Vec<_>>())
    .bind(texts(|p| p.event.op.as_ref()))
    .bind(texts(|p| p.event.key.as_ref()))
    .bind(texts(|p| p.event.except.as_ref()))
    .bind(sorted.iter().map(|(p, _)| p.publish.hook_version).collect::<Vec<_>>())
    .bind(sorted.iter().map(|(p, _)| clock.server(p.publish.now)).collect::<Vec<_>>())
    .bind(sorted.iter().map(|(p, _)| p.publish.destinations.len() as i64).collect::<Vec<_>>())
    .bind(sorted.iter().map(|(p, _)| p.digest.to_vec()).collect::<Vec<_>>())
    .bind(sorted.iter().map(|(p, _)| p.publish.event.data.bytes.to_vec()).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Sets the answers of publishes whose ids are taken: it looks up those that are neither stored nor answered yet.
async fn same_ids(
    db: &mut PgConnection,
    group: &[Pending],
    answers: &mut [Option<Published>],
    stored: &[(usize, EventNo)],
) -> Result<(), StoreError> {
    let stored: HashSet<usize> = stored.iter().map(|(i, _)| *i).collect();
    let open = |i: usize| answers[i].is_none() && !stored.contains(&i);
    let wanted: HashMap<(&str, &str), usize> =
        (0..group.len()).filter(|&i| open(i)).map(|i| (group[i].id(), i)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = sql("SELECT e.app, e.id, e.digest, e.deliveries FROM unnest($1::text[], $2::text[]) AS w (app, id)
         JOIN event e ON e.app = w.app AND e.id = w.id")
    .bind(wanted.keys().map(|(app, _)| (*app).to_owned()).collect::<Vec<_>>())
    .bind(wanted.keys().map(|(_, id)| (*id).to_owned()).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    for row in rows {
        let (app, id): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Some(&i) = wanted.get(&(app, id)) else { continue };
        let same = row.try_get::<&[u8], _>(2)? == group[i].digest;
        answers[i] = Some(repeat::of_id(same, id, row.try_get::<i64, _>(3)?.unsigned_abs()));
    }
    Ok(())
}

async fn insert_channels(
    db: &mut PgConnection,
    group: &[Pending],
    stored: &[(usize, EventNo)],
) -> Result<(), StoreError> {
    let (mut apps, mut channels, mut nos) = (Vec::new(), Vec::new(), Vec::new());
    for (i, no) in stored {
        let event = &group[*i].publish.event;
        for channel in &event.channels {
            apps.push(event.app.as_str().to_owned());
            channels.push(channel.clone());
            nos.push(no.0);
        }
    }
    if nos.is_empty() {
        return Ok(());
    }
    // The event may name a channel twice.
    sql("INSERT INTO event_channel (app, channel, no) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
         ON CONFLICT DO NOTHING")
    .bind(apps)
    .bind(channels)
    .bind(nos)
    .execute(db)
    .await?;
    Ok(())
}

/// Writes the deliveries, or the rows that stand for them: the leased batches of those that are attempted at once, and
/// the fan-out rows of those that are written later. `behind`: the apps that have fan-out rows.
async fn place(
    db: &mut PgConnection,
    group: &[Pending],
    stored: &[(usize, EventNo)],
    direct: usize,
    mut behind: HashSet<String>,
    clock: &ServerClock,
    answers: &mut [Option<Published>],
) -> Result<(), StoreError> {
    let (mut batches, mut fanouts, mut new, mut new_by) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut results: Vec<(Vec<_>, bool)> = Vec::with_capacity(stored.len());
    for (at, (i, no)) in stored.iter().enumerate() {
        let publish = &group[*i].publish;
        let event = &publish.event;
        let lease = Lease { token: publish.lease.token, until: clock.server(publish.lease.until) };
        let plan = PublishPlan::new(publish, direct, behind.contains(event.app.as_str()));
        for destination in plan.rows {
            new.push(NewDelivery {
                app: &event.app,
                event: *no,
                destination: destination.no,
                lane: destination.lane.name(event.key.as_deref()),
                not_before: publish.not_before.map(|time| clock.server(time)),
                lease: destination.fresh.then_some(lease),
                now: clock.server(publish.now),
            });
            new_by.push(at);
        }
        results.push((plan.batch.clone(), !plan.later.is_empty()));
        if !plan.batch.is_empty() {
            batches.push((*no, lease, plan.batch));
        }
        if !plan.later.is_empty() {
            behind.insert(event.app.as_str().to_owned());
            fanouts.push((*no, publish, plan.later));
        }
    }
    let mut due_index = DueIndex::default();
    let placements = lanes::insert(db, &new, &mut due_index).await?;
    for ((new, at), placement) in new.iter().zip(new_by).zip(placements) {
        match placement {
            Placement::Leased(_) => results[at].0.push(new.destination),
            Placement::Scheduled(_) => results[at].1 = true,
            Placement::Waiting => {}
        }
    }
    leased_batches::insert(db, &batches).await?;
    insert_fanouts(db, &fanouts, clock).await?;
    for ((i, no), (mut leased, queued)) in stored.iter().zip(results) {
        leased.sort_unstable();
        answers[*i] = Some(Published::Stored { no: *no, leased, queued });
    }
    due_index.write(db).await
}

type Later<'a> = (EventNo, &'a Publish, Vec<(tidings_model::id::DestinationNo, Lane)>);

async fn insert_fanouts(db: &mut PgConnection, rows: &[Later<'_>], clock: &ServerClock) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sql("INSERT INTO fanout (event, app, key, not_before, destinations)
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])")
    .bind(rows.iter().map(|(no, ..)| no.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, p, _)| p.event.app.as_str().to_owned()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, p, _)| p.event.key.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, p, _)| p.not_before.map(|time| clock.server(time))).collect::<Vec<_>>())
    .bind(rows.iter().map(|(.., set)| destinations::encode(set.iter().copied())).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}
