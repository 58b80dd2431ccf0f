//! Who may come in: how many sessions there are, of each app and of all.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidings_model::app::App;
use tidings_model::id::AppId;

use crate::socket::Guard;

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_app: HashMap<AppId, usize>,
    closed: bool,
}

/// Counts sessions.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Of all apps; 0 sets no limit.
    limit: usize,
    taken: Mutex<Taken>,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// From now on nobody comes in.
    pub(crate) fn close(&self) {
        self.taken.lock().closed = true;
    }

    pub(crate) fn admit(self: &Arc<Self>, app: &App) -> Option<Place> {
        let is_full = |taken: usize, limit: usize| limit != 0 && taken >= limit;
        let mut taken = self.taken.lock();
        let of_app = taken.by_app.get(&app.id).copied().unwrap_or(0);
        if taken.closed || is_full(taken.all, self.limit) || is_full(of_app, app.limits.sessions) {
            return None;
        }
        taken.all += 1;
        taken.by_app.insert(app.id.clone(), of_app + 1);
        Some(Place { places: Arc::clone(self), app: app.id.clone(), guard: None })
    }
}

/// The right to be one of the sessions; given back when it is dropped.
pub struct Place {
    places: Arc<Places>,
    app: AppId,
    /// What the end of the session's connection sets free.
    guard: Option<Guard>,
}

impl Place {
    /// The same place, with something that goes when it goes.
    pub(crate) fn keeping(mut self, guard: Option<Guard>) -> Self {
        self.guard = guard;
        self
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.app).finish()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(of_app) = taken.by_app.get_mut(&self.app) {
            *of_app -= 1;
            if *of_app == 0 {
                taken.by_app.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_and_all_apps_have_limits_and_places_come_back() {
        let mut one = App::new("1", "one", "s".into());
        one.limits.sessions = 2;
        let other = App::new("2", "other", "s".into());
        let places = Places::new(3);
        let first = places.admit(&one);
        let second = places.admit(&one);
        assert!(first.is_some() && second.is_some() && places.admit(&one).is_none());
        let third = places.admit(&other);
        assert!(third.is_some() && places.admit(&other).is_none(), "three in all");
        drop(first);
        let again = places.admit(&one);
        assert!(again.is_some());
        drop((second, third, again));
        assert!(places.taken.lock().by_app.is_empty());
        places.close();
        assert!(places.admit(&one).is_none());
    }
}
