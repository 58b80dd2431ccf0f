//! `cargo xtask test`: checks the tools, applies tidy's rules, builds everything, runs all tests, runs the end-to-end
//! tests once more with two nodes, and prints a summary line.

mod clients;
mod nodes;
mod summary;
mod tools;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;

use crate::run::{cargo, in_ci, runs, shown, target_dir};
use crate::tidy::tidy;
use summary::Summary;

/// The exit code when the tests could not be run.
const NOT_RUN: u8 = 2;

/// Runs all tests, or those that a filter names.
pub(crate) fn test(root: &Path, install: bool, filters: &[String]) -> anyhow::Result<ExitCode> {
    if !tools::ready(install)? {
        return Ok(ExitCode::from(NOT_RUN));
    }
    clients::install(root, &target_dir(root)?.join("clients"))?;

    let mut summary = Summary::default();
    eprintln!("» tidy");
    let is_tidy = tidy(root)?;
    if runs(tuned(cargo(root).args(["build", "--workspace", "--all-targets"])))? {
        run_tests(&mut all(root, filters), &mut summary)?;
        eprintln!("» the end-to-end tests once more, each server as two nodes");
        run_tests(&mut nodes::again(root, filters), &mut summary)?;
    } else {
        eprintln!("the build failed; it counts as one failed test");
        summary.failed += 1;
    }
    if summary.ran() == 0 {
        eprintln!("no test ran");
    }
    if !is_tidy {
        eprintln!("tidy found errors (above); it counts as one failed test");
        summary.failed += 1;
    }
    if in_ci() && summary.ignored > 0 {
        eprintln!("in CI, a skipped test counts as a failure");
    }
    println!("{summary}");
    Ok(if summary.is_good(in_ci()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that runs every test, or those that a filter names.
fn all(root: &Path, filters: &[String]) -> Command {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if !filters.is_empty() {
        command.arg("--").args(filters);
    }
    command
}

/// Runs tests, and adds their results to the summary.
fn run_tests(command: &mut Command, summary: &mut Summary) -> anyhow::Result<()> {
    tuned(command).stdin(Stdio::null()).stdout(Stdio::piped());
    eprintln!("» {}", shown(command));
    let mut child = command.spawn().context("cannot run cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let failed_before = summary.failed;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read cargo test's output")?;
        // Tests may print anything: bytes that aren't UTF-8 are passed on, and cannot be a result line.
        summary.take(&String::from_utf8_lossy(&line));
        out.write_all(&line)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    if !child.wait().context("cannot wait for cargo test")?.success() && summary.failed == failed_before {
        eprintln!("a test program did not build, or died without a result; it counts as one failed test");
        summary.failed += 1;
    }
    Ok(())
}

/// The environment of builds and tests.
fn tuned(command: &mut Command) -> &mut Command {
    command.env("RUST_BACKTRACE", "1");
    if in_ci() {
        // CI runs no debugger, and debug information takes a good part of the link time.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0");
    }
    command
}
