//! Live deliveries per second of CPU: one node alone, one with Redis, and two with half of the sessions each.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tidings_testkit::{Database, Redis, postgres, redis};

use super::Args;
use crate::clock::{now_ns, own_cpu_ns, seconds};
use crate::cpu::{Cores, cpu_ns_of, machine_cpu_ns};
use crate::live::SIZE;
use crate::live::crowd::Crowd;
use crate::live::speaker::Speaker;
use crate::live::subject::Subject;
use crate::report::{Section, median};

/// The servers that nodes share, and the config lines for them.
pub(super) struct Shared {
    _database: Database,
    pub(super) redis: Redis,
    lines: String,
}

impl Shared {
    /// Starts them, on the core of the load.
    pub(super) async fn start() -> Self {
        let (database, redis) = (postgres(), redis().await);
        // No secret is stored, so each node may have a main key of its own.
        let lines = format!("[store]\nurl = {:?}\n[broker]\nurl = {:?}\n", database.url(), redis.url());
        Self { _database: database, redis, lines }
    }

    /// Starts so many nodes, all on the measured core.
    pub(super) async fn nodes(&self, cores: Cores, count: usize) -> anyhow::Result<Vec<Subject>> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Subject::node(cores, &self.lines).await?);
        }
        Ok(nodes)
    }
}

/// The sessions and the messages of a measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) sessions: usize,
    pub(super) channels: usize,
    pub(super) messages: u64,
    /// How many messages may be in flight.
    pub(super) window: u64,
}

/// The costs.
#[derive(Debug)]
pub(super) struct Cost {
    pub(super) messages_per_s: f64,
    pub(super) deliveries_per_cpu_s: f64,
    pub(super) node_us_per_message: f64,
    pub(super) redis_us_per_message: f64,
    pub(super) others_pct: f64,
}

impl Cost {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "messages_per_s": self.messages_per_s, "deliveries_per_cpu_s": self.deliveries_per_cpu_s,
            "node_us_per_message": self.node_us_per_message, "redis_us_per_message": self.redis_us_per_message,
            "others_cpu_pct": self.others_pct,
        })
    }
}

/// Measures nodes: sessions are spread over them, and messages are published at the first.
pub(super) fn measure(nodes: &[Subject], redis: Option<&Redis>, shape: Shape) -> anyhow::Result<Cost> {
    let Shape { sessions, channels, messages, window } = shape;
    let per_message = (sessions / channels) as u64;
    let crowd = Crowd::gather(&nodes.iter().collect::<Vec<_>>(), sessions, channels)?;
    let mut speaker = Speaker::new(&nodes[0], &crowd.tally, channels, per_message, SIZE, window)?;
    speaker.closed((messages / 10).max(3), 1)?;
    std::thread::sleep(Duration::from_millis(200));
    let used = || nodes.iter().map(|node| cpu_ns_of(node.pid())).sum::<u64>();
    let of_redis = || redis.map_or(0, |redis| cpu_ns_of(redis.pid()));
    let before = (used(), of_redis(), own_cpu_ns(), machine_cpu_ns(), now_ns());
    speaker.closed(messages, window)?;
    let took = now_ns() - before.4;
    let (cpu, in_redis) = (used() - before.0, of_redis() - before.1);
    let all = machine_cpu_ns() - before.3;
    let others = all.saturating_sub(cpu + in_redis + own_cpu_ns() - before.2);
    drop(speaker);
    crowd.disperse()?;
    Ok(Cost {
        messages_per_s: messages as f64 / seconds(took),
        deliveries_per_cpu_s: (messages * per_message) as f64 / seconds(cpu).max(1e-9),
        node_us_per_message: cpu as f64 / 1e3 / messages as f64,
        redis_us_per_message: in_redis as f64 / 1e3 / messages as f64,
        others_pct: 100.0 * others as f64 / took as f64,
    })
}

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    let some = |messages: u64| if args.quick { messages / 5 } else { messages };
    let cells = [
        ("1,000 sessions", Shape { sessions: 1_000, channels: 1, messages: some(4_000), window: 16 }),
        ("1,000 × 1 session", Shape { sessions: 1_000, channels: 1_000, messages: some(40_000), window: 16 }),
    ];
    let shared = Shared::start().await;
    let (mut lines, mut record) = (Vec::new(), Vec::new());
    for (name, shape) in cells {
        let [mut alone, mut one, mut two] = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..args.alternations() {
            alone.push(measure(&[Subject::server(cores, false).await?], None, shape).context("without Redis")?);
            one.push(measure(&shared.nodes(cores, 1).await?, Some(&shared.redis), shape).context("one node")?);
            two.push(measure(&shared.nodes(cores, 2).await?, Some(&shared.redis), shape).context("two nodes")?);
        }
        let ratio = |of: &[Cost], to: &[Cost]| {
            median(of.iter().zip(to).map(|(of, to)| of.deliveries_per_cpu_s / to.deliveries_per_cpu_s))
        };
        let per_cpu_s = |costs: &[Cost]| median(costs.iter().map(|cost| cost.deliveries_per_cpu_s));
        lines.push((
            name.to_owned(),
            format!(
                "two nodes {:.2} of one with Redis ({:.0} and {:.0} deliveries per CPU-second), {:.2} of one alone \
                ({:.0})",
                ratio(&two, &one),
                per_cpu_s(&two),
                per_cpu_s(&one),
                ratio(&two, &alone),
                per_cpu_s(&alone)
            ),
        ));
        let others = median(alone.iter().chain(&one).chain(&two).map(|cost| cost.others_pct));
        lines.push((String::new(), format!("others took {others:.0} % of a core")));
        let all = |costs: &[Cost]| costs.iter().map(Cost::to_json).collect::<Value>();
        record.push(json!({
            "cell": name, "two_of_one": ratio(&two, &one), "two_of_alone": ratio(&two, &alone),
            "alone": all(&alone), "one": all(&one), "two": all(&two),
        }));
    }
    let title = "Live deliveries of 100 bytes (all nodes on one core, Redis and load on the other)";
    Ok(Section { name: "fanout", title, lines, json: record.into() })
}
