//! `cargo xtask bench webhooks`: what a webhook costs, how late it is, and what slows it down.

mod bed;
mod fanout;
mod isolation;
mod open;
mod peak;
mod restart;
mod syncs;

use std::path::PathBuf;
use std::time::Duration;

use crate::cpu::Cores;
use crate::report::{self, Section};
use crate::{clock, record};
use anyhow::Context;

/// Connections that publish, and the most attempts in flight to one listener.
pub(crate) const CONNECTIONS: usize = 64;

/// The flags of the scenario.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Less of everything: under two minutes, with less precise figures
    #[arg(long)]
    quick: bool,
    /// Only these phases: peak, syncs, open, isolation, fanout, restart
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Deliveries per second to take 10, 50 and 90 % of, when `peak` is not measured
    #[arg(long, default_value_t = 2_000.0)]
    peak: f64,
    /// Where the JSON goes, instead of benches/results/webhooks-DATE.json
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The sizes of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) cores: Cores,
    pub(crate) alternations: usize,
    pub(crate) floor: Duration,
    pub(crate) closed: Duration,
    pub(crate) open: Duration,
    pub(crate) listeners: usize,
    pub(crate) fanouts: usize,
    pub(crate) pending: u64,
}

impl Plan {
    fn new(cores: Cores, quick: bool) -> Self {
        let s = Duration::from_secs;
        if quick {
            let (floor, closed, open) = (s(2), s(2), s(3));
            Self { cores, alternations: 1, floor, closed, open, listeners: 2_000, fanouts: 2, pending: 20_000 }
        } else {
            let (floor, closed, open) = (s(4), s(5), s(8));
            Self { cores, alternations: 5, floor, closed, open, listeners: 10_000, fanouts: 5, pending: 200_000 }
        }
    }
}

/// Runs the phases, prints the table and writes the record.
pub(crate) async fn run(args: Args, cores: Cores) -> anyhow::Result<()> {
    let plan = Plan::new(cores, args.quick);
    let started = clock::now_ns();
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut sections: Vec<Section> = Vec::new();
    let mut per_s = args.peak;
    if wanted("peak") {
        say("peak: floor and server in turn");
        let (section, found) = peak::run(&plan).await.context("peak")?;
        sections.push(section);
        per_s = found;
    }
    if wanted("syncs") {
        say("syncs");
        sections.push(syncs::run(&plan).await.context("syncs")?);
    }
    if wanted("open") {
        say("open loop");
        sections.push(open::run(&plan, per_s).await.context("open")?);
    }
    if wanted("isolation") {
        say("isolation");
        sections.push(isolation::run(&plan, per_s).await.context("isolation")?);
    }
    if wanted("fanout") {
        say("fan-out");
        sections.push(fanout::run(&plan).await.context("fanout")?);
    }
    if wanted("restart") {
        say("restart");
        sections.push(restart::run(&plan).await.context("restart")?);
    }
    report::print(&sections);
    record::write("webhooks", args.quick, cores, started, &sections, args.out.as_deref())
}

/// Prints the progress.
fn say(what: &str) {
    eprintln!("… {what}");
}
