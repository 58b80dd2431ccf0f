//! `cargo xtask bench fanout|idle|latency`: what live sessions cost, compared with the floor.

mod cell;
pub(crate) mod crowd;
mod fanout;
pub(crate) mod floor;
pub(crate) mod handshake;
mod idle;
mod latency;
mod signin;
pub(crate) mod speaker;
pub(crate) mod subject;

use std::path::PathBuf;

use crate::cpu::Cores;
use crate::report::{self, Section};
use crate::{clock, record};

/// Bytes of a payload.
pub(crate) const SIZE: usize = 100;

/// The flags of the scenarios.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Less of everything, with less precise figures
    #[arg(long)]
    quick: bool,
    /// How often floor and server alternate [default: 5, or 1 with --quick]
    #[arg(long)]
    alternations: Option<usize>,
    /// Only the cells whose names contain one of these
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// Where the JSON goes, instead of benches/results/SCENARIO-DATE.json
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Args {
    fn alternations(&self) -> usize {
        self.alternations.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    fn wants(&self, cell: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| cell.contains(part.as_str()))
    }
}

/// CPU time per delivery compared with the floor's, for one channel with many sessions and for many channels with one.
pub(crate) async fn fanout(args: Args, cores: Cores) -> anyhow::Result<()> {
    let started = clock::now_ns();
    finish("fanout", &args, cores, started, &[fanout::run(&args, cores).await?])
}

/// Memory of an idle session.
pub(crate) async fn idle(args: Args, cores: Cores) -> anyhow::Result<()> {
    let started = clock::now_ns();
    finish("idle", &args, cores, started, &[idle::run(&args, cores).await?])
}

/// How late messages reach ten thousand sessions, and how late pings are answered while a session with ten thousand
/// users on its watchlist signs in.
pub(crate) async fn latency(args: Args, cores: Cores) -> anyhow::Result<()> {
    let started = clock::now_ns();
    let mut sections = vec![latency::run(&args, cores).await?];
    if args.wants(signin::CELL) {
        sections.push(signin::run(&args, cores).await?);
    }
    finish("latency", &args, cores, started, &sections)
}

fn finish(name: &'static str, args: &Args, cores: Cores, started: u64, sections: &[Section]) -> anyhow::Result<()> {
    report::print(sections);
    record::write(name, args.quick, cores, started, sections, args.out.as_deref())
}
