//! `cargo xtask bench cluster`: what a second node costs, and the share of PostgreSQL and Redis in it.

mod broker;
mod durable;
mod fanout;

use std::path::PathBuf;

use anyhow::Context;

use crate::cpu::Cores;
use crate::report::{self, Section};
use crate::{clock, record};

/// The flags of the scenario.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Less of everything, with less precise figures
    #[arg(long)]
    quick: bool,
    /// Only these phases: fanout, broker, durable
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often the compared subjects alternate [default: 5, or 1 with --quick]
    #[arg(long)]
    alternations: Option<usize>,
    /// Where the JSON goes, instead of benches/results/cluster-DATE.json
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Args {
    fn alternations(&self) -> usize {
        self.alternations.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    fn wants(&self, phase: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == phase)
    }
}

/// Runs the phases, prints the table and writes the record.
pub(crate) async fn run(args: Args, cores: Cores) -> anyhow::Result<()> {
    let started = clock::now_ns();
    let mut sections: Vec<Section> = Vec::new();
    if args.wants("fanout") {
        eprintln!("… one node and two in turn");
        sections.push(fanout::run(&args, cores).await.context("fanout")?);
    }
    if args.wants("broker") {
        eprintln!("… publishes through Redis, and Redis alone");
        sections.push(broker::run(&args, cores).await.context("broker")?);
    }
    if args.wants("durable") {
        eprintln!("… publishes in PostgreSQL, and PostgreSQL alone");
        sections.push(durable::run(&args, cores).await.context("durable")?);
    }
    report::print(&sections);
    record::write("cluster", args.quick, cores, started, &sections, args.out.as_deref())
}
