//! Closed loop: CPU time per delivery compared with the floor's, and deliveries per second.

use std::time::Duration;

use serde_json::{Value, json};

use super::bed::Bed;
use super::{CONNECTIONS, Plan};
use crate::clock::{now_ns, own_cpu_ns, seconds};
use crate::cpu::{machine_cpu_ns, settled_cpu_ns};
use crate::floor::{self, Floor};
use crate::load::{self, Target};
use crate::receiver::Receiver;
use crate::report::{Section, median};

const HOOK: &str = "bench.one";
const TAG: &str = "peak";
const WARM_UP: Duration = Duration::from_secs(1);
/// How long published events may take to arrive.
const DRAIN: Duration = Duration::from_secs(60);
/// Listeners of the wide cell.
const WIDE: usize = 8;

/// One run against the server.
struct Cell {
    cpu_us_per_delivery: f64,
    cpu_us_per_publish: f64,
    deliveries_per_s: f64,
    publishes_per_s: f64,
    others_pct: f64,
    bytes: f64,
    sample: String,
    json: Value,
}

/// Measures, and returns the deliveries per second that one listener can receive for long.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<(Section, f64)> {
    let (mut floors, mut lone, mut narrow, mut wide) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut floor_bytes = 0.0;
    for _ in 0..plan.alternations {
        let mut receiver = Receiver::start().await?;
        floors.push(floor::measure(plan.cores, &receiver.url(TAG), CONNECTIONS, plan.floor).await?);
        let seen = receiver.seen(TAG).await?;
        floor_bytes = seen.bytes as f64 / seen.count.max(1) as f64;
        lone.push(floor::measure(plan.cores, &receiver.url(TAG), 1, plan.floor / 2).await?);
        narrow.push(cell(plan, 1).await?);
        wide.push(cell(plan, WIDE).await?);
    }
    let floor_cpu = median(floors.iter().map(|floor| floor.cpu_us_per_post));
    let peak = median(narrow.iter().map(|cell| cell.deliveries_per_s));
    let lone_cpu = median(lone.iter().map(|floor| floor.cpu_us_per_post));
    let mut lines = vec![
        (
            "floor: egress alone".to_owned(),
            format!("{floor_cpu:.1} µs CPU per POST; {:.0} POSTs/s", median(floors.iter().map(|f| f.posts_per_s))),
        ),
        (
            "the same, one at a time".to_owned(),
            format!("{lone_cpu:.1} µs CPU per POST: each wakes and is woken, as at a server that isn't saturated"),
        ),
    ];
    lines.extend(rows("×1 listener", &narrow, &floors));
    lines.extend(rows(&format!("×{WIDE} listeners"), &wide, &floors));
    let others = median(narrow.iter().chain(&wide).map(|cell| cell.others_pct));
    lines
        .push(("other processes meanwhile".to_owned(), format!("{others:.0} % of a core (a quiet machine: below 10)")));
    let json = json!({
        "floors": floors, "floors_one_at_a_time": lone, "floor_request_bytes": floor_bytes,
        "x1": summary(&narrow, &floors), "x8": summary(&wide, &floors),
        "request_sample": narrow.first().map(|cell| cell.sample.clone()),
    });
    let title = "Closed loop, 64 publishes under way (server and floor on one core, SQLite with full syncs)";
    Ok((Section { name: "peak", title, lines, json }, peak))
}

fn ratio(cells: &[Cell], floors: &[Floor]) -> f64 {
    median(cells.iter().zip(floors).map(|(cell, floor)| cell.cpu_us_per_delivery / floor.cpu_us_per_post))
}

fn rows(name: &str, cells: &[Cell], floors: &[Floor]) -> Vec<(String, String)> {
    let cpu = median(cells.iter().map(|cell| cell.cpu_us_per_delivery));
    let per_publish = median(cells.iter().map(|cell| cell.cpu_us_per_publish));
    let [deliveries, publishes] =
        [median(cells.iter().map(|cell| cell.deliveries_per_s)), median(cells.iter().map(|cell| cell.publishes_per_s))];
    vec![
        (
            format!("server, {name}"),
            format!("{cpu:.1} µs CPU per delivery = {:.2} × floor (target ≤ 3.0)", ratio(cells, floors)),
        ),
        (
            String::new(),
            format!("{deliveries:.0} deliveries/s, {publishes:.0} publishes/s, {per_publish:.0} µs CPU per publish"),
        ),
    ]
}

fn summary(cells: &[Cell], floors: &[Floor]) -> Value {
    json!({
        "ratio": ratio(cells, floors),
        "request_bytes": median(cells.iter().map(|cell| cell.bytes)),
        "runs": cells.iter().map(|cell| cell.json.clone()).collect::<Vec<_>>(),
    })
}

async fn cell(plan: &Plan, listeners: usize) -> anyhow::Result<Cell> {
    let mut bed = Bed::start(plan, &[]).await?;
    bed.hook(HOOK).await;
    bed.listeners(HOOK, TAG, listeners).await;
    let target = Target::new(&bed.server, HOOK);
    let warm = load::closed(&target, CONNECTIONS, WARM_UP, u64::MAX).await?;
    bed.receiver.wait_for(TAG, warm.accepted * listeners as u64, DRAIN).await?;
    let before = settled_cpu_ns(&bed.server).await;
    bed.receiver.forget().await?;
    let (began, load_before) = ((now_ns(), machine_cpu_ns()), own_cpu_ns() + bed.receiver.cpu_ns());
    let published = load::closed(&target, CONNECTIONS, plan.closed, u64::MAX).await?;
    let owed = published.accepted * listeners as u64;
    let behind = owed.saturating_sub(bed.receiver.count(TAG).await?);
    let seen = bed.receiver.wait_for(TAG, owed, DRAIN).await?;
    let cpu_ns = settled_cpu_ns(&bed.server).await - before;
    let load_ns = own_cpu_ns() + bed.receiver.cpu_ns() - load_before;
    let others_ns = (machine_cpu_ns() - began.1).saturating_sub(cpu_ns + load_ns);
    let others_pct = 100.0 * others_ns as f64 / (now_ns() - began.0) as f64;
    let cpu = cpu_ns as f64 / 1e3;
    let [cpu_us_per_delivery, cpu_us_per_publish] = [seen.count, published.accepted].map(|n| cpu / n.max(1) as f64);
    Ok(Cell {
        cpu_us_per_delivery,
        cpu_us_per_publish,
        deliveries_per_s: seen.rate(),
        publishes_per_s: published.rate(),
        others_pct,
        bytes: seen.bytes as f64 / seen.count.max(1) as f64,
        json: json!({
            "cpu_us_per_delivery": cpu_us_per_delivery, "cpu_us_per_publish": cpu_us_per_publish,
            "published": published.to_json(), "deliveries": seen.count, "owed": owed, "deliveries_per_s": seen.rate(),
            "behind_at_the_end": behind, "delivery_seconds": seconds(seen.last_ns - seen.first_ns),
            "rss_kib": bed.server.rss_kib(), "others_cpu_pct": others_pct,
            "load_us_per_delivery": load_ns as f64 / 1e3 / seen.count.max(1) as f64,
        }),
        sample: seen.sample,
    })
}
