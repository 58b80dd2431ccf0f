//! The number and size of an app's hooks and listeners, and their limits. The limits are checked when a hook or
//! listener
//! is stored, so that publishing an event need not check them.

use std::collections::HashMap;

use parking_lot::Mutex;
use tidings_model::app::AppLimits;
use tidings_model::hook::Hook;
use tidings_model::id::AppId;
use tidings_model::listener::Listener;

use crate::error::ManageError;

/// About how many bytes a record takes besides its strings.
const RECORD: usize = 512;

/// Counts, and bytes in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) hooks: usize,
    pub(crate) listeners: usize,
    /// Compiled matches, their caches included.
    matches: usize,
    /// All other data of hooks and listeners.
    catalogue: usize,
}

impl Usage {
    /// The usage of a hook.
    pub(crate) fn of_hook(hook: &Hook) -> Self {
        let fields = hook.fields.iter().flatten().map(|field| size_of_val(field) + field.name.len()).sum::<usize>();
        let schema = hook.schema.as_ref().map_or(0, |schema| schema.as_str().len());
        let catalogue = RECORD + hook.name.len() + hook.description.len() + fields + schema;
        Self { hooks: 1, catalogue, ..Self::default() }
    }

    /// The usage of a listener.
    pub(crate) fn of_listener(listener: &Listener) -> Self {
        let headers = listener.headers.iter().map(|(name, value)| name.len() + value.expose().len()).sum::<usize>();
        let hooks = listener.hooks.iter().map(|pattern| size_of_val(pattern) + pattern.as_str().len()).sum::<usize>();
        let texts =
            listener.url.as_str().len() + listener.description.len() + listener.owner.as_ref().map_or(0, String::len);
        let catalogue = RECORD + headers + hooks + texts;
        Self { listeners: 1, matches: listener.filter.size(), catalogue, hooks: 0 }
    }

    fn each(self, other: Self, with: impl Fn(usize, usize) -> usize) -> Self {
        Self {
            hooks: with(self.hooks, other.hooks),
            listeners: with(self.listeners, other.listeners),
            matches: with(self.matches, other.matches),
            catalogue: with(self.catalogue, other.catalogue),
        }
    }

    /// The sum.
    pub(crate) fn plus(self, other: Self) -> Self {
        self.each(other, usize::saturating_add)
    }

    /// The difference; 0 where it would be negative.
    pub(crate) fn minus(self, other: Self) -> Self {
        self.each(other, usize::saturating_sub)
    }

    /// Whether there is room for this much more. A count or size that does not grow is never refused, even above its
    /// limit.
    fn has_room(self, more: Self, limits: &AppLimits) -> Result<(), ManageError> {
        let counts = [
            ("hooks", self.hooks, more.hooks, limits.hooks),
            ("listeners", self.listeners, more.listeners, limits.listeners),
        ];
        for (what, used, more, limit) in counts {
            if more > 0 && used.saturating_add(more) > limit {
                return Err(ManageError::Limit { what, limit });
            }
        }
        let sizes = [
            ("matches", self.matches, more.matches, limits.matches),
            ("catalogue", self.catalogue, more.catalogue, limits.catalogue),
        ];
        for (what, used, more, limit) in sizes {
            if more > 0 && used.saturating_add(more) > limit {
                return Err(ManageError::Budget { what, used, more, limit });
            }
        }
        Ok(())
    }
}

/// The usage of changes in progress, which the catalogue does not contain yet. So concurrent changes cannot exceed a
/// limit together.
#[derive(Default)]
pub(crate) struct Reservations(Mutex<HashMap<AppId, Usage>>);

/// Reserved room, given back on drop.
pub(crate) struct Reservation<'r> {
    all: &'r Reservations,
    app: AppId,
    more: Usage,
}

impl Reservations {
    /// Reserves room for `more` besides what is `used`.
    pub(crate) fn reserve(
        &self,
        app: &AppId,
        used: Usage,
        more: Usage,
        limits: &AppLimits,
    ) -> Result<Reservation<'_>, ManageError> {
        let mut all = self.0.lock();
        let pending = all.entry(app.clone()).or_default();
        let room = used.plus(*pending).has_room(more, limits);
        *pending = pending.plus(more);
        drop(all);
        let reservation = Reservation { all: self, app: app.clone(), more };
        room.map(|()| reservation)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(pending) = all.get_mut(&self.app) {
            *pending = pending.minus(self.more);
            if *pending == Usage::default() {
                all.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G013
    #[test]
    fn what_is_being_stored_counts_until_it_is_known() {
        let limits = AppLimits { matches: 100, listeners: 2, ..AppLimits::default() };
        let app = AppId::from("one");
        let all = Reservations::default();
        let more = |matches| Usage { listeners: 1, matches, ..Usage::default() };
        let first = all.reserve(&app, Usage::default(), more(60), &limits).unwrap();
        let refused = all.reserve(&app, Usage::default(), more(50), &limits).err().unwrap();
        assert_eq!(refused, ManageError::Budget { what: "matches", used: 60, more: 50, limit: 100 });
        let _second = all.reserve(&app, Usage::default(), more(40), &limits).unwrap();
        let refused = all.reserve(&app, Usage::default(), more(0), &limits).err().unwrap();
        assert_eq!(refused, ManageError::Limit { what: "listeners", limit: 2 });
        assert!(all.reserve(&AppId::from("two"), Usage::default(), more(100), &limits).is_ok(), "another app's");
        drop(first);
        assert!(all.reserve(&app, Usage::default(), more(60), &limits).is_ok());
    }

    #[test]
    fn what_does_not_grow_is_not_refused() {
        let limits = AppLimits { matches: 100, ..AppLimits::default() };
        let used = Usage { matches: 500, ..Usage::default() };
        assert!(used.has_room(Usage { catalogue: 10, ..Usage::default() }, &limits).is_ok());
        assert!(used.has_room(Usage { matches: 1, ..Usage::default() }, &limits).is_err());
    }
}
