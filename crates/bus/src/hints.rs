//! Hints for publishers: the hook or channel whose name is nearest to one that reached no listener and no session.

use tidings_model::app::{App, UnknownHooks};
use tidings_model::pattern::nearest;

use crate::bus::{Bus, Receipt};
use crate::error::PublishError;
use crate::rate::Rate;

/// How often per second names are compared for an app's hints. With many hooks or channels, one comparison takes
/// milliseconds.
const PER_SECOND: u32 = 10;

impl Bus {
    /// Refuses an event whose name is no hook, if the app's `unknown_hooks` says so and either the event has no
    /// channel,
    /// or a hook's name is so near that it was probably intended. For doors whose callers know hooks.
    ///
    /// # Errors
    /// [`PublishError::UnknownHook`], or the store's error.
    pub async fn check_hook(&self, app: &App, name: &str, channels: &[String]) -> Result<(), PublishError> {
        let catalogue = self.catalogue();
        if app.unknown_hooks == UnknownHooks::Accept || catalogue.hook(&app.id, name).is_some() {
            return Ok(());
        }
        // Another node may have created it a moment ago.
        catalogue.sync().await?;
        if catalogue.hook(&app.id, name).is_some() {
            return Ok(());
        }
        match catalogue.nearest_own_hook(&app.id, name, || true) {
            None if !channels.is_empty() => Ok(()),
            nearest => Err(PublishError::UnknownHook { name: name.to_owned(), nearest }),
        }
    }

    /// A hint which hook or channel was probably intended, if the event has no hook, or reached no session and no
    /// listener. Asks no other node.
    pub fn hint(&self, app: &App, name: &str, channels: &[String], receipt: &Receipt) -> Option<String> {
        if receipt.repeated {
            return None;
        }
        let now = self.clock().steady_ms();
        let may_compare = || self.shared.hints.take(app.id.clone(), 1, Rate::per_second(PER_SECOND), now).is_ok();
        if self.catalogue().hook(&app.id, name).is_none()
            && let Some(nearest) = self.catalogue().nearest_own_hook(&app.id, name, may_compare)
        {
            return Some(format!("there is no hook {name:?}; did you mean {nearest:?}?"));
        }
        let has_audience = receipt.channels.iter().any(|outcome| outcome.occupancy.subscriptions > 0);
        if channels.is_empty() || has_audience || receipt.deliveries > 0 || !may_compare() {
            return None;
        }
        let here = self.shared.broker.names_here(&app.id);
        channels.iter().find_map(|channel| {
            let others = here.iter().map(|name| &**name).filter(|name| name != channel);
            let nearest = nearest(channel, others)?;
            Some(format!("no session is in the channel {channel:?}; did you mean {nearest:?}?"))
        })
    }
}
