//! What sessions are ordered to do, on whichever node they are.

use std::sync::Arc;

use bytes::Bytes;
use tidings_model::channel::SessionId;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

/// An order to sessions of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOrder {
    /// Their app.
    pub app: AppId,
    /// Which of its sessions.
    pub to: Who,
    /// One of them that is left alone.
    pub except: Option<SessionId>,
    /// What they are to do.
    pub action: Action,
}

/// Which sessions of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// This one.
    Session(SessionId),
    /// All of this user's.
    User(Arc<str>),
    /// All.
    All,
}

/// What a session is ordered to do. Its protocol carries it out in its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// To end, because the app says so.
    Disconnect {
        /// What the client is told, where the protocol has a place for it; `None`: what the protocol says of itself.
        code: Option<u16>,
        /// The same in words.
        reason: Option<String>,
    },
    /// To end, because the app is no longer served.
    Shut,
    /// To reconnect, because the app has changed.
    Renew,
    /// To join this channel, by the app's will.
    Subscribe(String),
    /// To leave this channel.
    Unsubscribe(String),
    /// To take its rights for valid until this wall time; `None`: for ever.
    Refresh(Option<Millis>),
    /// To hand these bytes, which its protocol understands, to its client.
    Send(Bytes),
}

impl SessionOrder {
    /// Ends sessions with what their protocol says of itself.
    pub fn disconnect(app: AppId, to: Who) -> Self {
        Self { app, to, except: None, action: Action::Disconnect { code: None, reason: None } }
    }

    /// Tells all sessions of an app.
    pub fn to_all(app: AppId, action: Action) -> Self {
        Self { app, to: Who::All, except: None, action }
    }
}
