//! The tests that every store has to pass. They use the traits only.
//!
//! A store joins with a [`Fixture`] (where its data is, and how it is opened) and one line:
//! `every_test!(Fixture::new())`. [`World`] has the helpers that the tests use.

pub(crate) mod apps;
pub(crate) mod catalogue;
pub(crate) mod exact;
pub(crate) mod failing;
pub(crate) mod lanes;
pub(crate) mod leases;
pub(crate) mod listing;
pub(crate) mod log;
pub(crate) mod model;
pub(crate) mod presence;
pub(crate) mod publish;
pub(crate) mod recovery;
pub(crate) mod retention;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tidings_model::clock::Millis;
use tidings_model::delivery::Attempt;
use tidings_model::event::{Data, Event};
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook, Schema};
use tidings_model::id::{AppId, DestinationNo, EventNo};
use tidings_model::listener::{Format, Listener, Order};
use tidings_model::matcher::Match;
use tidings_model::signature::{KeyRing, Secret};

use crate::Store;
use crate::error::StoreError;
use crate::log::{Destination, Lane, Lease, Publish, Published};
use crate::queue::{
    DeliveryFilter, DeliveryRow, Expanded, FanoutTurn, Finished, Leased, Next, Recorded, Recording, Skip, Wanted,
};

/// Runs each test of the suite against the store at `$fixture`.
macro_rules! every_test {
    ($fixture:expr) => {
        $crate::suite::every_test! { $fixture =>
            apps: an_app_comes_back_as_it_was, what_means_one_app_is_taken_once,
                a_deleted_app_leaves_its_names_and_its_id;
            catalogue: changes_are_told_since_a_version, a_large_catalogue_is_told_whole,
                hooks_keep_their_earlier_fields, who_comes_second_is_told, a_listener_comes_back_as_it_was,
                a_deleted_listener_keeps_no_secret;
            failing: gone_disables_at_once, nothing_but_failure_disables_in_the_end, a_success_clears_the_failures,
                failures_are_told_of_those_that_are_asked_about,
                enabling_again_finds_what_waits, a_disabling_is_announced_once, a_deleted_listener_is_owed_nothing,
                what_happens_to_news_about_listeners_is_no_news,
                what_is_under_way_to_a_deleted_listener_ends_with_its_attempt;
            lanes: a_whole_lane_goes_one_by_one, keys_do_not_block_each_other, a_failing_head_holds_up_its_lane,
                an_ordered_delivery_goes_behind_an_earlier_fanout, the_next_waits_for_its_time,
                consecutive_ones_go_together, what_went_together_comes_back_together, a_few_wait_for_more;
            leases: claims_take_the_longest_due_first, a_lost_lease_changes_nothing, released_deliveries_come_back,
                run_out_leases_are_swept, what_was_leased_together_ends_apart, no_token_is_given_twice,
                due_tells_who_and_when, a_retry_by_hand_in_each_state;
            listing: every_filter_pages_without_gap_or_repeat, attempts_are_kept_and_belong_to_the_app,
                attempts_page_by_number_and_by_bytes, what_moves_is_seen_once, depth_counts_open_work;
            log: events_come_back_as_they_were, every_filter_pages_the_log, a_page_of_the_log_is_bounded_in_bytes;
            publish: up_to_the_limit_deliveries_are_written_at_once, more_destinations_are_fanned_out_exactly_once,
            fan_out_goes_round_by_app,
                what_is_parked_is_passed_over,
                an_id_is_logged_once, other_apps_changes_make_no_publish_stale, an_idempotency_key_makes_one_event,
                duplicates_at_once_make_one_event,
                an_old_catalogue_is_refused, nothing_goes_before_its_time, what_is_not_fresh_is_left_to_the_queue;
            recovery: leases_of_an_earlier_life_are_void, a_clock_set_back_moves_what_is_due_once,
            ten_thousand_survive_a_restart,
                fanout_goes_on_after_a_restart, states_survive_a_restart;
            retention: old_events_go_with_their_deliveries, events_with_open_work_are_kept, old_keys_are_forgotten,
                too_much_goes_oldest_first_and_never_what_is_pending, what_is_gone_keeps_no_contents_and_is_forgotten;
            presence: each_change_is_announced_once, a_suppressed_arrival_suppresses_its_departure,
                an_old_change_is_known, a_departure_is_reverted_within_its_window,
                an_attempted_departure_is_not_reverted, a_reverted_departure_lets_its_lane_go_on,
                a_short_absence_is_not_announced, present_or_unannounced_records_are_listed,
                old_absent_records_are_forgotten, one_of_concurrent_changes_is_announced;
        }
    };
    ($fixture:expr => $($module:ident: $($test:ident),+;)+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $test() {
                let world = $crate::suite::World::at(Box::new($fixture)).await;
                Box::pin($crate::suite::$module::$test(world)).await;
            })+
        })+
    };
}
pub(crate) use every_test;

/// Where a store keeps its data.
#[async_trait]
pub(crate) trait Fixture: Send + Sync {
    /// Opens the store: an empty one at first, later the one that was closed.
    async fn open(&self) -> Arc<dyn Store>;
}

/// Small limits, which a few deliveries reach: of deliveries written in the publish, and of a fan-out slice.
pub(crate) const FEW_DIRECT: usize = 3;
pub(crate) const FEW_FANOUT: usize = 2;

/// The time at which every test begins.
pub(crate) const START: Millis = 1_763_719_000_000;
/// How long a lane waits for more deliveries for one request.
pub(crate) const GATHERS: Millis = 200;
/// How long leases last.
pub(crate) const LEASED_FOR: Millis = 30_000;

/// A store, a clock that moves only when a test moves it, and helpers for both.
pub(crate) struct World {
    fixture: Box<dyn Fixture>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) now: Millis,
    pub(crate) app: AppId,
    made: usize,
}

impl World {
    pub(crate) async fn at(fixture: Box<dyn Fixture>) -> Self {
        let store = fixture.open().await;
        store.recover(START).await.unwrap();
        Self::around(fixture, store)
    }

    /// A world with an open store.
    pub(crate) fn around(fixture: Box<dyn Fixture>, store: Arc<dyn Store>) -> Self {
        Self { fixture, store, now: START, app: AppId::from("1"), made: 0 }
    }

    /// Closes the store and opens it again at the present time. Returns how many leases were ended.
    pub(crate) async fn reopen(&mut self) -> u64 {
        self.store.close().await;
        self.store = self.fixture.open().await;
        self.store.recover(self.now).await.unwrap()
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease { token: self.store.new_token(), until: self.now + LEASED_FOR }
    }

    /// A new listener of the app, in the store.
    pub(crate) async fn listener(&mut self, order: Order) -> DestinationNo {
        self.made += 1;
        let listener = listener(&self.app, &format!("lst_{}", self.made), order);
        self.store.create_listener(listener).await.unwrap()
    }

    pub(crate) async fn listeners(&mut self, count: usize, order: Order) -> Vec<DestinationNo> {
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(self.listener(order).await);
        }
        out
    }

    /// A new listener for each of these orders.
    pub(crate) async fn listeners_in(&mut self, lanes: &[Lane]) -> Vec<DestinationNo> {
        let mut out = Vec::new();
        for lane in lanes {
            let order = match lane {
                Lane::Own => Order::None,
                Lane::Whole => Order::Fifo,
                Lane::Key => Order::Key,
            };
            out.push(self.listener(order).await);
        }
        out
    }

    /// A listener as the store has it now, and whether it is deleted.
    pub(crate) async fn stored(&self, no: DestinationNo) -> (Listener, bool) {
        // A read from version 0 would leave out deleted records.
        self.store.changes(-1).await.unwrap().listeners.into_iter().find(|(l, _)| l.no == no).unwrap()
    }

    /// A publish of an event to destinations that this node attempts at once.
    pub(crate) async fn to(&self, id: &str, destinations: &[DestinationNo], lane: Lane) -> Publish {
        let destination = |no: &DestinationNo| Destination { no: *no, lane, fresh: true };
        Publish {
            event: event(&self.app, id),
            hook_version: None,
            destinations: destinations.iter().map(destination).collect(),
            not_before: None,
            catalogue_version: self.store.changes(i64::MAX - 1).await.unwrap().version,
            idempotency: None,
            lease: self.lease(),
            now: self.now,
            received_at: self.now,
        }
    }

    /// Publishes an event that must be stored. Returns its number and its leased deliveries.
    pub(crate) async fn stored_as(&self, publish: Publish) -> (EventNo, Vec<Leased>) {
        let (app, lease, key) = (publish.event.app.clone(), publish.lease, publish.destinations.clone());
        match self.store.publish(publish).await.unwrap() {
            Published::Stored { no, leased, .. } => {
                let leased = leased.into_iter().map(|destination| Leased {
                    key: tidings_model::id::DeliveryKey { app: app.clone(), event: no, destination },
                    attempts: 0,
                    forgiven: 0,
                    ordered: key.iter().any(|d| d.no == destination && d.lane != Lane::Own),
                    follows: false,
                    in_batch: key.iter().any(|d| d.no == destination && d.lane == Lane::Own),
                    lease,
                });
                (no, leased.collect())
            }
            other => panic!("not stored but {other:?}"),
        }
    }

    pub(crate) async fn publish(&self, id: &str, destinations: &[DestinationNo], lane: Lane) -> (EventNo, Vec<Leased>) {
        self.stored_as(self.to(id, destinations, lane).await).await
    }

    pub(crate) async fn publish_keyed(&self, id: &str, no: DestinationNo, key: &str) -> (EventNo, Vec<Leased>) {
        let mut publish = self.to(id, &[no], Lane::Key).await;
        publish.event.key = Some(key.to_owned());
        self.stored_as(publish).await
    }

    pub(crate) async fn claim(&self, no: DestinationNo, limit: usize) -> Vec<Leased> {
        self.claim_together(no, limit, 1).await
    }

    /// Claims up to `limit` deliveries, up to `batch` consecutive ones of a lane.
    pub(crate) async fn claim_together(&self, no: DestinationNo, limit: usize, batch: usize) -> Vec<Leased> {
        let wanted = vec![Wanted { destination: no, most: limit, batch }];
        self.store.claim(wanted, self.now, self.lease()).await.unwrap()
    }

    pub(crate) async fn expand(&self, fresh: usize) -> Expanded {
        self.take_turn(FanoutTurn { fresh, ..FanoutTurn::default() }).await
    }

    pub(crate) async fn take_turn(&self, turn: FanoutTurn) -> Expanded {
        self.store.expand(self.now, turn, self.lease()).await.unwrap()
    }

    pub(crate) async fn finish(&self, batch: Vec<Finished>) -> Vec<Recorded> {
        self.finish_since(batch, 0).await
    }

    pub(crate) async fn finish_since(&self, batch: Vec<Finished>, disable_failing_since: Millis) -> Vec<Recorded> {
        let recording = Recording {
            now: self.now,
            wall: self.now,
            lease: self.lease(),
            soon: true,
            gather: GATHERS,
            disable_failing_since,
        };
        self.store.finish(Arc::new(batch), recording).await.unwrap()
    }

    pub(crate) async fn deliver(&self, leased: &Leased) -> Recorded {
        self.finish(vec![finished(leased, Next::Delivered)]).await.remove(0)
    }

    pub(crate) async fn all(&self) -> Vec<DeliveryRow> {
        self.store.deliveries(&self.app, DeliveryFilter { limit: 100_000, ..DeliveryFilter::default() }).await.unwrap()
    }

    /// Destinations with work due now, and when the first of the others will have.
    pub(crate) async fn due(&self) -> (Vec<DestinationNo>, Option<Millis>) {
        let due = self.store.due(self.now, Skip::default(), 100).await.unwrap();
        (due.destinations, due.next)
    }
}

/// A claim of at most `most` due deliveries of a destination, one of each lane.
pub(crate) fn wanted(destination: DestinationNo, most: usize) -> Wanted {
    Wanted { destination, most, batch: 1 }
}

/// The result of an attempt.
pub(crate) fn finished(leased: &Leased, next: Next) -> Finished {
    Finished {
        delivery: leased.clone(),
        attempt: (next != Next::Canceled).then(|| attempt(leased.attempts + 1, next)),
        next,
        disable: None,
        was_failing: false,
        pause: None,
        batch: 1,
    }
}

pub(crate) fn attempt(n: u32, next: Next) -> Attempt {
    let failed = next != Next::Delivered;
    Attempt {
        n,
        started_at: START + i64::from(n),
        duration: Duration::from_micros(1_234),
        outcome: if failed { "http_status" } else { "delivered" }.to_owned(),
        status: Some(if failed { 500 } else { 200 }),
        error: failed.then(|| format!("attempt {n} failed")),
        remote: Some("203.0.113.7:443".to_owned()),
        response_headers: failed.then(|| r#"[["server","x"]]"#.to_owned()),
        response_body: b"body".to_vec(),
        next_at: if let Next::Retry(at) = next { Some(at) } else { None },
    }
}

pub(crate) fn event(app: &AppId, id: &str) -> Event {
    Event {
        id: id.to_owned(),
        app: app.clone(),
        name: "person.created".to_owned(),
        channels: Vec::new(),
        data: Data::json(r#"{"name":"Joe"}"#),
        time: START,
        op: None,
        key: None,
        except: None,
    }
}

/// The secret of every listener here.
pub(crate) fn secret() -> Secret {
    Secret::from_bytes(b"0123456789abcdef0123456789abcdef").unwrap()
}

pub(crate) fn listener(app: &AppId, id: &str, order: Order) -> Listener {
    Listener {
        app: app.clone(),
        id: id.to_owned(),
        no: DestinationNo(0),
        url: "https://receiver.example/hook".parse().unwrap(),
        description: "a listener".to_owned(),
        hooks: vec!["person.*".parse_pattern()],
        filter: Match::all(),
        keys: KeyRing::new(secret()),
        headers: vec![("x-token".to_owned(), "hidden-header-value".into())],
        rate: Some(7),
        concurrency: Some(3),
        order,
        format: Format::default(),
        batch: 1,
        timeout: Some(Duration::from_secs(9)),
        schedule: None,
        disabled: None,
        owner: Some("customer".to_owned()),
        version: 0,
        created_at: START,
        updated_at: START,
    }
}

/// A schema with spacing and a number that a JSON library would not reproduce.
fn schema() -> Schema {
    RawValue::from_string("{ \"type\":\"object\", \"maximum\": 1e400, \"b\":1, \"a\":2 }".to_owned()).unwrap().into()
}

pub(crate) fn hook(app: &AppId, name: &str) -> Hook {
    Hook {
        app: app.clone(),
        name: name.to_owned(),
        description: "a hook".to_owned(),
        fields: None,
        fields_for: FieldsFor::All,
        schema: Some(schema()),
        defaults: DeliveryDefaults { timeout: Some(Duration::from_secs(5)), schedule: None },
        version: 0,
        created_at: START,
        updated_at: START,
    }
}

trait ParsePattern {
    fn parse_pattern(&self) -> tidings_model::pattern::Pattern;
}

impl ParsePattern for str {
    fn parse_pattern(&self) -> tidings_model::pattern::Pattern {
        tidings_model::pattern::Pattern::parse(self).unwrap()
    }
}

/// Deletes a listener of the world.
pub(crate) async fn delete(world: &World, no: DestinationNo) {
    let id = world.stored(no).await.0.id;
    let deleted: Result<(), StoreError> = world.store.delete_listener(&world.app, &id, world.now).await;
    deleted.unwrap();
}
