//! Why the bus refused something, with the field that is wrong.

use tidings_broker::BrokerError;
use tidings_model::pattern::NameError;
use tidings_model::payload::FieldTypeError;
use tidings_store::StoreError;
use tidings_supervisor::{Failure, Panicked};

use crate::apps::{AppsError, WrongField};

/// Why an event was not published. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No application may publish under this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such hook, and the app wants its events to have one.
    #[error("there is no hook {name:?}")]
    UnknownHook {
        /// What was named.
        name: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// The event's hook declares fields that the data does not fit.
    #[error("the hook {hook:?} declares fields, and the data does not fit: {source}")]
    Fields {
        /// Which hook.
        hook: String,
        /// What does not fit.
        source: FieldTypeError,
    },
    /// The id was used for another event.
    #[error("the id was used before, for another event")]
    IdTaken,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used before, for another request")]
    KeyTaken,
    /// The node has failed inside and takes nothing more.
    #[error(
        "the server has failed ({0}) and takes no more events; the same request works again when it has been restarted"
    )]
    Failed(Failure),
    /// What was to be done panicked.
    #[error("a bug in the server: publishing {id} panicked ({panicked})")]
    Panicked {
        /// The event's id, which the log names.
        id: String,
        /// What the panic said.
        panicked: Panicked,
    },
    /// The store could not write it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Live sessions could not be told; the same may work in a moment.
    #[error(transparent)]
    Live(#[from] BrokerError),
}

/// Why the catalogue was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// There is a record of that name.
    #[error("{0:?} exists already")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no {0:?}")]
    Missing(String),
    /// Somebody else changed it at the same time, again and again.
    #[error("it is being changed by somebody else; try again")]
    Conflict,
    /// It is one of the app's webhooks, which are changed with the app.
    #[error("{0:?} is one of the app's webhooks")]
    OfApp(String),
    /// It is in the config file, which is not changed while the server runs.
    #[error("the app {0:?} is in the config file")]
    Fixed(String),
    /// What an app is to be makes no sense.
    #[error("the app cannot be like this")]
    WrongApp(Vec<WrongField>),
    /// The app could be taken for another one.
    #[error(transparent)]
    Apps(AppsError),
    /// Listeners name the hook.
    #[error("{listeners} listeners name this hook")]
    InUse {
        /// How many.
        listeners: usize,
    },
    /// A listener names a hook that is not there.
    #[error("there is no hook {name:?}")]
    UnknownHook {
        /// Its place in the listener's list.
        index: usize,
        /// What was named.
        name: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// The app has as many as it may.
    #[error("the app has as many {what} as it may have: {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many it may have.
        limit: usize,
    },
    /// It would take more memory than the app has left.
    #[error("the app's {what} take {used} bytes, this takes {more} more, and {limit} are the most")]
    Budget {
        /// Of what: the name of the limit.
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
    /// What a store's answer about the record `name` means.
    pub(crate) fn of(name: &str, error: StoreError) -> Self {
        match error {
            StoreError::Exists => Self::Exists(name.to_owned()),
            StoreError::Missing => Self::Missing(name.to_owned()),
            StoreError::Conflict => Self::Conflict,
            other => Self::Store(other),
        }
    }
}
