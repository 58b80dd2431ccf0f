//! Changes of apps while the server runs. A change is effective on this node before the caller gets its answer.

use std::sync::Arc;

use serde_json::Value;
use tidings_broker::{Action, SessionOrder};
use tidings_store::StoreError;
use tidings_store::catalogue::AppRecord;
use tidings_supervisor::fault;

use crate::apps::{AppChange, Spec, StoredApp, unique_digests};
use crate::bus::Bus;
use crate::error::ManageError;

/// How often a change is tried when other changes conflict with it.
const MAX_TRIES: usize = 10;
/// Hooks and listeners of a deleted app that are removed per page.
const PAGE: usize = 500;

impl Bus {
    /// Adds an app to the store. Without an id it gets the next free number.
    ///
    /// # Errors
    /// [`ManageError::WrongApp`], [`ManageError::Apps`] when it conflicts with another app, or the store's error.
    pub async fn create_app(&self, spec: Spec) -> Result<Arc<StoredApp>, ManageError> {
        let is_numbered = !spec.contains_key("id");
        for _ in 0..MAX_TRIES {
            let mut spec = spec.clone();
            if is_numbered {
                spec.insert("id".to_owned(), self.next_id().into());
            }
            let app = Arc::new(self.apps().read(&spec).map_err(ManageError::WrongApp)?);
            self.apps().check_unique(&app).map_err(ManageError::Apps)?;
            let now = self.shared.clock.wall_ms();
            let id = app.id.as_str().to_owned();
            let record = AppRecord {
                id: id.clone(),
                spec: Value::Object(spec).to_string(),
                version: 0,
                created_at: now,
                updated_at: now,
            };
            let made = self.shared.store.create_app(record, unique_digests(&app)).await;
            self.sync_apps().await?;
            match made {
                Ok(()) => {
                    self.sync_webhooks(&app).await?;
                    return self.stored_app(&id);
                }
                // Another node has just used the number.
                Err(StoreError::Exists) if is_numbered => {}
                Err(error) => return Err(ManageError::of(&id, error)),
            }
        }
        Err(ManageError::Conflict)
    }

    /// Changes an app in the store, by a JSON merge patch (RFC 7396): what `change` does not name stays.
    ///
    /// # Errors
    /// As [`Bus::create_app`]; [`ManageError::Fixed`] for an app of the config file, [`ManageError::Missing`].
    pub async fn change_app(&self, id: &str, change: &Spec) -> Result<Arc<StoredApp>, ManageError> {
        for _ in 0..MAX_TRIES {
            let before = self.stored_app(id)?;
            let mut spec = Value::Object(before.spec.clone());
            merge(&mut spec, &Value::Object(change.clone()));
            let Value::Object(spec) = spec else { return Err(ManageError::Conflict) };
            let app = Arc::new(self.apps().read(&spec).map_err(ManageError::WrongApp)?);
            self.apps().check_unique(&app).map_err(ManageError::Apps)?;
            let record = AppRecord {
                id: id.to_owned(),
                spec: Value::Object(spec).to_string(),
                version: before.version,
                created_at: before.created_at,
                updated_at: self.shared.clock.wall_ms(),
            };
            let changed = self.shared.store.replace_app(record, unique_digests(&app), before.version).await;
            self.sync_apps().await?;
            match changed {
                Ok(()) => {
                    self.sync_webhooks(&app).await?;
                    return self.stored_app(id);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(ManageError::of(id, error)),
            }
        }
        Err(ManageError::Conflict)
    }

    /// Removes an app from the store, with its hooks and listeners. Pending deliveries of its listeners are canceled.
    ///
    /// # Errors
    /// [`ManageError::Fixed`] for an app of the config file, [`ManageError::Missing`], or the store's error.
    pub async fn delete_app(&self, id: &str) -> Result<(), ManageError> {
        let app = self.stored_app(id)?.app.id.clone();
        let now = self.shared.clock.wall_ms();
        self.shared.store.delete_app(id, now).await.map_err(|error| ManageError::of(id, error))?;
        self.sync_apps().await?;
        let gone = |done: Result<(), StoreError>| match done {
            Ok(()) | Err(StoreError::Missing) => Ok(()),
            Err(error) => Err(ManageError::Store(error)),
        };
        loop {
            let listeners = self.catalogue().listeners(&app, None, PAGE, |_| true).data;
            let hooks = self.catalogue().hooks(&app, None, PAGE).data;
            if listeners.is_empty() && hooks.is_empty() {
                break;
            }
            for listener in listeners {
                gone(self.shared.store.delete_listener(&app, &listener.id, now).await)?;
            }
            for hook in hooks {
                gone(self.shared.store.delete_hook(&app, &hook.name, now).await)?;
            }
            self.sync_apps().await?;
        }
        self.shared.courier.cancel_orphans();
        Ok(())
    }

    fn stored_app(&self, id: &str) -> Result<Arc<StoredApp>, ManageError> {
        if self.apps().is_fixed(id) {
            return Err(ManageError::Fixed(id.to_owned()));
        }
        self.apps().stored(id).ok_or_else(|| ManageError::Missing(id.to_owned()))
    }

    /// The number after the highest numeric id: Pusher's libraries require numeric ids.
    fn next_id(&self) -> String {
        let highest = self.apps().all().iter().filter_map(|app| app.id.as_str().parse::<u32>().ok()).max();
        (u64::from(highest.unwrap_or(0)) + 1).to_string()
    }

    async fn sync_apps(&self) -> Result<(), ManageError> {
        self.shared.catalogue.sync().await.map_err(ManageError::Store)
    }
}

/// Orders sessions of changed apps to reconnect, or to end.
pub(crate) async fn notify_sessions(bus: Bus) {
    loop {
        bus.apps().changed.notified().await;
        fault::point("app-changes");
        for (app, change) in bus.apps().take_changes() {
            bus.shared.broker.order_here(SessionOrder::to_all(app, action(change)));
        }
    }
}

fn action(change: AppChange) -> Action {
    match change {
        AppChange::Shut => Action::Shut,
        AppChange::Renewed => Action::Renew,
    }
}

/// Applies a JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Spec::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::merge;

    #[test]
    fn a_change_says_what_is_another() {
        let mut spec = json!({"a": 1, "limits": {"x": 1, "y": 2}, "list": [1, 2], "gone": true});
        merge(
            &mut spec,
            &json!({"limits": {"y": null, "z": 3}, "list": [3], "gone": null, "new": {"b": null, "c": 1}}),
        );
        assert_eq!(spec, json!({"a": 1, "limits": {"x": 1, "z": 3}, "list": [3], "new": {"c": 1}}));
    }
}
