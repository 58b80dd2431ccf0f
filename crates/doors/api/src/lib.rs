//! The Tidings API: the door by which applications publish events and keep hooks, listeners and deliveries, and by which
//! browsers and servers follow channels.
//!
//! `docs/api.md` is the contract. A request meets, in this order: `auth` (whose it is), `api` (one noun a file), `wire` (what
//! it says, read from JSON without I/O), then the bus; every refusal is a `problem`. The way out is [`StandardWebhooks`].
//!
//! Called by `engine`, which mounts [`router`]. The door keeps nothing but its rate limits.
#![forbid(unsafe_code)]

mod api;
mod auth;
mod body;
mod door;
mod fields;
mod limits;
mod outlet;
mod paging;
mod problem;
mod query;
mod stream;
mod wire;

/// Readers of strangers' bytes, for the fuzz targets.
#[doc(hidden)]
pub mod readers {
    use tidings_model::id::{DestinationNo, EventNo};

    use crate::paging::{self, Cursor};
    use crate::stream::cursor;

    /// A stream's cursor over so many channels, read and written again.
    pub fn stream_cursor(text: &str, channels: usize) -> Option<String> {
        cursor::read(text, channels).map(|positions| cursor::write(positions.iter().map(Option::as_ref)))
    }

    /// A cursor of a list, read and written again, by each kind of list that takes it for its own.
    pub fn page_cursor(text: &str) -> Vec<String> {
        fn again<C: Cursor>(text: &str) -> Option<String> {
            paging::decode::<C>(text).map(|cursor| paging::encode(&cursor))
        }
        let all = [
            again::<paging::HookName>(text),
            again::<paging::AppName>(text),
            again::<paging::ChannelName>(text),
            again::<paging::ListenerId>(text),
            again::<EventNo>(text),
            again::<(EventNo, DestinationNo)>(text),
        ];
        all.into_iter().flatten().collect()
    }
}

/// The name of the door, in an app's `doors`.
pub const NAME: &str = "api";

pub use api::router;
pub use door::ApiDoor;
pub use outlet::StandardWebhooks;
