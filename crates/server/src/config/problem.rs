//! Problems of a config, with their position.

use std::fmt;

/// A mistake in a config, or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// `tidings.toml:12:3`, the name of an environment variable, or a key's path.
    pub(crate) place: String,
    /// What is wrong, and the remedy.
    pub(crate) message: String,
    /// The position in the file in bytes, for sorting.
    pub(crate) offset: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.place, self.message) }
    }
}

/// Everything that is wrong, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    /// A single problem.
    pub(crate) fn one(place: &str, message: impl Into<String>) -> Self {
        Self(vec![Problem { place: place.to_owned(), message: message.into(), offset: 0 }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
