//! One measurement: a subject, a crowd, a speaker, and what it cost.

use std::time::Duration;

use serde_json::{Value, json};

use super::crowd::Crowd;
use super::speaker::Speaker;
use super::subject::Subject;
use super::{Args, SIZE};
use crate::clock::{now_ns, own_cpu_ns, seconds};
use crate::cpu::{Cores, cpu_ns_of, machine_cpu_ns};
use crate::histogram::Histogram;
use crate::report::median;

/// More of a core than this taken by others makes a run worthless.
pub(crate) const NOISY_PCT: f64 = 10.0;

/// Who listens, and how it is spoken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) sessions: usize,
    pub(crate) channels: usize,
    pub(crate) messages: u64,
    pub(crate) pace: Pace,
}

/// How messages follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// So many may be under way.
    Window(u64),
    /// One each so often, whatever happens.
    Every(Duration),
}

/// What it cost.
pub(crate) struct Cost {
    pub(crate) cpu_s_per_million: f64,
    pub(crate) lateness: Histogram,
    pub(crate) others_pct: f64,
    pub(crate) json: Value,
}

/// What each turn of both has cost.
pub(crate) struct Pair {
    pub(crate) floors: Vec<Cost>,
    pub(crate) servers: Vec<Cost>,
}

impl Pair {
    /// The median over the turns of a figure made of a floor's cost and the server's.
    pub(crate) fn median(&self, of: impl Fn(&Cost, &Cost) -> f64) -> f64 {
        median(self.floors.iter().zip(&self.servers).map(|(floor, server)| of(floor, server)))
    }

    /// How many times the floor's lateness the server's is, of the hundredth that is latest.
    pub(crate) fn p99_ratio(&self) -> f64 {
        self.median(|floor, server| server.lateness.quantile_ms(0.99) / floor.lateness.quantile_ms(0.99))
    }

    /// Every number, `more` among them.
    pub(crate) fn record(&self, mut more: Value) -> Value {
        for (name, costs) in [("floor", &self.floors), ("server", &self.servers)] {
            more[name] = costs.iter().map(|cost| cost.json.clone()).collect();
        }
        more["p99_ratio"] = self.p99_ratio().into();
        more
    }
}

impl Shape {
    fn per_message(&self) -> u64 {
        (self.sessions / self.channels) as u64
    }

    /// Measures.
    pub(crate) fn measure(&self, subject: &Subject) -> anyhow::Result<Cost> {
        let crowd = Crowd::gather(&[subject], self.sessions, self.channels)?;
        let connections = if let Pace::Window(window) = self.pace { window } else { 1 };
        let mut speaker = Speaker::new(subject, &crowd.tally, self.channels, self.per_message(), SIZE, connections)?;
        // Caches are filled and buffers have their sizes.
        speaker.closed((self.messages / 10).max(3), 1)?;
        crowd.tally.forget();
        std::thread::sleep(Duration::from_millis(200));
        let (cpu, own, machine, began) = (cpu_ns_of(subject.pid()), own_cpu_ns(), machine_cpu_ns(), now_ns());
        match self.pace {
            Pace::Window(window) => speaker.closed(self.messages, window)?,
            Pace::Every(every) => speaker.open(self.messages, every)?,
        }
        let took = now_ns() - began;
        let cpu = cpu_ns_of(subject.pid()) - cpu;
        let own = own_cpu_ns() - own;
        let others = (machine_cpu_ns() - machine).saturating_sub(cpu + own);
        drop(speaker);
        let closed = crowd.tally.closed();
        let lateness = crowd.disperse()?;
        let deliveries = self.messages * self.per_message();
        let million = deliveries as f64 / 1e6;
        let cpu_s_per_million = seconds(cpu) / million;
        let others_pct = 100.0 * others as f64 / took as f64;
        let json = json!({
            "cpu_s_per_million": cpu_s_per_million, "deliveries": deliveries, "seconds": seconds(took),
            "deliveries_per_s": deliveries as f64 / seconds(took), "client_cpu_s_per_million": seconds(own) / million,
            "others_cpu_pct": others_pct, "closed_by_server": closed, "lateness": lateness.to_json(),
        });
        Ok(Cost { cpu_s_per_million, lateness, others_pct, json })
    }

    /// Floor and server in turn, so that both meet the same moods of the machine.
    pub(crate) async fn compare(&self, args: &Args, cores: Cores) -> anyhow::Result<Pair> {
        let mut pair = Pair { floors: Vec::new(), servers: Vec::new() };
        for _ in 0..args.alternations() {
            pair.floors.push(self.measure_quietly(&Subject::floor(cores)?)?);
            pair.servers.push(self.measure_quietly(&Subject::server(cores, false).await?)?);
        }
        Ok(pair)
    }

    /// Measures, again where others took too much of the machine.
    pub(crate) fn measure_quietly(&self, subject: &Subject) -> anyhow::Result<Cost> {
        let mut best = self.measure(subject)?;
        for _ in 0..2 {
            if best.others_pct <= NOISY_PCT {
                break;
            }
            let again = self.measure(subject)?;
            if again.others_pct < best.others_pct {
                best = again;
            }
        }
        Ok(best)
    }
}
