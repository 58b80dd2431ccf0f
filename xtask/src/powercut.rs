//! `cargo xtask powercut`: the power cut test of `tests/crash`, with many more disk images than a test run makes.

use std::path::Path;
use std::process::ExitCode;

use crate::run::{cargo, must_run, runs};

/// The default number of disk images.
pub(crate) const IMAGES: u64 = 10_000;

pub(crate) fn powercut(root: &Path, images: u64, seed: Option<u64>) -> anyhow::Result<ExitCode> {
    must_run(cargo(root).args(["build", "-p", "tidings-server"]))?;
    let mut test = cargo(root);
    test.args(["test", "-p", "tidings-e2e", "--test", "crash", "power_cut", "--", "--nocapture"]);
    test.env("TIDINGS_POWERCUT_IMAGES", images.to_string());
    if let Some(seed) = seed {
        test.env("TIDINGS_POWERCUT_SEED", seed.to_string());
    }
    Ok(if runs(&mut test)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
