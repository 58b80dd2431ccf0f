//! `cargo xtask`: the repository's own commands: test, check, tidy, benchmarks.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program speaks to people")]
#![allow(clippy::disallowed_methods, reason = "a build tool is steered by its environment")]

mod bench;
mod check;
mod powercut;
mod run;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and guards Tidings.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Guards the rules, builds everything, runs all tests; ends with the line `N passed, N failed`.
    Test {
        /// Install the Debian packages that are missing (as root, or with sudo) instead of only naming them.
        #[arg(long)]
        install: bool,
        /// Run only tests whose names contain one of these.
        filters: Vec<String>,
    },
    /// Format, lints, documentation, rules, dependencies: everything but the tests.
    Check,
    /// Guards the rules that the compiler can't (CONTRIBUTING.md lists them).
    Tidy,
    /// Steady load for minutes, with attacks beside it if `--hostile`; fails when a bound is exceeded.
    Soak {
        /// Arguments of the scenario.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Simulates power cuts at many moments of a recorded server, and checks what is left on the disk.
    Powercut {
        /// How many disk images to check.
        #[arg(long, default_value_t = powercut::IMAGES)]
        images: u64,
        /// The seed of the first image; the others have the numbers after it.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Builds the release server and runs a scenario of benches/.
    Bench {
        /// The scenario.
        name: String,
        /// Arguments of the scenario.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = root();
    let done = match Cli::parse().command {
        Command::Test { install, filters } => test::test(&root, install, &filters),
        Command::Check => check::check(&root),
        Command::Tidy => tidy::tidy(&root).map(|clean| ExitCode::from(u8::from(!clean))),
        Command::Soak { args } => bench::bench(&root, "soak", &args),
        Command::Powercut { images, seed } => powercut::powercut(&root, images, seed),
        Command::Bench { name, args } => bench::bench(&root, &name, &args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

/// The root of the repository: the folder above ours.
fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(own).parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}
