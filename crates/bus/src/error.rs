//! Errors of the bus.

use tidings_broker::BrokerError;
use tidings_model::pattern::NameError;
use tidings_model::payload::FieldTypeError;
use tidings_store::StoreError;
use tidings_supervisor::{Failure, Panicked};

use crate::apps::{AppsError, WrongField};

/// Why an event was not published. Nothing of it is kept, except perhaps after [`PublishError::Panicked`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The event's name is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such hook, and the app requires one for its events.
    #[error("there is no hook {name:?}")]
    UnknownHook {
        /// The event's name.
        name: String,
        /// The nearest hook, which was probably intended.
        nearest: Option<String>,
    },
    /// The event's hook declares fields that the data does not fit.
    #[error("the hook {hook:?} declares fields, and the data does not fit: {source}")]
    Fields {
        /// The hook's name.
        hook: String,
        /// The field that does not fit, and why.
        source: FieldTypeError,
    },
    /// The id was used for another event.
    #[error("the id was used before, for another event")]
    IdTaken,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used before, for another request")]
    KeyTaken,
    /// A required part of the node has failed, so it takes no more events.
    #[error(
        "the server has failed ({0}) and takes no more events; the same request works again when it has been restarted"
    )]
    Failed(Failure),
    /// The publish panicked. Parts of it may have been done.
    #[error("a bug in the server: publishing {id} panicked ({panicked})")]
    Panicked {
        /// The event's id, which is also in the log.
        id: String,
        /// The panic's message.
        panicked: Panicked,
    },
    /// The store could not write it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker could not send the event to live sessions; a retry may succeed.
    #[error(transparent)]
    Live(#[from] BrokerError),
}

/// Why the catalogue was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// A record with that name exists already.
    #[error("{0:?} exists already")]
    Exists(String),
    /// There is no record with that name.
    #[error("there is no {0:?}")]
    Missing(String),
    /// Other changes of the same record came between, again and again.
    #[error("it is being changed by another request; try again")]
    Conflict,
    /// The listener is one of the app's webhooks, which are changed with the app.
    #[error("{0:?} is one of the app's webhooks; change the app's `webhooks` instead")]
    OfApp(String),
    /// The app is in the config file, which does not change while the server runs.
    #[error("the app {0:?} is in the config file; change it there")]
    Fixed(String),
    /// The app's configuration has wrong fields.
    #[error("the app's configuration is not valid")]
    WrongApp(Vec<WrongField>),
    /// The app conflicts with another one.
    #[error(transparent)]
    Apps(AppsError),
    /// Listeners name the hook.
    #[error("{listeners} listeners name this hook")]
    InUse {
        /// The number of these listeners.
        listeners: usize,
    },
    /// A listener names a hook that is not there.
    #[error("there is no hook {name:?}")]
    UnknownHook {
        /// Its index in the listener's list.
        index: usize,
        /// The name in the list.
        name: String,
        /// The nearest hook, which was probably intended.
        nearest: Option<String>,
    },
    /// The app has reached its limit of hooks or listeners.
    #[error("the app has reached its limit of {limit} {what}")]
    Limit {
        /// What is limited: `hooks` or `listeners`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It would take more memory than the app has left.
    #[error("the app's {what} take {used} bytes and this would add {more}; the limit is {limit}")]
    Budget {
        /// The name of the limit.
        what: &'static str,
        /// Bytes that are used.
        used: usize,
        /// Bytes that this would add.
        more: usize,
        /// Bytes that the app may use.
        limit: usize,
    },
    /// The store could not write it.
    #[error(transparent)]
    Store(StoreError),
}

impl ManageError {
    /// Translates the store's error about the record `name`.
    pub(crate) fn of(name: &str, error: StoreError) -> Self {
        match error {
            StoreError::Exists => Self::Exists(name.to_owned()),
            StoreError::Missing => Self::Missing(name.to_owned()),
            StoreError::Conflict => Self::Conflict,
            other => Self::Store(other),
        }
    }
}
