//! The command line: one file per command.
//!
//! `serve`, `init`, `check`, `migrate` and `listen` work on this machine. All others are HTTP clients of a server (see
//! [`connect`]).

mod app;
mod args;
mod call;
mod channel;
mod check;
mod client;
mod connect;
mod delivery;
mod doctor;
mod event;
mod failure;
mod fields;
mod hook;
mod init;
mod listen;
mod listener;
mod migrate;
mod pretty;
mod publish;
mod send;
mod subscribe;
mod token;

pub(crate) use args::{Cli, Command, ServeArgs};
pub(crate) use connect::Connection;
pub(crate) use failure::{Failure, Outcome};

use crate::config::environment::Env;
use crate::output;

/// Runs a command other than `serve`.
pub(crate) async fn run(command: Command, outer: Connection, env: &dyn Env) -> Outcome {
    match command {
        Command::Serve(_) => Err(Failure::Usage("`serve` is run by main".to_owned())),
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args, env),
        Command::Migrate(args) => migrate::run(&args).await,
        Command::Publish(args) => publish::run(args, outer, env).await,
        Command::Subscribe(args) => subscribe::run(args, outer, env).await,
        Command::Doctor(args) => doctor::run(args, outer, env).await,
        Command::Token(args) => token::run(args, outer, env).await,
        Command::Channel { command } => channel::run(command, outer, env).await,
        Command::Listen(args) => listen::run(&args).await,
        Command::Hook { command } => hook::run(command, outer, env).await,
        Command::Listener { command } => listener::run(command, outer, env).await,
        Command::Delivery { command } => delivery::run(command, outer, env).await,
        Command::App { command } => app::run(command, outer, env).await,
        Command::Event { command } => event::run(command, outer, env).await,
    }
}

/// Prints a failure on stderr and returns the exit code.
pub(crate) fn report(failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(message) => {
            output::stderr_line(format!("error: {message}"));
            2
        }
        Failure::Failed(error) => {
            output::stderr_line(output::printable(&format!("error: {error:#}")));
            1
        }
    }
}

#[cfg(test)]
mod tests;
