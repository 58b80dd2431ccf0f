//! How channels and their members stand, as it was told last: so that each coming and going is told once, whichever node says
//! it and whatever crashes.
//!
//! A turn is written down before it is told, and noted when it was. Whoever dies in between leaves a turn that is not told;
//! whoever finds it tells it under the same event id, which the log takes once.

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

use crate::error::StoreError;

/// What can be there and gone: a channel (occupied or not), or a user in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Whose.
    pub app: AppId,
    /// The channel.
    pub channel: String,
    /// The user; `None` for the channel itself.
    pub user: Option<String>,
}

/// A coming or going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Of what.
    pub subject: Subject,
    /// Whether it is there now.
    pub present: bool,
    /// Grows with each turn of the subject: one that is not above the last known is an old one.
    pub number: i64,
    /// The id of the event that tells it.
    pub event: String,
    /// A coming that would be told is written down as one that has gone again, both told: neither it nor what follows it is.
    pub quiet: bool,
    /// For how long a going can be taken back, in milliseconds.
    pub window: Millis,
    /// Steady time.
    pub now: Millis,
    /// Wall time.
    pub wall: Millis,
}

/// What is to be done about a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// It is written down, and to be told.
    Tell,
    /// It is as it was known, or older than what is known.
    Known,
    /// It is news, and was written down as [`Turn::quiet`] says.
    Dropped,
    /// A going that nobody has heard of yet is taken back: its deliveries are canceled, and nothing is to be told.
    TakenBack,
}

/// How a subject stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What.
    pub subject: Subject,
    /// Whether it is there.
    pub present: bool,
    /// The number of its last turn.
    pub number: i64,
    /// The event that tells how it came to stand so.
    pub event: String,
    /// Whether that event has been told.
    pub told: bool,
    /// When it came to stand so (wall time).
    pub since: Millis,
}

/// Keeps how channels and their members stand.
#[async_trait]
pub trait Standings: Send + Sync {
    /// Writes a turn down. Of turns of one subject that come at once each finds what the one before has left.
    async fn turn(&self, turn: Turn) -> Result<Turned, StoreError>;

    /// Notes that the turn of this number has been told.
    async fn turn_told(&self, subject: &Subject, number: i64) -> Result<(), StoreError>;

    /// A page of what is there or not told, in the order of subjects.
    async fn standings(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Standing>, StoreError>;

    /// The highest number of any turn; 0 when there is none.
    async fn last_turn(&self) -> Result<i64, StoreError>;

    /// Forgets a slice of what was gone and told before a wall time; `true` when there may be more.
    async fn forget_gone(&self, before: Millis) -> Result<bool, StoreError>;
}

/// How long ago a coming that was not told is written down to have gone again, in milliseconds: longer than any window in
/// which a coming takes a going back.
pub(crate) const QUIET_AGE: Millis = 3_600_000;

/// How many [`Standings::forget_gone`] forgets at once.
pub(crate) const SLICE: usize = 500;

/// What a store has to write for a turn, given how its subject stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Nothing(Turned),
    /// The number alone.
    Renumber,
    /// The turn, which is to be told.
    Turn,
    /// The turn; told only if the going before it cannot be taken back.
    TurnOrTakeBack,
}

/// What is to be done when the subject stands so.
pub(crate) fn step(turn: &Turn, known: &Standing) -> Step {
    if turn.number == known.number && turn.event == known.event && !known.told {
        return Step::Nothing(Turned::Tell);
    }
    if turn.number <= known.number {
        return Step::Nothing(Turned::Known);
    }
    match (turn.present, known.present) {
        (true, false) => Step::TurnOrTakeBack,
        (false, true) => Step::Turn,
        _ => Step::Renumber,
    }
}
