//! `cargo xtask bench`: one scenario against a server built as users get it.

use std::path::Path;
use std::process::ExitCode;

use crate::run::{cargo, must_run};

pub(crate) fn bench(root: &Path, name: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    must_run(cargo(root).args(["build", "--release", "-p", "tidings-server"]))?;
    must_run(cargo(root).args(["run", "--release", "-p", "tidings-benches", "--", name]).args(args))?;
    Ok(ExitCode::SUCCESS)
}
