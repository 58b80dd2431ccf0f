//! What a check says.

/// How a check ended.
pub(super) struct Finding {
    pub(super) what: &'static str,
    pub(super) verdict: Verdict,
    /// A sentence.
    pub(super) found: String,
}

pub(super) enum Verdict {
    Fine,
    /// It is unusual, and no fault by itself: what it means.
    Noted(String),
    /// Something is wrong: what to set, and where.
    Wrong(String),
    /// It could not be looked at: what to give.
    Skipped(String),
}
