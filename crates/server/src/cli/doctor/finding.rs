//! The finding of a check.

/// The outcome of a check.
pub(super) struct Finding {
    /// The check's name.
    pub(super) what: &'static str,
    pub(super) verdict: Verdict,
    /// What the check saw, as a sentence.
    pub(super) found: String,
}

pub(super) enum Verdict {
    Fine,
    /// Unusual, but no fault by itself. Holds its meaning.
    Noted(String),
    /// Something is wrong. Holds what to set, and where.
    Wrong(String),
    /// The check could not run. Holds the flag to give.
    Skipped(String),
}
