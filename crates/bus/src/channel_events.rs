//! How many channel events a session, an address and an app may cause.
//!
//! A client names the channels that it joins, and each name that is new is an event for every listener. What is limited
//! are arrivals (a channel is occupied, a member is added), because each departure that is sent belongs to an arrival
//! that was, and the two kinds that are neither (counts of subscriptions, cache misses).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_courier::egress::is_public;
use tidings_model::app::App;
use tidings_model::channel::{ChannelKey, SessionId};
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

use crate::rate::Rate;
use crate::throttle::Throttle;

/// In what time the limits of [`tidings_model::app::AppLimits`] may be used up.
const PER: Duration = Duration::from_secs(60);
/// How often the log says that events were dropped, in milliseconds.
const LOG_EVERY: Millis = 1_000;

/// Who has caused a channel event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) session: SessionId,
    pub(crate) client: Option<IpAddr>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Dropped {
    limit: &'static str,
}

/// What was counted, and what was caused by whom.
#[derive(Debug, Default)]
pub(crate) struct ChannelEvents {
    sessions: Throttle<(AppId, SessionId)>,
    clients: Throttle<(AppId, IpAddr)>,
    apps: Throttle<AppId>,
    /// Who is joining a channel at this moment. Of two sessions that join one channel at the same time, either may be
    /// it.
    joining: Mutex<HashMap<ChannelKey, Cause>>,
    /// By the limit that was reached.
    dropped: Family<Dropped, Counter>,
    unlogged: AtomicU64,
    logged_at: Mutex<Option<Millis>>,
}

impl ChannelEvents {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "channel_events_dropped",
            "Channel events that were not sent, by the limit that was reached",
            self.dropped.clone(),
        );
    }

    /// Notes who is about to join a channel of which somebody wants to hear.
    pub(crate) fn joins(&self, channel: &ChannelKey, cause: Cause) {
        self.joining.lock().insert(channel.clone(), cause);
    }

    /// The join has ended.
    pub(crate) fn joined(&self, channel: &ChannelKey) {
        self.joining.lock().remove(channel);
    }

    /// Who is joining a channel at this moment.
    pub(crate) fn cause(&self, channel: &ChannelKey) -> Option<Cause> {
        self.joining.lock().get(channel).copied()
    }

    /// Takes one event from what may be caused.
    ///
    /// # Errors
    /// The limit that is reached; then nothing is taken.
    pub(crate) fn take(&self, app: &App, cause: Option<Cause>, now: Millis) -> Result<(), &'static str> {
        let (session, client, all) = keys(app, cause);
        if let Some((key, rate)) = &session
            && self.sessions.take(key.clone(), 1, *rate, now).is_err()
        {
            return Err("session");
        }
        if let Some((key, rate)) = &client
            && self.clients.take(key.clone(), 1, *rate, now).is_err()
        {
            session.inspect(|(key, rate)| self.sessions.give_back(key, *rate));
            return Err("address");
        }
        if let Some((key, rate)) = all
            && self.apps.take(key, 1, rate, now).is_err()
        {
            session.inspect(|(key, rate)| self.sessions.give_back(key, *rate));
            client.inspect(|(key, rate)| self.clients.give_back(key, *rate));
            return Err("app");
        }
        Ok(())
    }

    /// What was taken was no news.
    pub(crate) fn give_back(&self, app: &App, cause: Option<Cause>) {
        let (session, client, all) = keys(app, cause);
        session.inspect(|(key, rate)| self.sessions.give_back(key, *rate));
        client.inspect(|(key, rate)| self.clients.give_back(key, *rate));
        all.inspect(|(key, rate)| self.apps.give_back(key, *rate));
    }

    /// An event was not sent, because this limit was reached.
    pub(crate) fn dropped(&self, app: &App, limit: &'static str, cause: Option<Cause>, now: Millis) {
        self.dropped.get_or_create(&Dropped { limit }).inc();
        self.log(app, limit, cause, now);
    }

    fn log(&self, app: &App, limit: &'static str, cause: Option<Cause>, now: Millis) {
        self.unlogged.fetch_add(1, Relaxed);
        let mut logged_at = self.logged_at.lock();
        if logged_at.is_some_and(|at| now.saturating_sub(at) < LOG_EVERY) {
            return;
        }
        *logged_at = Some(now);
        let (session, client) = (cause.map(|cause| cause.session.to_string()), cause.and_then(|cause| cause.client));
        tracing::warn!(
            app = %app.id, limit, dropped = self.unlogged.swap(0, Relaxed), session,
            client = client.map(tracing::field::display),
            "channel events dropped: a client joins too many channels; apps.limits.channel_events… set how many may be"
        );
    }
}

/// A bucket's key and rate.
type Limit<K> = Option<(K, Rate)>;

/// The buckets that an event is taken from: the session's, the client's, the app's.
type Limits = (Limit<(AppId, SessionId)>, Limit<(AppId, IpAddr)>, Limit<AppId>);

fn keys(app: &App, cause: Option<Cause>) -> Limits {
    let rate = |count: u32| (count > 0).then_some(Rate { count, per: PER });
    let limits = &app.limits;
    let session = cause.map(|cause| (app.id.clone(), cause.session)).zip(rate(limits.channel_events_per_session));
    // Behind an address that is not public is a proxy, or everybody of a company.
    let client = cause.and_then(|cause| cause.client).filter(|client| is_public(*client));
    let client = client.map(|client| (app.id.clone(), client)).zip(rate(limits.channel_events_per_address));
    (session, client, rate(limits.channel_events).map(|rate| (app.id.clone(), rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(session: u8, client: &str) -> Option<Cause> {
        Some(Cause { session: SessionId::from_random([session; 16]), client: Some(client.parse().unwrap()) })
    }

    // covers: G047
    #[test]
    fn a_session_an_address_and_an_app_have_their_limits() {
        let mut app = App::new("1", "key", "secret".into());
        app.limits.channel_events_per_session = 3;
        app.limits.channel_events_per_address = 5;
        app.limits.channel_events = 8;
        let events = ChannelEvents::default();
        let caused = |app: &App, cause: Option<Cause>, now| events.take(app, cause, now).is_ok();
        let many = |cause, now| (0..10).filter(|_| caused(&app, cause, now)).count();
        assert_eq!(many(cause(1, "8.8.8.8"), 0), 3, "a session");
        assert_eq!(many(cause(2, "8.8.8.8"), 0), 2, "an address");
        assert_eq!(many(cause(3, "8.8.8.8"), 0), 0);
        // Behind a private address is a proxy, or a whole company.
        assert_eq!(many(cause(3, "10.0.0.1"), 0), 3, "the app");
        assert_eq!(many(cause(4, "10.0.0.1"), 0), 0);
        assert_eq!(many(None, 0), 0);
        let other = App { id: "2".into(), ..app.clone() };
        assert!(caused(&other, cause(1, "8.8.8.8"), 0), "another app has its own");
        assert_eq!(many(cause(1, "8.8.8.8"), 60_000), 3, "a minute later");
        events.give_back(&app, cause(1, "8.8.8.8"));
        assert_eq!(many(cause(1, "8.8.8.8"), 60_000), 1, "what was no news");
        let unlimited = |app: &mut App| {
            app.limits.channel_events_per_session = 0;
            app.limits.channel_events_per_address = 0;
            app.limits.channel_events = 0;
        };
        unlimited(&mut app);
        assert!((0..100).all(|_| caused(&app, cause(1, "8.8.8.8"), 60_000)));
    }
}
