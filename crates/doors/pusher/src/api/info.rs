//! `info`: the attributes of channels that a caller asks for.

use tidings_broker::Occupancy;
use tidings_model::app::App;
use tidings_model::channel::ChannelKey;

use crate::door::PusherDoor;

use super::refusal::Refusal;

/// The attributes that a caller asks for. Unknown names are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) user_count: bool,
    pub(super) subscription_count: bool,
    pub(super) cache: bool,
}

impl Info {
    /// Reads names separated by commas.
    pub(super) fn read(text: &str) -> Self {
        let mut info = Self::default();
        for name in text.split(',') {
            match name.trim() {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                _ => {}
            }
        }
        info
    }
}

/// The current numbers of users and subscriptions in a channel, by its canonical name.
pub(super) async fn occupancy(door: &PusherDoor, app: &App, channel: &str) -> Result<Occupancy, Refusal> {
    let state = door.bus().channel(&ChannelKey::new(app.id.clone(), channel)).await?;
    Ok(state.map(|state| state.occupancy).unwrap_or_default())
}
