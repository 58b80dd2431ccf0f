//! How commands end.

/// Why a command did not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was told something that makes no sense: exit code 2.
    Usage(String),
    /// It could not: exit code 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// How a command ended.
pub(crate) type Outcome = Result<(), Failure>;
