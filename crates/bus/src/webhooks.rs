//! An app's webhooks as listeners, so that they share deliveries, retries, the log and replays with all listeners.

use std::collections::HashMap;

use tidings_model::app::App;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::{Listener, Order};
use tidings_model::pattern::Pattern;
use tidings_model::schedule::Schedule;
use tidings_model::signature::{KeyRing, Secret};
use tidings_model::webhook::{Webhook, is_webhook};
use tidings_store::StoreError;

use crate::bus::Bus;
use crate::error::ManageError;

/// The schedule of an app's webhooks, in seconds between attempts: five minutes in all (Pusher Channels, "Webhooks").
const SCHEDULE: [u64; 10] = [0, 1, 2, 4, 8, 16, 30, 60, 90, 90];

impl Bus {
    /// Creates, changes and deletes listeners so that they equal the app's webhooks.
    ///
    /// # Errors
    /// The store's error.
    pub async fn sync_webhooks(&self, app: &App) -> Result<(), ManageError> {
        let now = self.shared.clock.wall_ms();
        let page = self.catalogue().listeners(&app.id, None, usize::MAX, |l| is_webhook(&l.id));
        let mut there: HashMap<_, _> = page.data.into_iter().map(|listener| (listener.id.clone(), listener)).collect();
        for webhook in &app.webhooks {
            let wanted = listener(&app.id, webhook, now)?;
            match there.remove(&wanted.id) {
                None => match self.shared.store.create_listener(wanted).await {
                    // Another node has just created it.
                    Ok(_) | Err(StoreError::Exists) => {}
                    Err(error) => return Err(ManageError::of(webhook.url.as_str(), error)),
                },
                Some(known) if is_same(&known, &wanted) => {}
                Some(known) => {
                    let wanted = Listener { created_at: known.created_at, ..wanted };
                    match self.shared.store.replace_listener(wanted, known.version).await {
                        Ok(()) | Err(StoreError::Conflict) => {}
                        Err(error) => return Err(ManageError::of(&known.id, error)),
                    }
                }
            }
        }
        let mut orphans = false;
        for id in there.into_keys() {
            match self.shared.store.delete_listener(&app.id, &id, now).await {
                Ok(()) | Err(StoreError::Missing) => orphans = true,
                Err(error) => return Err(ManageError::of(&id, error)),
            }
        }
        self.shared.catalogue.sync().await.map_err(ManageError::Store)?;
        if orphans {
            self.shared.courier.cancel_orphans();
        }
        self.shared.courier.wake_scheduler();
        Ok(())
    }
}

/// Whether the listener need not change. A disabled listener counts as changed, so that it is enabled again.
fn is_same(known: &Listener, wanted: &Listener) -> bool {
    let headers = |listener: &Listener| -> Vec<(String, String)> {
        listener.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    };
    known.hooks == wanted.hooks && known.batch == wanted.batch && headers(known) == headers(wanted) && known.enabled()
}

fn listener(app: &AppId, webhook: &Webhook, now: i64) -> Result<Listener, ManageError> {
    let broken = |error: String| ManageError::Store(StoreError::Corrupt(error));
    // Not used: an app's webhooks are signed with the app's secret.
    let unused = Secret::generate().map_err(|error| broken(error.to_string()))?;
    let hooks = webhook.events.iter().map(|kind| Pattern::parse(kind.event_name()));
    let waits = SCHEDULE.iter().map(|seconds| std::time::Duration::from_secs(*seconds)).collect();
    Ok(Listener {
        app: app.clone(),
        id: webhook.listener_id(),
        no: DestinationNo(0),
        url: webhook.url.clone(),
        description: "a webhook of the app".to_owned(),
        hooks: hooks.collect::<Result<_, _>>().map_err(|error| broken(error.to_string()))?,
        filter: webhook.filter().map_err(|error| broken(error.to_string()))?,
        keys: KeyRing::new(unused),
        headers: webhook.headers.clone(),
        rate: None,
        concurrency: None,
        // Events of a channel are delivered in the channel's order.
        order: Order::Key,
        format: webhook.format.clone(),
        batch: webhook.batch,
        timeout: None,
        schedule: Some(Schedule::new(waits).map_err(|error| broken(error.to_string()))?),
        disabled: None,
        owner: None,
        version: 0,
        created_at: now,
        updated_at: now,
    })
}
