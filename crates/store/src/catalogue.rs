//! The catalogue: hooks, listeners and apps, at a version.
//!
//! Every change bumps the one catalogue version in its own transaction, and the changed record bears that version. So a
//! node that knows version `v` asks for what changed since, and a durable publish that was matched against `v` is
//! refused when the store has moved on.

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::hook::Hook;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::Listener;
use tidings_model::payload::Field;

use crate::error::StoreError;

/// An app that is kept in the store, and not in the config.
#[derive(Clone, PartialEq, Eq)]
pub struct AppRecord {
    /// Its id.
    pub id: String,
    /// What it is, as JSON; it holds secrets.
    pub spec: String,
    /// The catalogue version of its last change.
    pub version: i64,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

impl std::fmt::Debug for AppRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppRecord").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

/// What changed between two versions of the catalogue.
#[derive(Debug, Default)]
pub struct Changes {
    /// The version that these changes lead to.
    pub version: i64,
    /// Hooks as they are now; `true` when they are gone.
    pub hooks: Vec<(Hook, bool)>,
    /// Listeners as they are now; `true` when they are gone.
    pub listeners: Vec<(Listener, bool)>,
    /// Apps as they are now; `true` when they are gone.
    pub apps: Vec<(AppRecord, bool)>,
}

/// Reads and changes hooks and listeners.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// Everything that changed after version `since`; 0 asks for all there is.
    async fn changes(&self, since: i64) -> Result<Changes, StoreError>;

    /// Adds a hook. [`StoreError::Exists`] when the app has one of that name.
    async fn create_hook(&self, hook: Hook) -> Result<(), StoreError>;

    /// Replaces a hook that still is at `expected` version.
    /// [`StoreError::Missing`] when it is gone, [`StoreError::Conflict`] when it has moved on.
    async fn replace_hook(&self, hook: Hook, expected: i64) -> Result<(), StoreError>;

    /// Removes a hook. [`StoreError::Missing`] when there is none.
    async fn delete_hook(&self, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError>;

    /// The fields that a hook declared at an earlier version; the outer `None` when that version never was.
    #[allow(
        clippy::option_option,
        reason = "the outer option is whether the version was, the inner whether it declared fields"
    )]
    async fn fields_at(&self, app: &AppId, hook: &str, version: i64) -> Result<Option<Option<Vec<Field>>>, StoreError>;

    /// Adds a listener and gives it its number. `listener.no` is ignored.
    async fn create_listener(&self, listener: Listener) -> Result<DestinationNo, StoreError>;

    /// Replaces a listener that still is at `expected` version. One that is enabled again has its waiting deliveries
    /// taken up; one that is disabled keeps them.
    /// [`StoreError::Missing`] when it is gone, [`StoreError::Conflict`] when it has moved on.
    async fn replace_listener(&self, listener: Listener, expected: i64) -> Result<(), StoreError>;

    /// Removes a listener. Its pending deliveries are canceled by [`crate::Queue::cancel_orphans`].
    async fn delete_listener(&self, app: &AppId, id: &str, now: Millis) -> Result<(), StoreError>;

    /// Adds an app. Each of `names` means one app only. [`StoreError::Exists`] when its id or one of its names is
    /// taken.
    async fn create_app(&self, app: AppRecord, names: Vec<String>) -> Result<(), StoreError>;

    /// Replaces an app that still is at `expected` version, and its names. [`StoreError::Missing`] when it is gone,
    /// [`StoreError::Conflict`] when it has moved on, [`StoreError::Exists`] when a name is taken.
    async fn replace_app(&self, app: AppRecord, names: Vec<String>, expected: i64) -> Result<(), StoreError>;

    /// Removes an app and erases its secrets. [`StoreError::Missing`] when there is none.
    async fn delete_app(&self, id: &str, now: Millis) -> Result<(), StoreError>;

    /// Listeners that were disabled by their deliveries and of which nobody has been told yet.
    async fn unannounced(&self) -> Result<Vec<(AppId, String)>, StoreError>;

    /// Notes that a listener's disabling has been told.
    async fn announced(&self, app: &AppId, listener: &str) -> Result<(), StoreError>;
}
