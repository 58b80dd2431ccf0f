//! The catalogue in memory, at a version: hooks, listeners, and the listeners of each hook.
//!
//! It changes in one way only: [`Catalogue::sync`] asks the store for changes since the version it has. This node's own
//! changes call it before their callers get an answer; a publish that the store refuses as stale calls it and matches
//! again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};
use tidings_model::app::AppLimits;
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook};
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::Listener;
use tidings_model::matcher::{Declared, Document};
use tidings_model::pattern::{self, Pattern};
use tidings_model::payload::Field;
use tidings_model::transition::{Kind, Kinds};
use tidings_store::log::Destination;
use tidings_store::{Store, StoreError};

use crate::apps::Apps;
use crate::audience::Audience;
use crate::error::ManageError;
use crate::usage::{Reservation, Reservations, Usage};

/// Built-in hooks of every app, besides those of transitions: Tidings' own events.
const BUILT_IN: &[(&str, &str)] = &[
    ("tidings.listener.disabled", "A listener was disabled because its deliveries failed."),
    ("tidings.test", "A test of one listener, sent by request."),
];

/// The names and descriptions of all built-in hooks.
fn all_built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
    let transitions = Kind::ALL.into_iter().map(|kind| (kind.event_name(), kind.description()));
    BUILT_IN.iter().copied().chain(transitions)
}
/// The largest number of fields of earlier hook versions in memory; each version counts as one more.
const MAX_OLD_FIELDS: usize = 10_000;

/// The largest number of unknown names whose nearest hook is kept.
const MAX_NEAREST: usize = 1_000;

/// A page of records, and where the next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The records.
    pub data: Vec<T>,
    /// The last record's name, when there are more.
    pub next: Option<String>,
}

#[derive(Default)]
struct AppCatalogue {
    hooks: BTreeMap<String, Arc<Hook>>,
    listeners: BTreeMap<String, Arc<Listener>>,
    /// By event name; only names with at least one listener.
    audiences: HashMap<String, Audience>,
    /// The kinds of transitions that listeners subscribe to.
    wanted: Kinds,
    used: Usage,
}

#[derive(Default)]
struct State {
    version: i64,
    apps: HashMap<AppId, AppCatalogue>,
    by_no: HashMap<DestinationNo, Arc<Listener>>,
}

/// The fields that a hook declared; `None` when it declared none, so that all data is sent.
type Fields = Option<Arc<Vec<Field>>>;

/// The hooks and listeners, for the bus and the outlets.
pub struct Catalogue {
    store: Arc<dyn Store>,
    apps: Arc<Apps>,
    state: RwLock<State>,
    /// Held while the store is asked: one sync at a time.
    syncing: tokio::sync::Mutex<()>,
    /// Why the last changes could not be read although the store answers. Until they are, the catalogue is not
    /// reliable.
    unreadable: ArcSwapOption<StoreError>,
    old_fields: RwLock<HashMap<(AppId, String, i64), Fields>>,
    nearest: Mutex<Nearest>,
    reserved: Reservations,
}

/// The hook nearest to each unknown name, as of a version of the catalogue.
#[derive(Debug, Default)]
struct Nearest {
    version: i64,
    count: usize,
    of: HashMap<AppId, HashMap<String, Option<String>>>,
}

/// The destinations of an event, as of a version of the catalogue.
pub(crate) struct Matched {
    pub(crate) version: i64,
    pub(crate) destinations: Vec<Destination>,
    /// Listeners whose matches are so expensive that they are tried on another thread.
    pub(crate) late: Vec<Arc<Listener>>,
}

impl Catalogue {
    /// Reads all hooks and listeners, and adds the store's apps to `apps`.
    ///
    /// # Errors
    /// The store's error.
    pub async fn load(store: Arc<dyn Store>, apps: Arc<Apps>) -> Result<Arc<Self>, StoreError> {
        let catalogue = Arc::new(Self {
            store,
            apps,
            state: RwLock::default(),
            syncing: tokio::sync::Mutex::default(),
            unreadable: ArcSwapOption::empty(),
            old_fields: RwLock::default(),
            nearest: Mutex::default(),
            reserved: Reservations::default(),
        });
        catalogue.sync().await?;
        Ok(catalogue)
    }

    /// Takes over changes from the store.
    ///
    /// # Errors
    /// The store's error.
    pub async fn sync(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.syncing.lock().await;
        let since = self.state.read().version;
        let changes = match self.store.changes(since).await {
            Ok(changes) => changes,
            // The store cannot be reached or is busy, so other nodes cannot change it either: the catalogue still
            // holds.
            Err(error) if error.is_temporary() || error == StoreError::Closed => return Err(error),
            Err(error) => {
                let error = StoreError::UnreadableCatalogue(error.to_string());
                self.unreadable.store(Some(Arc::new(error.clone())));
                return Err(error);
            }
        };
        warn_of_large_matches(changes.listeners.iter().filter(|(_, gone)| !gone).map(|(listener, _)| listener));
        let mut state = self.state.write();
        // Hooks first, because listeners are sorted into the audiences of known hooks.
        for (hook, gone) in changes.hooks {
            state.apply_hook(hook, gone);
        }
        for (listener, gone) in changes.listeners {
            state.apply_listener(listener, gone);
        }
        state.version = changes.version;
        drop(state);
        self.apps.apply_changes(changes.apps);
        self.unreadable.store(None);
        Ok(())
    }

    /// Whether the catalogue is what the store holds. If not, an event without a hook here may have one in the store.
    ///
    /// # Errors
    /// [`StoreError::UnreadableCatalogue`] after a [`Catalogue::sync`] that could not read the changes, until one can.
    pub fn readable(&self) -> Result<(), StoreError> {
        self.unreadable.load().as_ref().map_or(Ok(()), |error| Err(StoreError::clone(error)))
    }

    /// A hook by its name, including built-in hooks.
    pub fn hook(&self, app: &AppId, name: &str) -> Option<Arc<Hook>> {
        let state = self.state.read();
        state.apps.get(app).and_then(|app| app.hooks.get(name)).cloned().or_else(|| built_in(app, name))
    }

    /// A page of an app's own hooks by name.
    pub fn hooks(&self, app: &AppId, after: Option<&str>, limit: usize) -> Page<Arc<Hook>> {
        let state = self.state.read();
        state.apps.get(app).map_or_else(Page::empty, |app| page(&app.hooks, after, limit, |_| true))
    }

    /// A listener by its id.
    pub fn listener(&self, app: &AppId, id: &str) -> Option<Arc<Listener>> {
        self.state.read().apps.get(app)?.listeners.get(id).cloned()
    }

    /// A listener of any app by its number: for the courier, which knows destinations only by number.
    pub fn listener_by_no(&self, no: DestinationNo) -> Option<Arc<Listener>> {
        self.state.read().by_no.get(&no).cloned()
    }

    /// A page of an app's listeners by id, oldest first.
    pub fn listeners(
        &self,
        app: &AppId,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&Listener) -> bool,
    ) -> Page<Arc<Listener>> {
        let state = self.state.read();
        state.apps.get(app).map_or_else(Page::empty, |app| page(&app.listeners, after, limit, |l| wanted(l)))
    }

    /// Reserves room in the app's limits for a record that is about to be stored.
    ///
    /// # Errors
    /// [`ManageError::Limit`] and [`ManageError::Budget`].
    pub(crate) fn reserve(&self, app: &AppId, more: Usage, limits: &AppLimits) -> Result<Reservation<'_>, ManageError> {
        let used = self.state.read().apps.get(app).map_or_else(Usage::default, |app| app.used);
        self.reserved.reserve(app, used, more, limits)
    }

    /// The declarations of all hooks that these names and patterns match.
    pub fn declared(&self, app: &AppId, hooks: &[Pattern]) -> Declared {
        let state = self.state.read();
        let known = state.apps.get(app);
        let names = known.map_or_else(|| AppCatalogue::default().names(hooks), |known| known.names(hooks));
        let hook = |name: &String| known.and_then(|app| app.hooks.get(name)).cloned().or_else(|| built_in(app, name));
        Declared::by(names.iter().filter_map(hook).collect())
    }

    /// The number of an app's listeners that name a hook exactly.
    pub fn naming(&self, app: &AppId, hook: &str) -> usize {
        let names = |listener: &Listener| listener.hooks.iter().any(|p| p.is_exact() && p.as_str() == hook);
        self.state.read().apps.get(app).map_or(0, |app| app.listeners.values().filter(|l| names(l)).count())
    }

    /// The app's hook, built-in or not, whose name is nearest to a wrong name.
    pub fn nearest_hook(&self, app: &AppId, name: &str) -> Option<String> {
        let state = self.state.read();
        let own = state.apps.get(app).into_iter().flat_map(|app| app.hooks.keys().map(String::as_str));
        pattern::nearest(name, own.chain(all_built_in().map(|(name, _)| name))).map(str::to_owned)
    }

    /// The app's own hook whose name is nearest to an unknown name. This is called for each event without a hook, so
    /// results are cached until the catalogue changes. A result that is not cached is computed only if `may_compare`.
    pub(crate) fn nearest_own_hook(
        &self,
        app: &AppId,
        name: &str,
        may_compare: impl FnOnce() -> bool,
    ) -> Option<String> {
        let state = self.state.read();
        let own = &state.apps.get(app).filter(|app| !app.hooks.is_empty())?.hooks;
        let of_now = |found: &Nearest| found.version == state.version && found.count < MAX_NEAREST;
        if let Some(known) = Some(self.nearest.lock()).filter(|found| of_now(found)).and_then(|f| f.get(app, name)) {
            return known;
        }
        if !may_compare() {
            return None;
        }
        let nearest = pattern::nearest(name, own.keys().map(String::as_str)).map(str::to_owned);
        let mut found = self.nearest.lock();
        if !of_now(&found) {
            *found = Nearest { version: state.version, ..Nearest::default() };
        }
        found.count += 1;
        found.of.entry(app.clone()).or_default().insert(name.to_owned(), nearest.clone());
        nearest
    }

    /// The fields that a hook declared at `version`.
    ///
    /// # Errors
    /// The store's error, when an earlier version has to be read.
    pub async fn fields_at(&self, app: &AppId, name: &str, version: i64) -> Result<Fields, StoreError> {
        if let Some(hook) = self.hook(app, name).filter(|hook| hook.version == version) {
            return Ok(hook.fields.clone().map(Arc::new));
        }
        let key = (app.clone(), name.to_owned(), version);
        if let Some(fields) = self.old_fields.read().get(&key) {
            return Ok(fields.clone());
        }
        let fields = self.store.fields_at(app, name, version).await?;
        let fields = fields
            .ok_or_else(|| StoreError::Corrupt(format!("hook {name:?} never had version {version}")))?
            .map(Arc::new);
        let mut old = self.old_fields.write();
        let kept: usize = old.values().map(|fields| 1 + fields.as_ref().map_or(0, |fields| fields.len())).sum();
        if kept >= MAX_OLD_FIELDS {
            old.clear();
        }
        old.insert(key, fields.clone());
        Ok(fields)
    }

    /// The kinds of transitions that the app's listeners subscribe to. Arrivals and departures are included in pairs,
    /// because each needs the other to be recorded.
    pub(crate) fn wanted(&self, app: &AppId) -> Kinds {
        self.state.read().apps.get(app).map_or(Kinds::NONE, |app| app.wanted)
    }

    pub(crate) fn version(&self) -> i64 {
        self.state.read().version
    }

    /// The destinations of an event with this name and document. The event's fields were selected by a version of the
    /// hook, so it must be matched at the same version: `None` when the hook has changed meanwhile.
    pub(crate) fn matching(
        &self,
        app: &AppId,
        name: &str,
        hook_version: Option<i64>,
        document: &Document<'_>,
    ) -> Option<Matched> {
        let state = self.state.read();
        let version = state.version;
        let known = state.apps.get(app);
        let present = known
            .and_then(|app| app.hooks.get(name))
            .map(|hook| hook.version)
            .or_else(|| is_built_in(name).then_some(0));
        if present != hook_version {
            return None;
        }
        let audience = known.and_then(|app| app.audiences.get(name));
        let mut late = Vec::new();
        let destinations = audience.map_or_else(Vec::new, |audience| audience.matching(document, &mut late));
        Some(Matched { version, destinations, late })
    }
}

impl Nearest {
    #[expect(clippy::option_option, reason = "the outer option is whether it is known, the inner whether there is one")]
    fn get(&self, app: &AppId, name: &str) -> Option<Option<String>> {
        self.of.get(app)?.get(name).cloned()
    }
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalogue").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl State {
    fn apply_hook(&mut self, hook: Hook, gone: bool) {
        let app = self.apps.entry(hook.app.clone()).or_default();
        let name = hook.name.clone();
        if let Some(before) = app.hooks.get(&name) {
            app.used = app.used.minus(Usage::of_hook(before));
        }
        if gone {
            app.hooks.remove(&name);
            app.audiences.remove(&name);
            return;
        }
        app.used = app.used.plus(Usage::of_hook(&hook));
        if app.hooks.insert(name.clone(), Arc::new(hook)).is_none() {
            // A new name: patterns of existing listeners may match it.
            for listener in app.listeners.values().filter(|listener| wants(&listener.hooks, &name)) {
                app.audiences.entry(name.clone()).or_default().insert(listener);
            }
        }
    }

    fn apply_listener(&mut self, listener: Listener, gone: bool) {
        let app = self.apps.entry(listener.app.clone()).or_default();
        if let Some(before) = app.listeners.remove(&listener.id) {
            app.leave(&before);
            app.used = app.used.minus(Usage::of_listener(&before));
            self.by_no.remove(&before.no);
        }
        if !gone {
            let listener = Arc::new(listener);
            app.join(&listener);
            app.used = app.used.plus(Usage::of_listener(&listener));
            self.by_no.insert(listener.no, Arc::clone(&listener));
            app.listeners.insert(listener.id.clone(), listener);
        }
    }
}

impl AppCatalogue {
    /// The event names that these names and patterns match.
    fn names(&self, hooks: &[Pattern]) -> Vec<String> {
        if hooks.iter().all(Pattern::is_exact) {
            let there = |name: &&str| self.hooks.contains_key(*name) || is_built_in(name);
            return hooks.iter().map(Pattern::as_str).filter(there).map(str::to_owned).collect();
        }
        let own = self.hooks.keys().map(String::as_str);
        own.chain(all_built_in().map(|(name, _)| name)).filter(|name| wants(hooks, name)).map(str::to_owned).collect()
    }

    fn join(&mut self, listener: &Arc<Listener>) {
        for name in self.names(&listener.hooks) {
            self.audiences.entry(name).or_default().insert(listener);
        }
        self.update_wanted();
    }

    fn leave(&mut self, listener: &Listener) {
        for name in self.names(&listener.hooks) {
            if let Some(audience) = self.audiences.get_mut(&name) {
                audience.remove(listener);
                if audience.is_empty() {
                    self.audiences.remove(&name);
                }
            }
        }
        self.update_wanted();
    }

    fn update_wanted(&mut self) {
        let wants = |kind: &Kind| self.audiences.contains_key(kind.event_name());
        let mut wanted: Kinds = Kind::ALL.into_iter().filter(wants).collect();
        for (coming, going) in [(Kind::Occupied, Kind::Vacated), (Kind::MemberAdded, Kind::MemberRemoved)] {
            if wanted.has(coming) || wanted.has(going) {
                wanted = wanted.with(coming).with(going);
            }
        }
        self.wanted = wanted;
    }
}

/// Whether one of a listener's names and patterns matches a hook. Tidings' own events are matched only by patterns that
/// begin with the reserved prefix.
fn wants(hooks: &[Pattern], name: &str) -> bool {
    let asked = |pattern: &&Pattern| !pattern::is_reserved(name) || pattern::is_reserved(pattern.as_str());
    hooks.iter().filter(asked).any(|pattern| pattern.matches(name))
}

/// Logs listeners whose matches are above the size limit, because they were stored before there was one.
fn warn_of_large_matches<'l>(listeners: impl Iterator<Item = &'l Listener>) {
    const NAMED: usize = 20;
    let large: Vec<&Listener> = listeners.filter(|listener| listener.filter.is_large()).collect();
    if large.is_empty() {
        return;
    }
    let names: Vec<String> =
        large.iter().take(NAMED).map(|listener| format!("{} (app {})", listener.id, listener.app.as_str())).collect();
    tracing::warn!(
        count = large.len(),
        listeners = names.join(", "),
        "matches above the size limit are compiled for each event, which is slow: shorten them (docs/matches.md)"
    );
}

fn is_built_in(name: &str) -> bool {
    all_built_in().any(|(built_in, _)| built_in == name)
}

fn built_in(app: &AppId, name: &str) -> Option<Arc<Hook>> {
    let (name, description) = all_built_in().find(|(built_in, _)| *built_in == name)?;
    Some(Arc::new(Hook {
        app: app.clone(),
        name: name.to_owned(),
        description: description.to_owned(),
        fields: None,
        fields_for: FieldsFor::All,
        schema: None,
        defaults: DeliveryDefaults::default(),
        version: 0,
        created_at: 0,
        updated_at: 0,
    }))
}

impl<T> Page<T> {
    fn empty() -> Self {
        Self { data: Vec::new(), next: None }
    }
}

fn page<T>(
    all: &BTreeMap<String, Arc<T>>,
    after: Option<&str>,
    limit: usize,
    wanted: impl Fn(&T) -> bool,
) -> Page<Arc<T>> {
    use std::ops::Bound;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut found = all.range::<str, _>((from, Bound::Unbounded)).filter(|(_, record)| wanted(record));
    let mut data = Vec::new();
    let mut last = None;
    for (name, record) in found.by_ref().take(limit) {
        data.push(Arc::clone(record));
        last = Some(name.clone());
    }
    let next = if found.next().is_some() { last } else { None };
    Page { data, next }
}
