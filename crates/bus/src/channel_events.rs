//! Limits on channel events per session, address and app.
//!
//! Clients choose the names of the channels that they join, and each new name is an event for every listener. The
//! limits
//! apply to arrivals (a channel is occupied, a member is added) and to subscription counts and cache misses. Departures
//! need no limit, because each belongs to an arrival that was sent.

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

/// The period of the limits in [`tidings_model::app::AppLimits`].
const PER: Duration = Duration::from_secs(60);
/// The shortest time between two log lines about dropped events, in milliseconds.
const LOG_EVERY: Millis = 1_000;

/// The session that has caused a channel event, and its client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) session: SessionId,
    pub(crate) client: Option<IpAddr>,
}

/// Metric label: the limit that was reached.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Dropped {
    limit: &'static str,
}

/// The limits' buckets, and the sessions that are joining channels.
#[derive(Debug, Default)]
pub(crate) struct ChannelEvents {
    sessions: Throttle<(AppId, SessionId)>,
    clients: Throttle<(AppId, IpAddr)>,
    apps: Throttle<AppId>,
    /// The session that is joining each channel at this moment. If two sessions join a channel at the same time, it may
    /// be either.
    joining: Mutex<HashMap<ChannelKey, Cause>>,
    /// Dropped events, by the limit that was reached.
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

    /// Records the session that is about to join a channel.
    pub(crate) fn joins(&self, channel: &ChannelKey, cause: Cause) {
        self.joining.lock().insert(channel.clone(), cause);
    }

    /// Forgets the session of a join that has ended.
    pub(crate) fn joined(&self, channel: &ChannelKey) {
        self.joining.lock().remove(channel);
    }

    /// The session that is joining a channel at this moment.
    pub(crate) fn cause(&self, channel: &ChannelKey) -> Option<Cause> {
        self.joining.lock().get(channel).copied()
    }

    /// Takes one event from all limits that apply.
    ///
    /// # Errors
    /// The limit that is reached; then no limit is used up.
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

    /// Gives back what [`ChannelEvents::take`] took, for an event that was not sent.
    pub(crate) fn give_back(&self, app: &App, cause: Option<Cause>) {
        let (session, client, all) = keys(app, cause);
        session.inspect(|(key, rate)| self.sessions.give_back(key, *rate));
        client.inspect(|(key, rate)| self.clients.give_back(key, *rate));
        all.inspect(|(key, rate)| self.apps.give_back(key, *rate));
    }

    /// Counts and logs an event that was dropped because this limit was reached.
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
            "channel events dropped: a client joins too many channels; the limits are apps.limits.channel_events…"
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
    // An address that is not public is a proxy's, or is shared by many clients.
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
