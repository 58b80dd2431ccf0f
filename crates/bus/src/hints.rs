//! What a publisher probably meant: the name of a hook, or of a channel, that is near to the one that reached nobody.

use tidings_model::app::{App, UnknownHooks};
use tidings_model::pattern::nearest;

use crate::bus::{Bus, Receipt};
use crate::error::PublishError;
use crate::rate::Rate;

/// How often a second names of hooks or channels are compared for an app's hints: with many of them it takes
/// milliseconds.
const PER_SECOND: u32 = 10;

impl Bus {
    /// Refuses an event whose name is no hook, where its app wants that: it names no channel either, or a hook's name
    /// is so near that it was probably meant. For callers who know of hooks; other protocols' doors do not ask.
    ///
    /// # Errors
    /// [`PublishError::UnknownHook`], or the store's.
    pub async fn check_hook(&self, app: &App, name: &str, channels: &[String]) -> Result<(), PublishError> {
        let catalogue = self.catalogue();
        if app.unknown_hooks == UnknownHooks::Accept || catalogue.hook(&app.id, name).is_some() {
            return Ok(());
        }
        // Another node may have made it a moment ago.
        catalogue.sync().await?;
        if catalogue.hook(&app.id, name).is_some() {
            return Ok(());
        }
        match catalogue.nearest_own_hook(&app.id, name, || true) {
            None if !channels.is_empty() => Ok(()),
            nearest => Err(PublishError::UnknownHook { name: name.to_owned(), nearest }),
        }
    }

    /// Who was probably meant by an event of this name, for these channels, that a receipt says reached fewer than it
    /// might have. Asks no other node.
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
        let is_heard = receipt.channels.iter().any(|heard| heard.occupancy.subscriptions > 0);
        if channels.is_empty() || is_heard || receipt.deliveries > 0 || !may_compare() {
            return None;
        }
        let here = self.shared.broker.names_here(&app.id);
        channels.iter().find_map(|channel| {
            let others = here.iter().map(|name| &**name).filter(|name| name != channel);
            let nearest = nearest(channel, others)?;
            Some(format!("nobody is in the channel {channel:?}; did you mean {nearest:?}?"))
        })
    }
}
