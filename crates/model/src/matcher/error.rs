//! Why a match was refused.

use super::{MAX_CONDITIONS, MAX_DEPTH, MAX_JSON_LEN, MAX_PATTERN_LEN};

/// Why a match was refused: where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// The text is not JSON.
    #[error("match: this is not JSON ({reason}); write an object such as {{\"name\": {{\"starts_with\": \"J\"}}}}")]
    NotJson {
        /// Where and why reading stopped.
        reason: String,
    },
    /// A match is an object.
    #[error("match: write an object such as {{\"name\": {{\"starts_with\": \"J\"}}}}, or {{}} to match everything")]
    NotAnObject,
    /// A text operator was given something else.
    #[error("{path}: give a string here")]
    NotText {
        /// Where.
        path: String,
    },
    /// The same key twice: only one of them could count.
    #[error("{path}: this key is given twice; keep one")]
    Twice {
        /// Where.
        path: String,
    },
    /// A regular expression that does not compile.
    #[error("{path}: this is not a regular expression ({reason}); look-around and back-references are not supported")]
    BadPattern {
        /// Where.
        path: String,
        /// What the parser says.
        reason: String,
    },
    /// A regular expression that is too large, as written or compiled.
    #[error(
        "{path}: this regular expression is too large; write at most {MAX_PATTERN_LEN} bytes, with smaller repeat counts"
    )]
    PatternTooLarge {
        /// Where.
        path: String,
    },
    /// A key with `$` that means nothing.
    #[error("{path}: there is no \"{key}\"{}; for a field of that name write \".{key}\"", did_you_mean(nearest))]
    UnknownDollar {
        /// Where.
        path: String,
        /// The key as written.
        key: String,
        /// The right name that is nearest to it.
        nearest: Option<&'static str>,
    },
    /// `$op` below the top level.
    #[error("{path}: \"$op\" is for the top level of a match; for a field of that name write \".$op\"")]
    OpNotAtTop {
        /// Where.
        path: String,
    },
    /// A number that lost digits before it came here.
    #[error(
        "{path}: this number has more digits than were kept when it was read; compare with a string, or give the match as text"
    )]
    InexactNumber {
        /// Where.
        path: String,
    },
    /// Too many conditions.
    #[error("match: more than {MAX_CONDITIONS} conditions; use several listeners, or a `like`")]
    TooManyConditions,
    /// Nested too deeply.
    #[error("match: nested more than {MAX_DEPTH} deep; match on fields nearer to the top")]
    TooDeep,
    /// Too long.
    #[error("match: longer than {MAX_JSON_LEN} bytes; shorten it, or use several listeners")]
    TooLarge,
}

impl MatchError {
    /// Where the fault is, such as `match.name.like`.
    pub fn path(&self) -> &str {
        match self {
            Self::NotText { path }
            | Self::Twice { path }
            | Self::BadPattern { path, .. }
            | Self::PatternTooLarge { path }
            | Self::UnknownDollar { path, .. }
            | Self::OpNotAtTop { path }
            | Self::InexactNumber { path } => path,
            Self::NotJson { .. } | Self::NotAnObject | Self::TooManyConditions | Self::TooDeep | Self::TooLarge => {
                "match"
            }
        }
    }
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}
