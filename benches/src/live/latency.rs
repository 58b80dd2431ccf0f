//! Lateness of a fan-out to ten thousand sessions, compared with the floor's at the same rate.

use std::time::Duration;

use serde_json::json;

use super::Args;
use super::cell::{Pace, Shape};
use crate::cpu::Cores;
use crate::report::Section;

const SESSIONS: usize = 10_000;

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    let messages = if args.quick { 20 } else { 60 };
    let mut lines = Vec::new();
    let mut record = Vec::new();
    for (name, every) in [("2 a second", 500), ("5 a second", 200)] {
        if !args.wants(name) {
            continue;
        }
        eprintln!("… {name}");
        let shape =
            Shape { sessions: SESSIONS, channels: 1, messages, pace: Pace::Every(Duration::from_millis(every)) };
        let pair = shape.compare(args, cores).await?;
        let [p50, p99] = [0.5, 0.99].map(|share| {
            let floor = pair.median(|floor, _| floor.lateness.quantile_ms(share));
            (pair.median(|_, server| server.lateness.quantile_ms(share)), floor)
        });
        lines.push((
            name.to_owned(),
            format!(
                "p99 {:.2} × the floor's (target ≤ 1.5): {:.1} against {:.1} ms; p50 {:.1} against {:.1} ms",
                pair.p99_ratio(),
                p99.0,
                p99.1,
                p50.0,
                p50.1
            ),
        ));
        record.push(pair.record(json!({"cell": name})));
    }
    Ok(Section {
        name: "latency",
        title: "From when a message was due to each of 10,000 sessions",
        lines,
        json: record.into(),
    })
}
