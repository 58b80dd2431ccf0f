//! The `tidings` program: the server, and the command line that talks to it.
//!
//! `main` reads the command line, picks the runtime, and turns the outcome into an exit code: 0 done, 1 failed, 2 usage
//! error.
#![forbid(unsafe_code)]

mod accept;
mod assemble;
mod cli;
mod config;
mod credentials;
mod data_dir;
mod descriptors;
#[cfg(debug_assertions)]
mod faults;
mod files;
mod first_start;
mod health;
mod keys;
mod logs;
mod output;
mod serve;
mod settings;
mod signals;
mod tls;
mod welcome;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command, Failure, Outcome};
use config::environment::ProcessEnvironment;

/// Deliveries and publishes make many small allocations from many threads. Measured: this allocator saves a quarter of
/// the CPU time of a delivery over the system's. It uses transparent huge pages, which take 14 MiB more from the start;
/// without them (`no_thp`) a delivery costs a sixth more CPU time. It is set in the binary only; a library must leave
/// the choice to its host.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(cli::report(&failure)),
    }
}

fn run(cli: Cli) -> Outcome {
    let env = ProcessEnvironment;
    match cli.command {
        None | Some(Command::Serve(_)) if !cli.connection.is_empty() => Err(Failure::Usage(
            "--url, --key, --credentials, --ca and --json belong to the commands that talk to a server; see --help"
                .to_owned(),
        )),
        None => Ok(server_runtime()?.block_on(serve::run(cli.serve, &env))?),
        Some(Command::Serve(args)) => Ok(server_runtime()?.block_on(serve::run(args.over(cli.serve), &env))?),
        Some(_) if !cli.serve.is_empty() => Err(Failure::Usage(
            "--config, --listen, --egress-allow and --log belong to `serve`, or behind `init` and `check`; see --help"
                .to_owned(),
        )),
        Some(command) => client_runtime()?.block_on(cli::run(command, cli.connection, &env)),
    }
}

/// One worker per core. Only here the number of the server's runtime threads is decided.
fn server_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().thread_name("tidings").enable_all().build()
}

/// A command makes one request after the other, so one thread is enough.
fn client_runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
