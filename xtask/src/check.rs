//! `cargo xtask check`: all checks that do not run the code.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::run::{cargo, on_path, runs, shown};
use crate::tidy::tidy;

/// Runs every check, even after a failed one, and prints at the end which failed.
pub(crate) fn check(root: &Path) -> anyhow::Result<ExitCode> {
    let mut failed = Vec::new();
    for mut step in steps(root) {
        if !runs(&mut step)? {
            failed.push(shown(&step));
        }
    }
    eprintln!("» tidy");
    if !tidy(root)? {
        failed.push("cargo xtask tidy".to_owned());
    }
    if on_path("cargo-deny") {
        let mut deny = cargo(root);
        deny.args(["deny", "check"]);
        if !runs(&mut deny)? {
            failed.push(shown(&deny));
        }
    } else {
        eprintln!(
            "» cargo deny is not installed, so licences and advisories are not checked: cargo install cargo-deny"
        );
    }
    if failed.is_empty() {
        println!("all checks passed");
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn steps(root: &Path) -> Vec<Command> {
    let mut format = cargo(root);
    format.args(["fmt", "--all", "--check"]);
    let mut lints = cargo(root);
    lints.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let mut docs = cargo(root);
    docs.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    vec![format, lints, docs]
}
