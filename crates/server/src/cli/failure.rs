//! The outcome of a command.

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Its arguments make no sense: exit code 2.
    Usage(String),
    /// It could not do its work: exit code 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The result of a command.
pub(crate) type Outcome = Result<(), Failure>;
