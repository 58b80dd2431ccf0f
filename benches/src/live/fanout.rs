//! CPU time of a live delivery: the server compared with the floor, alternating.

use serde_json::json;

use super::Args;
use super::cell::{Pace, Shape};
use crate::cpu::Cores;
use crate::report::Section;

struct Cell {
    name: &'static str,
    shape: Shape,
    target: f64,
}

fn cells(quick: bool) -> Vec<Cell> {
    let some = |messages: u64| if quick { messages / 5 } else { messages };
    let cell = |name, sessions, channels, messages, window, target| {
        let shape = Shape { sessions, channels, messages: some(messages), pace: Pace::Window(window) };
        Cell { name, shape, target }
    };
    vec![
        cell("1,000 sessions, window 1", 1_000, 1, 1_000, 1, 0.7),
        cell("1,000 sessions, window 16", 1_000, 1, 4_000, 16, 0.7),
        cell("10,000 sessions, window 1", 10_000, 1, 100, 1, 0.7),
        cell("10,000 sessions, window 16", 10_000, 1, 320, 16, 0.7),
        cell("10,000 × 1 session, window 1", 10_000, 10_000, 100_000, 1, 0.5),
        cell("10,000 × 1 session, window 16", 10_000, 10_000, 100_000, 16, 0.5),
    ]
}

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    let mut lines = Vec::new();
    let mut record = Vec::new();
    for cell in cells(args.quick).into_iter().filter(|cell| args.wants(cell.name)) {
        eprintln!("… {}", cell.name);
        let pair = cell.shape.compare(args, cores).await?;
        let ratio = pair.median(|floor, server| floor.cpu_s_per_million / server.cpu_s_per_million);
        let floor = pair.median(|floor, _| floor.cpu_s_per_million);
        let server = pair.median(|_, server| server.cpu_s_per_million);
        let p99 = pair.p99_ratio();
        let line = (
            cell.name.to_owned(),
            format!(
                "{ratio:.2} of the floor (target ≥ {}): {server:.2} against {floor:.2} CPU-s per million; p99 {p99:.2} \
                × the floor's",
                cell.target
            ),
        );
        eprintln!("  {}", line.1);
        lines.push(line);
        record.push(pair.record(json!({
            "cell": cell.name, "floor_share": ratio, "server_cpu_s_per_million": server,
            "floor_cpu_s_per_million": floor,
        })));
    }
    Ok(Section {
        name: "fanout",
        title: "Fan-out of 100 bytes (server and floor each on one core, one shard)",
        lines,
        json: record.into(),
    })
}
