//! Why a match was refused.

use super::{MAX_CONDITIONS, MAX_DEPTH, MAX_JSON_LEN, MAX_PATTERN_LEN, MAX_REGEX_SIZE, MAX_SIZE};

/// The largest number of characters of a caller's text that an error quotes at one place.
const SHOWN: usize = 64;

/// Why a match was refused: where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// The text is not JSON.
    #[error("match: this is not JSON ({reason}); write an object such as {{\"name\": {{\"starts_with\": \"J\"}}}}")]
    NotJson {
        /// Where and why reading stopped.
        reason: String,
    },
    /// The match is not an object.
    #[error("match: write an object such as {{\"name\": {{\"starts_with\": \"J\"}}}}, or {{}} to match everything")]
    NotAnObject,
    /// An operand or key that must be a string is not one.
    #[error("{path}: give a string here{}", field_instead(path))]
    NotText {
        /// Where in the match, such as `match.name.like`.
        path: String,
    },
    /// The operand is of a type that the operator does not take.
    #[error("{path}: this operator takes {takes}{}", field_instead(path))]
    WrongOperand {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// What it takes.
        takes: &'static str,
    },
    /// A condition in the place of a value to compare with.
    #[error("{path}: this is a condition, but a value to compare with is needed here; write {instead}")]
    NotAValue {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// The right form.
        instead: String,
    },
    /// An array in the place of a condition: it may mean one of its values, or the array itself.
    #[error(
        "{path}: an array alone is no condition; write {{\"in\": {array}}} for one of these, {{\"is\": {array}}} for \
        the array itself"
    )]
    LoneArray {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// The array, if it is short.
        array: String,
    },
    /// A word that is an operator in other systems, or a misspelled one of ours.
    #[error("{path}: there is no operator \"{word}\"; write {instead}, or \".{word}\" for a field of that name")]
    Misread {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// The word.
        word: String,
        /// The right form.
        instead: String,
    },
    /// Several operators side by side.
    #[error("{path}: operators stand alone; write {instead}, or put a dot before each that is a field's name")]
    SeveralOperators {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// The right form.
        instead: String,
    },
    /// The same key twice.
    #[error("{path}: this key is given twice; keep one")]
    Twice {
        /// Where in the match, such as `match.name.like`.
        path: String,
    },
    /// A regular expression that does not compile.
    #[error("{path}: this is not a regular expression ({reason}); look-around and back-references are not supported")]
    BadPattern {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// The parser's reason.
        reason: String,
    },
    /// A regular expression that is too long.
    #[error("{path}: this regular expression is too large; write at most {MAX_PATTERN_LEN} bytes")]
    PatternTooLong {
        /// Where in the match, such as `match.name.like`.
        path: String,
    },
    /// A regular expression that is too large when it is compiled.
    #[error(
        "{path}: this regular expression is too large: compiled it takes {} KiB or more, and {} KiB are the most; use \
        smaller repeat counts, or classes of fewer letters such as [a-z] for \\w or \\pL",
        kib(size), kib(&MAX_REGEX_SIZE)
    )]
    PatternTooLarge {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// How many bytes it takes at least.
        size: usize,
    },
    /// A match that is too large when it is compiled.
    #[error(
        "{path}: with this condition the match takes {} KiB compiled, and {} KiB are the most; use smaller regular \
        expressions, or several listeners",
        kib(size), kib(&MAX_SIZE)
    )]
    MatchTooLarge {
        /// The path of the first condition that exceeds the limit.
        path: String,
        /// How many bytes the match takes with it.
        size: usize,
    },
    /// An unknown key with `$`.
    #[error("{path}: there is no \"{key}\"{}; for a field of that name write \".{key}\"", did_you_mean(nearest))]
    UnknownDollar {
        /// Where in the match, such as `match.name.like`.
        path: String,
        /// The key as written.
        key: String,
        /// The right name that is nearest to it.
        nearest: Option<&'static str>,
    },
    /// `$op` below the top level.
    #[error("{path}: \"$op\" is for the top level of a match; for a field of that name write \".$op\"")]
    OpNotAtTop {
        /// Where in the match, such as `match.name.like`.
        path: String,
    },
    /// A number that lost digits when it was read into a [`serde_json::Value`].
    #[error(
        "{path}: this number has more digits than were kept when it was read; compare with a string, or give the match \
        as text"
    )]
    InexactNumber {
        /// Where in the match, such as `match.name.like`.
        path: String,
    },
    /// Too many conditions.
    #[error("match: more than {MAX_CONDITIONS} conditions; use `in`, a `like`, or several listeners")]
    TooManyConditions,
    /// The match is nested too deeply.
    #[error("match: nested more than {MAX_DEPTH} deep; match on fields nearer to the top")]
    TooDeep,
    /// The match is too long.
    #[error("match: longer than {MAX_JSON_LEN} bytes; shorten it, or use several listeners")]
    TooLarge,
}

impl MatchError {
    /// The path of the error, such as `match.name.like`.
    pub fn path(&self) -> &str {
        match self {
            Self::NotText { path }
            | Self::WrongOperand { path, .. }
            | Self::NotAValue { path, .. }
            | Self::LoneArray { path, .. }
            | Self::Misread { path, .. }
            | Self::SeveralOperators { path, .. }
            | Self::Twice { path }
            | Self::BadPattern { path, .. }
            | Self::PatternTooLong { path }
            | Self::PatternTooLarge { path, .. }
            | Self::MatchTooLarge { path, .. }
            | Self::UnknownDollar { path, .. }
            | Self::OpNotAtTop { path }
            | Self::InexactNumber { path } => path,
            Self::NotJson { .. } | Self::NotAnObject | Self::TooManyConditions | Self::TooDeep | Self::TooLarge => {
                "match"
            }
        }
    }
}

/// A caller's text, truncated for errors.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A caller's JSON for a suggested form: in full, so that it can be copied, or not at all.
pub(crate) fn shown_json(raw: &str) -> &str {
    if raw.len() <= SHOWN { raw } else { "…" }
}

fn kib(bytes: &usize) -> usize {
    bytes.div_ceil(1024)
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}

/// The hint for a path that ends in an operator: a field with that name may have been intended.
fn field_instead(path: &str) -> String {
    match path.rsplit_once('.') {
        Some((_, word)) if super::OPERATORS.contains(&word) => {
            format!("; for a field of that name write \".{word}\"")
        }
        _ => String::new(),
    }
}
