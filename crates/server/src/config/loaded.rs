//! What loading a config gives.

use super::problem::Problem;
use crate::settings::Settings;

/// A config that can be served, and what it says without effect.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What it means.
    pub(crate) settings: Settings,
    /// Keys that this version reads and does not act on, and values that are a bad idea.
    pub(crate) warnings: Vec<Problem>,
}
