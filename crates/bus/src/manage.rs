//! Changes of the catalogue. A change is effective on this node before the caller gets its answer.

use std::sync::Arc;

use tidings_model::app::AppLimits;
use tidings_model::hook::Hook;
use tidings_model::id::{AppId, DeliveryKey};
use tidings_model::listener::Listener;
use tidings_model::pattern::Pattern;
use tidings_model::webhook::is_webhook;
use tidings_store::StoreError;
use tidings_store::queue::Retried;

use crate::bus::Bus;
use crate::error::ManageError;
use crate::usage::Usage;

/// How often a change is tried when other changes conflict with it.
const MAX_TRIES: usize = 10;

/// Changes a hook in place; called again, on the newer record, after a conflict with another change.
pub type HookChange<'a> = dyn Fn(&mut Hook) -> Result<(), ManageError> + Send + Sync + 'a;
/// Changes a listener in place; called again, on the newer record, after a conflict with another change.
pub type ListenerChange<'a> = dyn Fn(&mut Listener) -> Result<(), ManageError> + Send + Sync + 'a;

impl Bus {
    /// Makes a delivery due now, whatever its state.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no such delivery, or another error of the store.
    pub async fn retry_delivery(&self, key: &DeliveryKey) -> Result<Retried, StoreError> {
        let retried = self.shared.store.retry(key, self.clock().steady_ms()).await?;
        self.shared.courier.wake_scheduler();
        Ok(retried)
    }

    /// Adds a hook.
    ///
    /// # Errors
    /// [`ManageError::Exists`], [`ManageError::Limit`], [`ManageError::Budget`] or the store's.
    pub async fn create_hook(&self, hook: Hook) -> Result<Arc<Hook>, ManageError> {
        let (app, name) = (hook.app.clone(), hook.name.clone());
        let _room = self.catalogue().reserve(&app, Usage::of_hook(&hook), &self.limits(&app))?;
        self.shared.store.create_hook(hook).await.map_err(|error| ManageError::of(&name, error))?;
        self.sync().await?;
        self.catalogue().hook(&app, &name).ok_or(ManageError::Missing(name))
    }

    /// Changes a hook.
    ///
    /// # Errors
    /// [`ManageError::Missing`], [`ManageError::Conflict`], [`ManageError::Budget`], the change's own or the store's.
    pub async fn change_hook(
        &self,
        app: &AppId,
        name: &str,
        change: &HookChange<'_>,
    ) -> Result<Arc<Hook>, ManageError> {
        for _ in 0..MAX_TRIES {
            let before = self.own_hook(app, name)?;
            let mut hook = (*before).clone();
            change(&mut hook)?;
            let more = Usage::of_hook(&hook).minus(Usage::of_hook(&before));
            let _room = self.catalogue().reserve(app, more, &self.limits(app))?;
            hook.updated_at = self.shared.clock.wall_ms();
            let replaced = self
                .shared
                .store
                .replace_hook(hook, before.version)
                .await
                .map_err(|error| ManageError::of(name, error));
            self.sync().await?;
            match replaced {
                Ok(()) => return self.own_hook(app, name),
                Err(ManageError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ManageError::Conflict)
    }

    /// Removes a hook that no listener names.
    ///
    /// # Errors
    /// [`ManageError::Missing`], [`ManageError::InUse`] or the store's.
    pub async fn delete_hook(&self, app: &AppId, name: &str) -> Result<(), ManageError> {
        self.own_hook(app, name)?;
        let listeners = self.catalogue().naming(app, name);
        if listeners > 0 {
            return Err(ManageError::InUse { listeners });
        }
        let now = self.shared.clock.wall_ms();
        self.shared.store.delete_hook(app, name, now).await.map_err(|error| ManageError::of(name, error))?;
        self.sync().await
    }

    /// Adds a listener.
    ///
    /// # Errors
    /// [`ManageError::UnknownHook`], [`ManageError::Limit`], [`ManageError::Budget`] or the store's.
    pub async fn create_listener(&self, listener: Listener) -> Result<Arc<Listener>, ManageError> {
        let (app, id) = (listener.app.clone(), listener.id.clone());
        let _room = self.catalogue().reserve(&app, Usage::of_listener(&listener), &self.limits(&app))?;
        self.check_hooks(&app, &listener.hooks)?;
        self.shared.store.create_listener(listener).await.map_err(|error| ManageError::of(&id, error))?;
        self.sync().await?;
        self.own_listener(&app, &id)
    }

    /// Changes a listener. A listener that is enabled again gets its pending deliveries.
    ///
    /// # Errors
    /// [`ManageError::Missing`], [`ManageError::UnknownHook`], [`ManageError::Conflict`], the change's own or the
    /// store's.
    pub async fn change_listener(
        &self,
        app: &AppId,
        id: &str,
        change: &ListenerChange<'_>,
    ) -> Result<Arc<Listener>, ManageError> {
        for _ in 0..MAX_TRIES {
            let before = self.changeable_listener(app, id)?;
            let mut listener = (*before).clone();
            change(&mut listener)?;
            if listener.hooks != before.hooks {
                self.check_hooks(app, &listener.hooks)?;
            }
            let more = Usage::of_listener(&listener).minus(Usage::of_listener(&before));
            let _room = self.catalogue().reserve(app, more, &self.limits(app))?;
            listener.updated_at = self.shared.clock.wall_ms();
            let replaced = self
                .shared
                .store
                .replace_listener(listener, before.version)
                .await
                .map_err(|error| ManageError::of(id, error));
            self.sync().await?;
            match replaced {
                Ok(()) => {
                    self.shared.courier.wake_scheduler();
                    return self.own_listener(app, id);
                }
                Err(ManageError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ManageError::Conflict)
    }

    /// Removes a listener. Its pending deliveries are canceled.
    ///
    /// # Errors
    /// [`ManageError::Missing`] or the store's.
    pub async fn delete_listener(&self, app: &AppId, id: &str) -> Result<(), ManageError> {
        // A listener that this node does not know yet may be in the store.
        if let Err(error @ ManageError::OfApp(_)) = self.changeable_listener(app, id) {
            return Err(error);
        }
        let now = self.shared.clock.wall_ms();
        self.shared.store.delete_listener(app, id, now).await.map_err(|error| ManageError::of(id, error))?;
        self.sync().await?;
        self.shared.courier.cancel_orphans();
        Ok(())
    }

    fn limits(&self, app: &AppId) -> AppLimits {
        self.shared.apps.by_id(app.as_str()).map_or_else(AppLimits::default, |app| app.limits.clone())
    }

    async fn sync(&self) -> Result<(), ManageError> {
        self.shared.catalogue.sync().await.map_err(ManageError::Store)
    }

    fn own_hook(&self, app: &AppId, name: &str) -> Result<Arc<Hook>, ManageError> {
        let hook = self.catalogue().hook(app, name).filter(|hook| hook.version > 0);
        hook.ok_or_else(|| ManageError::Missing(name.to_owned()))
    }

    fn own_listener(&self, app: &AppId, id: &str) -> Result<Arc<Listener>, ManageError> {
        self.catalogue().listener(app, id).ok_or_else(|| ManageError::Missing(id.to_owned()))
    }

    fn changeable_listener(&self, app: &AppId, id: &str) -> Result<Arc<Listener>, ManageError> {
        let listener = self.own_listener(app, id)?;
        if is_webhook(id) { Err(ManageError::OfApp(id.to_owned())) } else { Ok(listener) }
    }

    /// Checks that exact names are hooks. Patterns may match hooks that are created later.
    fn check_hooks(&self, app: &AppId, hooks: &[Pattern]) -> Result<(), ManageError> {
        for (index, pattern) in hooks.iter().enumerate() {
            let name = pattern.as_str();
            if pattern.is_exact() && self.catalogue().hook(app, name).is_none() {
                let nearest = self.catalogue().nearest_hook(app, name);
                return Err(ManageError::UnknownHook { index, name: name.to_owned(), nearest });
            }
        }
        Ok(())
    }
}
