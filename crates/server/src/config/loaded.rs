//! The result of loading a config.

use super::problem::Problem;
use crate::settings::Settings;

/// A valid config, with warnings.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The settings that it stands for.
    pub(crate) settings: Settings,
    /// Keys without effect in this version, and values that are probably a mistake.
    pub(crate) warnings: Vec<Problem>,
}
