//! The catalogue: hooks, listeners and apps, at a version.
//!
//! Every change increments the catalogue version in its own transaction, and the changed record gets that version. So a
//! node that knows version `v` asks for the changes after `v`, and a durable publish that was matched at version `v` is
//! refused if the app's hooks or listeners have changed since.

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::hook::Hook;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::Listener;
use tidings_model::payload::Field;

use crate::error::StoreError;

/// An app that is kept in the store, not in the config file.
#[derive(Clone, PartialEq, Eq)]
pub struct AppRecord {
    /// The app's id.
    pub id: String,
    /// The app's settings, as JSON. They contain secrets.
    pub spec: String,
    /// The catalogue version of its last change.
    pub version: i64,
    /// When it was created (wall time).
    pub created_at: Millis,
    /// When it was last changed (wall time).
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
    /// Hooks as they are now; `true` if deleted.
    pub hooks: Vec<(Hook, bool)>,
    /// Listeners as they are now; `true` if deleted.
    pub listeners: Vec<(Listener, bool)>,
    /// Apps as they are now; `true` if deleted.
    pub apps: Vec<(AppRecord, bool)>,
}

/// Reads and changes hooks and listeners.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// Everything that changed after version `since`; 0 for all records.
    async fn changes(&self, since: i64) -> Result<Changes, StoreError>;

    /// Adds a hook. [`StoreError::Exists`] if the app has one of that name.
    async fn create_hook(&self, hook: Hook) -> Result<(), StoreError>;

    /// Replaces a hook if its version still is `expected`.
    /// [`StoreError::Missing`] if it is deleted, [`StoreError::Conflict`] if it has another version.
    async fn replace_hook(&self, hook: Hook, expected: i64) -> Result<(), StoreError>;

    /// Deletes a hook. [`StoreError::Missing`] if there is none.
    async fn delete_hook(&self, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError>;

    /// The fields that a hook declared at an earlier version; the outer `None` if there was no such version.
    #[allow(
        clippy::option_option,
        reason = "the outer option is whether the version existed, the inner whether it declared fields"
    )]
    async fn fields_at(&self, app: &AppId, hook: &str, version: i64) -> Result<Option<Option<Vec<Field>>>, StoreError>;

    /// Adds a listener and gives it its number. `listener.no` is ignored.
    async fn create_listener(&self, listener: Listener) -> Result<DestinationNo, StoreError>;

    /// Replaces a listener if its version still is `expected`. If that enables it, its pending deliveries are attempted
    /// again; if it disables it, they stay pending.
    /// [`StoreError::Missing`] if it is deleted, [`StoreError::Conflict`] if it has another version.
    async fn replace_listener(&self, listener: Listener, expected: i64) -> Result<(), StoreError>;

    /// Deletes a listener. Its pending deliveries are canceled by [`crate::Queue::cancel_orphans`].
    async fn delete_listener(&self, app: &AppId, id: &str, now: Millis) -> Result<(), StoreError>;

    /// Adds an app. Each of `names` identifies one app only. [`StoreError::Exists`] if its id or one of its names is
    /// taken.
    async fn create_app(&self, app: AppRecord, names: Vec<String>) -> Result<(), StoreError>;

    /// Replaces an app and its names, if its version still is `expected`. [`StoreError::Missing`] if it is deleted,
    /// [`StoreError::Conflict`] if it has another version, [`StoreError::Exists`] if a name is taken.
    async fn replace_app(&self, app: AppRecord, names: Vec<String>, expected: i64) -> Result<(), StoreError>;

    /// Deletes an app and erases its secrets. [`StoreError::Missing`] if there is none.
    async fn delete_app(&self, id: &str, now: Millis) -> Result<(), StoreError>;

    /// Listeners that were disabled because their deliveries failed, and whose event about that is not published yet.
    async fn unannounced(&self) -> Result<Vec<(AppId, String)>, StoreError>;

    /// Records that the event about a disabled listener is published.
    async fn announced(&self, app: &AppId, listener: &str) -> Result<(), StoreError>;
}
