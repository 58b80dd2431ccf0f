//! Redis's CPU time for a publish, compared with a bare PUBLISH of the same bytes.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;
use tidings_testkit::Redis;

use super::Args;
use super::fanout::{Shape, Shared, measure};
use crate::cpu::{Cores, cpu_ns_of};
use crate::live::SIZE;
use crate::live::subject::Subject;
use crate::report::{Section, median};

/// Publishes in flight, and clients of `redis-benchmark`.
const WINDOW: u64 = 64;

/// The results of `redis-benchmark`.
struct Bare {
    per_s: f64,
    redis_us: f64,
}

fn bare(redis: &Redis, requests: u64) -> anyhow::Result<Bare> {
    let before = cpu_ns_of(redis.pid());
    let output = Command::new("redis-benchmark")
        .args(["-p", &redis.address().port().to_string(), "-q", "-n", &requests.to_string(), "-c", &WINDOW.to_string()])
        .args(["PUBLISH", "bench", &"x".repeat(SIZE)])
        .output()
        .context("redis-benchmark cannot be run: apt-get install -y redis-tools")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "redis-benchmark: {said}");
    // Progress lines are separated by carriage returns; the last one is the result.
    let last = said.split(['\r', '\n']).rfind(|line| line.contains("requests per second"));
    let per_s = last.and_then(|line| line.split(" requests per second").next()?.rsplit(' ').next()?.parse().ok());
    let per_s = per_s.with_context(|| format!("redis-benchmark says no rate: {said}"))?;
    Ok(Bare { per_s, redis_us: (cpu_ns_of(redis.pid()) - before) as f64 / 1e3 / requests as f64 })
}

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    let messages = if args.quick { 10_000 } else { 50_000 };
    let shape = Shape { sessions: 1_000, channels: 1_000, messages, window: WINDOW };
    let shared = Shared::start().await;
    let (mut alone, mut through, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.alternations() {
        bares.push(bare(&shared.redis, messages * 4)?);
        alone.push(measure(&[Subject::server(cores, false).await?], None, shape)?);
        through.push(measure(&shared.nodes(cores, 1).await?, Some(&shared.redis), shape)?);
    }
    let bare_us = median(bares.iter().map(|bare| bare.redis_us));
    let bare_per_s = median(bares.iter().map(|bare| bare.per_s));
    let redis_us = median(through.iter().map(|cost| cost.redis_us_per_message));
    let per_s = median(through.iter().map(|cost| cost.messages_per_s));
    let node_us = median(through.iter().map(|cost| cost.node_us_per_message));
    let alone_us = median(alone.iter().map(|cost| cost.node_us_per_message));
    let share = median(through.iter().zip(&alone).map(|(t, a)| 1.0 - a.node_us_per_message / t.node_us_per_message));
    let lines = vec![
        (
            "redis-benchmark".to_owned(),
            format!("{bare_per_s:.0} PUBLISH/s to nobody, {bare_us:.1} µs of Redis' CPU each"),
        ),
        (
            "a publish through Redis".to_owned(),
            format!(
                "{per_s:.0} publishes/s = {:.2} of that; {redis_us:.1} µs of Redis' CPU each = {:.1} × (a script, and \
                its message)",
                per_s / bare_per_s,
                redis_us / bare_us
            ),
        ),
        (
            "the node's CPU".to_owned(),
            format!(
                "{node_us:.1} µs a publish, {alone_us:.1} without Redis: the broker's share is {:.0} %",
                share * 100.0
            ),
        ),
    ];
    let json = json!({
        "redis_benchmark": bares
            .iter()
            .map(|bare| json!({"per_s": bare.per_s, "redis_us": bare.redis_us}))
            .collect::<Vec<_>>(),
        "through_redis": through.iter().map(|cost| cost.to_json()).collect::<Vec<_>>(),
        "in_memory": alone.iter().map(|cost| cost.to_json()).collect::<Vec<_>>(),
        "broker_share": share,
    });
    Ok(Section {
        name: "broker",
        title: "Publishes to 1,000 channels of one session, 64 under way (node on one core, Redis and load on the \
            other)",
        lines,
        json,
    })
}
