//! Why a match was refused.

use super::{MAX_CONDITIONS, MAX_DEPTH, MAX_JSON_LEN, MAX_PATTERN_LEN, MAX_REGEX_SIZE, MAX_SIZE};

/// The most characters of a caller's text that an error repeats at one place.
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
    /// A match is an object.
    #[error("match: write an object such as {{\"name\": {{\"starts_with\": \"J\"}}}}, or {{}} to match everything")]
    NotAnObject,
    /// A text operator was given something else.
    #[error("{path}: give a string here{}", field_instead(path))]
    NotText {
        /// Where.
        path: String,
    },
    /// An operator was given an operand that it has no meaning for.
    #[error("{path}: this operator takes {takes}{}", field_instead(path))]
    WrongOperand {
        /// Where.
        path: String,
        /// What it takes.
        takes: &'static str,
    },
    /// A condition where a value to compare with stands.
    #[error("{path}: a condition stands where a value is compared with; write {instead}")]
    NotAValue {
        /// Where.
        path: String,
        /// The right form.
        instead: String,
    },
    /// An array where a condition stands: one of its values, or the array itself?
    #[error(
        "{path}: an array alone is no condition; write {{\"in\": {array}}} for one of these, {{\"is\": {array}}} for \
        the array itself"
    )]
    LoneArray {
        /// Where.
        path: String,
        /// The array, if it is short.
        array: String,
    },
    /// A word that is an operator elsewhere, or nearly one of ours.
    #[error("{path}: there is no operator \"{word}\"; write {instead}, or \".{word}\" for a field of that name")]
    Misread {
        /// Where.
        path: String,
        /// The word.
        word: String,
        /// The right form.
        instead: String,
    },
    /// Several operators side by side.
    #[error("{path}: operators stand alone; write {instead}, or put a dot before each that is a field's name")]
    SeveralOperators {
        /// Where.
        path: String,
        /// The right form.
        instead: String,
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
    /// A regular expression that is too long.
    #[error("{path}: this regular expression is too large; write at most {MAX_PATTERN_LEN} bytes")]
    PatternTooLong {
        /// Where.
        path: String,
    },
    /// A regular expression that is too large when it is compiled.
    #[error(
        "{path}: this regular expression is too large: compiled it takes {} KiB or more, and {} KiB are the most; use \
        smaller repeat counts, or classes of fewer letters such as [a-z] for \\w or \\pL",
        kib(size), kib(&MAX_REGEX_SIZE)
    )]
    PatternTooLarge {
        /// Where.
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
        /// The condition that is one too many.
        path: String,
        /// How many bytes the match takes with it.
        size: usize,
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
        "{path}: this number has more digits than were kept when it was read; compare with a string, or give the match \
        as text"
    )]
    InexactNumber {
        /// Where.
        path: String,
    },
    /// Too many conditions.
    #[error("match: more than {MAX_CONDITIONS} conditions; use `in`, a `like`, or several listeners")]
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

/// A caller's text as far as errors repeat it.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A caller's JSON in a right form: whole, so that it can be copied, or not at all.
pub(crate) fn shown_json(raw: &str) -> &str {
    if raw.len() <= SHOWN { raw } else { "…" }
}

fn kib(bytes: &usize) -> usize {
    bytes.div_ceil(1024)
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}

/// The last name of a path that ends in an operator may have been meant as a field's.
fn field_instead(path: &str) -> String {
    match path.rsplit_once('.') {
        Some((_, word)) if super::OPERATORS.contains(&word) => {
            format!("; for a field of that name write \".{word}\"")
        }
        _ => String::new(),
    }
}
