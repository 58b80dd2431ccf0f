//! Lateness of a fan-out to ten thousand sessions, beside the floor's at the same rate.

use std::time::Duration;

use serde_json::json;

use super::Args;
use super::cell::{Pace, Shape};
use super::subject::Subject;
use crate::cpu::Cores;
use crate::report::{Section, median};

const SESSIONS: usize = 10_000;

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    let messages = if args.quick { 20 } else { 60 };
    let mut lines = Vec::new();
    let mut record = Vec::new();
    for (name, every) in [("2 a second", 500), ("5 a second", 200)] {
        eprintln!("… {name}");
        let shape =
            Shape { sessions: SESSIONS, channels: 1, messages, pace: Pace::Every(Duration::from_millis(every)) };
        let (mut floors, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..args.alternations() {
            floors.push(shape.measure_quietly(&Subject::floor(cores)?)?);
            servers.push(shape.measure_quietly(&Subject::server(cores, "").await?)?);
        }
        let at = |costs: &[super::cell::Cost], share| median(costs.iter().map(|cost| cost.lateness.quantile_ms(share)));
        let ratio = median(
            floors.iter().zip(&servers).map(|(f, s)| s.lateness.quantile_ms(0.99) / f.lateness.quantile_ms(0.99)),
        );
        lines.push((
            name.to_owned(),
            format!(
                "p99 {ratio:.2} × the floor's (target ≤ 1.5): {:.1} against {:.1} ms; p50 {:.1} against {:.1} ms",
                at(&servers, 0.99),
                at(&floors, 0.99),
                at(&servers, 0.5),
                at(&floors, 0.5)
            ),
        ));
        let all = |costs: &[super::cell::Cost]| costs.iter().map(|cost| cost.json.clone()).collect::<Vec<_>>();
        record.push(json!({"cell": name, "p99_ratio": ratio, "floor": all(&floors), "server": all(&servers)}));
    }
    Ok(Section {
        name: "latency",
        title: "From when a message was due to each of 10,000 sessions",
        lines,
        json: record.into(),
    })
}
