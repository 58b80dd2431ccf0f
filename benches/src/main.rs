//! Load generators and scenarios: `cargo xtask bench NAME`. `docs/benchmarks.md` says what the figures mean.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod clock;
mod cluster;
mod cpu;
mod floor;
mod histogram;
mod http1;
mod live;
mod load;
mod machine;
mod receiver;
mod record;
mod report;
mod soak;
mod webhooks;

use clap::{Parser, Subcommand};

/// The server's allocator, so that allocation makes no difference between the floor and the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Scenarios against a real server, and the floors they are compared with")]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// What a webhook costs, how late it is, and what slows it down
    Webhooks(webhooks::Args),
    /// What a delivery to a live session costs
    Fanout(live::Args),
    /// What an idle live session costs
    Idle(live::Args),
    /// How late messages reach live sessions
    Latency(live::Args),
    /// What a second node costs, and the share of PostgreSQL and Redis in it
    Cluster(cluster::Args),
    /// Minutes of steady load, with attacks beside it if --hostile: bounds that must hold
    Soak(soak::Args),
    /// (started by a scenario) the least that fan-out can cost
    #[command(hide = true)]
    LiveFloor,
    /// (started by a scenario) POSTs through egress, without a store
    #[command(hide = true)]
    FloorSender(floor::Args),
    /// (started by a scenario) a receiver of webhooks
    #[command(hide = true)]
    Receiver,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().scenario {
        Scenario::Webhooks(args) => {
            // Before the runtime starts, so that its threads and all children inherit the core.
            let cores = cpu::Cores::divide();
            runtime()?.block_on(webhooks::run(args, cores))
        }
        Scenario::Fanout(args) => {
            let cores = cpu::Cores::divide();
            runtime()?.block_on(live::fanout(args, cores))
        }
        Scenario::Idle(args) => {
            let cores = cpu::Cores::divide();
            runtime()?.block_on(live::idle(args, cores))
        }
        Scenario::Latency(args) => {
            let cores = cpu::Cores::divide();
            runtime()?.block_on(live::latency(args, cores))
        }
        Scenario::Cluster(args) => {
            let cores = cpu::Cores::divide();
            runtime()?.block_on(cluster::run(args, cores))
        }
        Scenario::Soak(args) => {
            let cores = cpu::Cores::divide();
            runtime()?.block_on(soak::run(args, cores))
        }
        Scenario::LiveFloor => live::floor::serve(),
        Scenario::FloorSender(args) => floor::send(&args),
        Scenario::Receiver => runtime()?.block_on(receiver::serve()),
    }
}

/// One thread: load and receiver share a core, so more threads would not help.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
