//! The test suite that every broker has to pass.
//!
//! A broker takes part with a [`BrokerFixture`] (how it is opened, and how a test waits until all its messages are
//! delivered) and one line: `every_test!(BrokerFixture::new())`. Tests are written with [`World`]: session `n` is on
//! shard `n % 2`, and each message that a shard receives is written as one line ([`lines`]).

pub(crate) mod cache;
pub(crate) mod counting;
pub(crate) mod history;
pub(crate) mod joining;
pub(crate) mod lines;
pub(crate) mod listing;
pub(crate) mod model;
pub(crate) mod presence;
mod samples;
pub(crate) mod threads;
pub(crate) mod transitions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidings_model::channel::{ChannelKey, ChannelOptions};
use tidings_model::clock::ManualClock;
use tidings_model::id::AppId;
use tidings_model::transition::{Kinds, Transition};
use tidings_wire::Encoding;

use crate::broker::{Broker, BrokerError, Join, Leave, Occupancy, Publish, Since};
use crate::shard_message::{DeliveryMode, ShardMessage, Shards};
use crate::transition_sink::TransitionSink;
use lines::Epochs;
pub(crate) use samples::{SHARDS, at, event, key, member, session};

/// Runs each test of the suite against the broker at `$place`.
macro_rules! every_test {
    ($place:expr) => {
        $crate::suite::every_test! { $place =>
            cache: the_last_publication_is_kept_for_who_comes, client_events_are_not_cached,
                a_cached_publication_expires, without_the_option_nothing_is_cached;
            counting: every_change_is_told, of_many_the_number_is_told_now_and_then,
                without_the_option_no_number_is_told;
            history: offsets_have_no_gap_and_client_events_none, who_comes_back_gets_what_they_missed,
                the_last_ones_on_request, history_is_bounded_in_number, history_is_bounded_in_time,
                a_position_outlives_its_history, a_position_from_before_the_first_publication_counts,
                a_forgotten_history_begins_anew, history_is_read_from_both_ends,
                a_history_that_is_not_wanted_any_more_goes;
            joining: a_session_hears_what_comes_after_its_welcome, only_shards_with_subscribers_are_told,
                joining_again_counts_once, a_leave_of_a_stranger_changes_nothing, a_slot_has_one_tenant_after_the_other,
                exceptions_and_users_are_handed_on, apps_do_not_hear_each_other, orders_reach_every_shard,
                an_overloaded_node_publishes_nothing;
            listing: channels_are_paged_by_name, a_channel_is_there_while_somebody_or_something_is;
            presence: members_come_and_go, a_user_is_there_from_the_first_session_to_the_last,
                comings_are_told_without_presence, presence_is_kept_without_telling, a_full_channel_takes_no_new_user,
                a_session_without_a_user_is_no_member;
            transitions: the_first_and_the_last_session_are_noted, a_user_is_noted_from_the_first_session_to_the_last,
                every_number_that_is_told_is_noted, of_many_comers_one_misses_the_cached_event,
                what_nobody_wants_is_not_noted, what_becomes_of_the_servers_own_channels_is_not_noted,
                what_is_refused_or_repeated_is_no_transition, numbers_grow_over_a_channels_lives;
        }
    };
    ($place:expr => $($module:ident: $($test:ident),+;)+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $test() {
                let mut world = $crate::suite::World::at(Box::new($place)).await;
                Box::pin($crate::suite::$module::$test(&mut world)).await;
                world.ends_empty().await;
            })+
        })+
    };
}
pub(crate) use every_test;

/// Opens a broker for tests.
#[async_trait]
pub(crate) trait BrokerFixture: Send + Sync {
    /// Opens a broker that holds nothing.
    async fn open(
        &self,
        clock: Arc<ManualClock>,
        shards: Arc<RecordingShards>,
        sink: Arc<RecordingSink>,
    ) -> Arc<dyn Broker>;

    /// Waits until all messages that finished calls have caused are delivered.
    async fn settle(&self);

    /// Whether the broker holds nothing at all.
    async fn is_empty(&self) -> bool;
}

/// Shards that record the messages they receive.
#[derive(Debug)]
pub(crate) struct RecordingShards {
    inboxes: Vec<Mutex<Vec<ShardMessage>>>,
    overloaded: AtomicBool,
}

impl RecordingShards {
    pub(crate) fn new(shards: u16) -> Arc<Self> {
        let inboxes = (0..shards).map(|_| Mutex::default()).collect();
        Arc::new(Self { inboxes, overloaded: AtomicBool::new(false) })
    }

    /// Takes the messages that a shard has received.
    pub(crate) fn take(&self, shard: u16) -> Vec<ShardMessage> {
        std::mem::take(&mut *self.inboxes[usize::from(shard)].lock())
    }

    /// The messages that a shard has received, from the `from`th on, without taking them.
    pub(crate) fn since(&self, shard: u16, from: usize) -> Vec<ShardMessage> {
        self.inboxes[usize::from(shard)].lock()[from..].to_vec()
    }

    pub(crate) fn overload(&self, overloaded: bool) {
        self.overloaded.store(overloaded, Ordering::SeqCst);
    }
}

impl Shards for RecordingShards {
    fn count(&self) -> u16 {
        self.inboxes.len() as u16
    }

    fn send(&self, shard: u16, message: ShardMessage) {
        self.inboxes[usize::from(shard)].lock().push(message);
    }

    fn overloaded(&self) -> bool {
        self.overloaded.load(Ordering::SeqCst)
    }
}

/// A transition sink that records all transitions.
#[derive(Debug, Default)]
pub(crate) struct RecordingSink {
    pub(crate) wanted: Mutex<Kinds>,
    pub(crate) recorded: Mutex<Vec<Transition>>,
    pub(crate) unsure: AtomicBool,
}

impl TransitionSink for RecordingSink {
    fn wanted(&self, _: &AppId) -> Kinds {
        *self.wanted.lock()
    }

    fn record(&self, transition: Transition) {
        self.recorded.lock().push(transition);
    }

    fn reconcile(&self) {
        self.unsure.store(true, Ordering::SeqCst);
    }
}

static SILENT: Encoding = Encoding { name: "silent", encode: |_| None };

/// A broker, recording shards, a manual clock, and short methods for the tests.
pub(crate) struct World {
    fixture: Box<dyn BrokerFixture>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) shards: Arc<RecordingShards>,
    pub(crate) sink: Arc<RecordingSink>,
    pub(crate) options: ChannelOptions,
    pub(crate) epochs: Epochs,
    /// The channels of each session.
    joined: Vec<(u32, ChannelKey)>,
}

impl World {
    pub(crate) async fn at(fixture: Box<dyn BrokerFixture>) -> Self {
        let (clock, shards) = (ManualClock::at(1_763_719_000_000), RecordingShards::new(SHARDS));
        let sink = Arc::new(RecordingSink::default());
        let broker = fixture.open(Arc::clone(&clock), Arc::clone(&shards), Arc::clone(&sink)).await;
        let options = ChannelOptions::default();
        Self { fixture, broker, clock, shards, sink, options, epochs: Epochs::default(), joined: Vec::new() }
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Sweeps often enough to visit every partition.
    pub(crate) async fn sweep(&self) {
        for _ in 0..8 {
            self.broker.sweep().await;
        }
    }

    /// Session `n` joins channel `c`, as a member if it has a user.
    pub(crate) async fn join(&mut self, n: u32, user: &str) {
        self.join_in("c", n, user, None).await;
    }

    pub(crate) async fn join_since(&mut self, n: u32, since: Since) {
        self.join_in("c", n, "", Some(since)).await;
    }

    pub(crate) async fn join_in(&mut self, channel: &str, n: u32, user: &str, since: Option<Since>) {
        let join = self.to_join(channel, n, user, since);
        self.joined.push((n, join.channel.clone()));
        self.broker.join(join).await.unwrap();
    }

    pub(crate) fn to_join(&self, channel: &str, n: u32, user: &str, since: Option<Since>) -> Join {
        Join {
            channel: key(channel),
            options: Arc::new(self.options.clone()),
            session: session(n),
            at: at(n),
            request_id: 100 + n,
            member: (!user.is_empty()).then(|| member(n, user)),
            since,
            mode: DeliveryMode::Shared(&SILENT),
        }
    }

    pub(crate) async fn leave(&self, n: u32) {
        self.leave_in("c", n).await;
    }

    pub(crate) async fn leave_in(&self, channel: &str, n: u32) {
        let leave = Leave { channel: key(channel), session: session(n), at: at(n), request_id: 200 + n };
        self.broker.leave(leave).await.unwrap();
    }

    /// Publishes an event of this id in channel `c`.
    pub(crate) async fn publish(&self, id: &str) -> Occupancy {
        self.broker.publish(self.to_publish("c", id)).await.unwrap().occupancy
    }

    pub(crate) async fn publish_by_client(&self, id: &str) -> Result<Occupancy, BrokerError> {
        let said = self.broker.publish(Publish { by_client: true, ..self.to_publish("c", id) }).await?;
        Ok(said.occupancy)
    }

    pub(crate) fn to_publish(&self, channel: &str, id: &str) -> Publish {
        let (channel, options) = (key(channel), Arc::new(self.options.clone()));
        Publish { channel, options, event: event(id, 2), except: None, user: None, by_client: false }
    }

    /// The messages that each shard has received since the last call.
    pub(crate) async fn received(&mut self) -> [Vec<String>; SHARDS as usize] {
        self.fixture.settle().await;
        std::array::from_fn(|shard| {
            self.shards
                .take(shard as u16)
                .iter()
                .map(|received| lines::shard_message(received, &mut self.epochs))
                .collect()
        })
    }

    /// Asserts that the shards have received exactly these messages since the last call.
    #[track_caller]
    pub(crate) fn receives(&mut self, first: &[&str], second: &[&str]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let received = self.received().await;
            for (shard, expected) in [first, second].into_iter().enumerate() {
                assert_eq!(received[shard], expected, "shard {shard} at {caller}");
            }
        }
    }

    /// The transitions recorded since the last call, one line each.
    pub(crate) async fn recorded(&mut self) -> Vec<String> {
        self.fixture.settle().await;
        std::mem::take(&mut *self.sink.recorded.lock()).iter().map(lines::recorded).collect()
    }

    /// Asserts that the broker holds nothing after all sessions have left and everything has expired.
    pub(crate) async fn ends_empty(&mut self) {
        for (n, channel) in std::mem::take(&mut self.joined) {
            let leave = Leave { channel, session: session(n), at: at(n), request_id: 200 + n };
            self.broker.leave(leave).await.unwrap();
        }
        self.pass(24 * 3_600_000);
        self.sweep().await;
        assert!(self.fixture.is_empty().await, "something is left");
    }
}
