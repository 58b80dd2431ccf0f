//! One measurement: the subject, its subscribers (the crowd), the publisher (the speaker), and the costs.

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

/// A run is repeated if other processes took more of a core than this.
pub(crate) const NOISY_PCT: f64 = 10.0;

/// The subscribers and the messages of a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) sessions: usize,
    pub(crate) channels: usize,
    pub(crate) messages: u64,
    pub(crate) pace: Pace,
}

/// The pace of messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// At most so many in flight.
    Window(u64),
    /// One per interval, whatever the server does.
    Every(Duration),
}

/// The costs of one run.
pub(crate) struct Cost {
    pub(crate) cpu_s_per_million: f64,
    pub(crate) lateness: Histogram,
    pub(crate) others_pct: f64,
    pub(crate) json: Value,
}

/// The costs of floor and server in each alternation.
pub(crate) struct Pair {
    pub(crate) floors: Vec<Cost>,
    pub(crate) servers: Vec<Cost>,
}

impl Pair {
    /// The median over the alternations of a figure computed from the floor's costs and the server's.
    pub(crate) fn median(&self, of: impl Fn(&Cost, &Cost) -> f64) -> f64 {
        median(self.floors.iter().zip(&self.servers).map(|(floor, server)| of(floor, server)))
    }

    /// The server's p99 lateness as a multiple of the floor's.
    pub(crate) fn p99_ratio(&self) -> f64 {
        self.median(|floor, server| server.lateness.quantile_ms(0.99) / floor.lateness.quantile_ms(0.99))
    }

    /// All numbers, including `more`.
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

    /// Runs one measurement.
    pub(crate) fn measure(&self, subject: &Subject) -> anyhow::Result<Cost> {
        let crowd = Crowd::gather(&[subject], self.sessions, self.channels)?;
        let connections = if let Pace::Window(window) = self.pace { window } else { 1 };
        let mut speaker = Speaker::new(subject, &crowd.tally, self.channels, self.per_message(), SIZE, connections)?;
        // The warm-up: caches are filled and buffers have grown.
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

    /// Alternates floor and server, so that changes of the machine's speed affect both.
    pub(crate) async fn compare(&self, args: &Args, cores: Cores) -> anyhow::Result<Pair> {
        let mut pair = Pair { floors: Vec::new(), servers: Vec::new() };
        for _ in 0..args.alternations() {
            pair.floors.push(self.measure_quietly(&Subject::floor(cores)?)?);
            pair.servers.push(self.measure_quietly(&Subject::server(cores, false).await?)?);
        }
        Ok(pair)
    }

    /// Runs one measurement, and repeats it if other processes took too much of the machine.
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
