//! Orders to sessions, on whichever node they are.

use std::sync::Arc;

use bytes::Bytes;
use tidings_model::channel::SessionId;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

/// An order that the server gives to sessions of an app, such as to disconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOrder {
    /// The app of the sessions.
    pub app: AppId,
    /// Which of the app's sessions.
    pub to: Who,
    /// The one of them that does not carry out the order.
    pub except: Option<SessionId>,
    /// What they are to do.
    pub action: Action,
}

/// Which sessions of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// One session.
    Session(SessionId),
    /// All sessions of one user.
    User(Arc<str>),
    /// All sessions of the app.
    All,
}

/// What a session is ordered to do. The session's protocol carries it out in its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// To end, because the app demands it.
    Disconnect {
        /// The close code for the client, if the protocol can send one; `None`: the protocol's own.
        code: Option<u16>,
        /// The close reason in words, likewise.
        reason: Option<String>,
    },
    /// To end, because the app is no longer served.
    Shut,
    /// To reconnect, because the app has changed.
    Renew,
    /// To join this channel, because the app demands it.
    Subscribe(String),
    /// To leave this channel.
    Unsubscribe(String),
    /// To treat its token as valid until this wall time; `None`: for ever.
    Refresh(Option<Millis>),
    /// To send its client these bytes, which are in its protocol's format.
    Send(Bytes),
}

impl SessionOrder {
    /// Ends sessions with the close code and reason of their protocol.
    pub fn disconnect(app: AppId, to: Who) -> Self {
        Self { app, to, except: None, action: Action::Disconnect { code: None, reason: None } }
    }

    /// An order to all sessions of an app.
    pub fn to_all(app: AppId, action: Action) -> Self {
        Self { app, to: Who::All, except: None, action }
    }
}
