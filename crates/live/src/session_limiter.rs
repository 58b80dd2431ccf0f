//! Limits the number of sessions, per app and on the node.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidings_model::app::App;
use tidings_model::id::AppId;

use crate::socket::Guard;
use crate::traffic::{AppTraffic, Traffic};

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_app: HashMap<AppId, AppSessions>,
    closed: bool,
}

#[derive(Debug)]
struct AppSessions {
    taken: usize,
    traffic: Arc<AppTraffic>,
}

/// Counts sessions, and admits one more while there is room.
#[derive(Debug, Default)]
pub(crate) struct SessionLimiter {
    /// Most sessions of all apps together; 0 sets no limit.
    limit: usize,
    taken: Mutex<Counts>,
    traffic: Traffic,
}

/// Why a session is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The app is at its session limit.
    App,
    /// The node is at its session limit.
    Node,
    /// The node is shutting down.
    Stopping,
}

impl SessionLimiter {
    pub(crate) fn new(limit: usize, traffic: Traffic) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default(), traffic })
    }

    /// Admits no session from now on.
    pub(crate) fn close(&self) {
        self.taken.lock().closed = true;
    }

    pub(crate) fn admit(self: &Arc<Self>, app: &App, client: Option<IpAddr>) -> Result<SessionPermit, NotAdmitted> {
        let is_full = |taken: usize, limit: usize| limit != 0 && taken >= limit;
        let mut taken = self.taken.lock();
        let of_app = taken.by_app.get(&app.id).map_or(0, |of_app| of_app.taken);
        if taken.closed {
            return Err(NotAdmitted::Stopping);
        }
        if is_full(of_app, app.limits.sessions) {
            return Err(NotAdmitted::App);
        }
        if is_full(taken.all, self.limit) {
            return Err(NotAdmitted::Node);
        }
        taken.all += 1;
        let of_app = taken
            .by_app
            .entry(app.id.clone())
            .or_insert_with(|| AppSessions { taken: 0, traffic: self.traffic.of(&app.id) });
        of_app.taken += 1;
        let traffic = Arc::clone(&of_app.traffic);
        Ok(SessionPermit { limiter: Arc::clone(self), traffic, client, guard: None })
    }
}

/// One admitted session; dropping it frees its place under the limits.
pub struct SessionPermit {
    limiter: Arc<SessionLimiter>,
    /// The app's counters.
    pub(crate) traffic: Arc<AppTraffic>,
    /// The client's address, if it is known.
    pub(crate) client: Option<IpAddr>,
    /// The connection's own guard, dropped with the permit.
    guard: Option<Guard>,
}

impl SessionPermit {
    /// The same permit, with a guard that is dropped with it.
    pub(crate) fn keeping(mut self, guard: Option<Guard>) -> Self {
        self.guard = guard;
        self
    }
}

impl fmt::Debug for SessionPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionPermit").field(&self.traffic.app).finish()
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        let mut taken = self.limiter.taken.lock();
        taken.all -= 1;
        if let Some(of_app) = taken.by_app.get_mut(&self.traffic.app) {
            of_app.taken -= 1;
            if of_app.taken == 0 {
                taken.by_app.remove(&self.traffic.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_and_all_apps_have_limits_and_permits_come_back() {
        let mut one = App::new("1", "one", "s".into());
        one.limits.sessions = 2;
        let other = App::new("2", "other", "s".into());
        let limiter = SessionLimiter::new(3, Traffic::default());
        let admit = |app: &App| limiter.admit(app, None);
        let refused = |app: &App| limiter.admit(app, None).err();
        let first = admit(&one).unwrap();
        let second = admit(&one).unwrap();
        assert_eq!(refused(&one), Some(NotAdmitted::App));
        let third = admit(&other).unwrap();
        assert_eq!(refused(&other), Some(NotAdmitted::Node), "three in all");
        drop(first);
        let again = admit(&one).unwrap();
        drop((second, third, again));
        assert!(limiter.taken.lock().by_app.is_empty());
        limiter.close();
        assert_eq!(refused(&one), Some(NotAdmitted::Stopping));
    }
}
