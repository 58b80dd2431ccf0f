//! Publishes the event `tidings.listener.disabled`.
//!
//! A task publishes an event for each listener that the store lists as unannounced, when the courier notifies it and at
//! intervals. So no event is lost in a crash, and the event's id makes a repeat harmless.

use std::time::Duration;

use tidings_courier::Notice;
use tidings_model::event::{Data, Event};
use tidings_model::id::{AppId, RESERVED_ID_PREFIX};
use tidings_store::StoreError;
use tidings_supervisor::fault;
use tokio::sync::mpsc;

use crate::bus::Bus;
use crate::error::PublishError;

/// How often the store is asked without a notice of the courier: another node may have died before it published.
const POLL: Duration = Duration::from_secs(30);

/// Runs until the courier stops.
pub(crate) async fn run(bus: Bus, mut notices: mpsc::UnboundedReceiver<Notice>) {
    loop {
        fault::point("listener-notices");
        if let Err(error) = announce(&bus).await {
            tracing::warn!(%error, "disabled listeners not announced; trying again");
        }
        match tokio::time::timeout(POLL, notices.recv()).await {
            Ok(None) => return,
            Ok(Some(Notice::Disabled)) | Err(_) => {}
        }
    }
}

async fn announce(bus: &Bus) -> Result<(), PublishError> {
    bus.shared.catalogue.sync().await?;
    let unannounced = bus.shared.store.unannounced().await?;
    for (app, id) in unannounced {
        if let Some(event) = event(bus, &app, &id) {
            let reason = bus.shared.catalogue.listener(&app, &id).and_then(|listener| listener.disabled.clone());
            let reason = reason.map(|disabled| disabled.reason).unwrap_or_default();
            tracing::warn!(
                app = %app, listener = id, reason,
                "listener disabled because its deliveries failed; pending deliveries wait: repair the receiver, then \
                enable the listener with `tidings listener update --enabled`"
            );
            match bus.publish_own(event.into()).await {
                // The event was published before, and then the node was interrupted.
                Ok(_) | Err(PublishError::IdTaken) => {}
                Err(error @ (PublishError::Store(_) | PublishError::Live(_))) => return Err(error),
                Err(error) => tracing::error!(%error, listener = id, "publishing tidings.listener.disabled failed"),
            }
        }
        bus.shared
            .store
            .announced(&app, &id)
            .await
            .or_else(|error| if error == StoreError::Missing { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

fn event(bus: &Bus, app: &AppId, id: &str) -> Option<Event> {
    let listener = bus.shared.catalogue.listener(app, id)?;
    let disabled = listener.disabled.as_ref()?;
    let data = serde_json::json!({
        "listener": listener.id,
        "url": listener.url,
        "owner": listener.owner,
        "reason": disabled.reason,
        "disabled_at": tidings_model::clock::rfc3339(disabled.at),
    });
    Some(Event {
        // The id contains the listener's version, so each disabling is announced once.
        id: format!("{RESERVED_ID_PREFIX}disabled_{}_{}", listener.id, listener.version),
        app: app.clone(),
        name: "tidings.listener.disabled".to_owned(),
        channels: Vec::new(),
        data: Data::json(data.to_string()),
        time: disabled.at,
        op: None,
        key: None,
        except: None,
    })
}
