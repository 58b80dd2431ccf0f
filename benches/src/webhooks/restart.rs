//! Restart: after a kill with very many pending deliveries, how soon does the server deliver again, and at what cost?
//!
//! The receiver first accepts every request and answers none, so nearly all deliveries stay in the store, due at once.

use std::time::Duration;

use serde_json::json;

use super::bed::Bed;
use super::{CONNECTIONS, Plan};
use crate::clock::{now_ns, seconds};
use crate::cpu::{memory_kib, settled_cpu_ns};
use crate::load::{self, Target};
use crate::report::Section;

const HOOK: &str = "bench.one";
const TAG: &str = "gate";
const LISTENERS: u64 = 8;
const FILL: Duration = Duration::from_secs(90);
const DRAIN: Duration = Duration::from_secs(90);

/// Fills the store, kills the server, starts it again, and measures until all deliveries are made.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Section> {
    let mut bed = Bed::start(plan, &[]).await?;
    bed.hook(HOOK).await;
    bed.listeners(HOOK, TAG, LISTENERS as usize).await;
    bed.receiver.hold(TAG).await?;
    let target = Target::new(&bed.server, HOOK);
    let filled = load::closed(&target, CONNECTIONS, FILL, plan.pending / LISTENERS).await?;
    let pending = filled.accepted * LISTENERS;
    let rss_filled = bed.server.rss_kib();
    bed.server.kill9().await;

    bed.receiver.release(TAG).await?;
    bed.receiver.forget().await?;
    let started = now_ns();
    bed.server.restart().await;
    let ready = seconds(now_ns() - started);
    let first = bed.receiver.wait_for(TAG, 1, Duration::from_secs(20)).await?;
    let first_s = seconds(first.first_ns.saturating_sub(started));
    let seen = bed.receiver.wait_for(TAG, pending, DRAIN).await?;
    let rss_peak = memory_kib(bed.server.pid(), "VmHWM").unwrap_or(0);
    let cpu_us = settled_cpu_ns(&bed.server).await as f64 / 1e3 / seen.count.max(1) as f64;
    let drained = seconds(seen.last_ns - seen.first_ns);
    let complete = seen.count >= pending;
    let lines = vec![
        (
            "filling".to_owned(),
            format!("{pending} deliveries by {:.0} publishes/s; RSS {} MiB", filled.rate(), rss_filled / 1024),
        ),
        ("first delivery".to_owned(), format!("{first_s:.2} s after the start (ready after {ready:.2} s)")),
        (
            if complete { "drained" } else { "drained IN PART" }.to_owned(),
            format!("{} in {drained:.1} s = {:.0}/s; {cpu_us:.0} µs CPU per delivery", seen.count, seen.rate()),
        ),
        ("RSS, at most".to_owned(), format!("{} MiB", rss_peak / 1024)),
    ];
    let json = json!({
        "pending": pending, "filled": filled.to_json(), "rss_filled_kib": rss_filled, "ready_s": ready,
        "first_delivery_s": first_s, "drained": seen.count, "drain_s": drained, "drain_per_s": seen.rate(),
        "cpu_us_per_delivery": cpu_us, "rss_peak_kib": rss_peak, "complete": complete,
    });
    Ok(Section { name: "restart", title: "Restart after kill -9, everything still owed", lines, json })
}
