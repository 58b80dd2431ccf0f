//! Fan-out: does a publish to very many listeners take longer to answer than one to a single listener, and when have
//! all received it?

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::task::JoinSet;

use super::Plan;
use super::bed::Bed;
use crate::clock::{now_ns, seconds};
use crate::cpu::settled_cpu_ns;
use crate::histogram::{Histogram, ms};
use crate::http1::Connection;
use crate::load::Target;
use crate::report::{Section, median};

/// Connections that create listeners.
const MAKERS: usize = 16;
const SINGLE_PUBLISHES: usize = 300;
/// How long one fan-out may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures one listener, then `plan.listeners`.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Section> {
    let mut bed = Bed::start(plan, &[]).await?;
    bed.hook("bench.one").await;
    bed.hook("bench.many").await;
    bed.listener("bench.one", "one").await;
    let made_in = make_listeners(&bed, plan.listeners).await?;
    let per_s = plan.listeners as f64 / made_in;

    let target = Target::new(&bed.server, "bench.one");
    let mut connection = target.connect().await?;
    let mut one = Histogram::default();
    for _ in 0..SINGLE_PUBLISHES {
        one.add(publish(&target, &mut connection).await?.1);
        // One publish at a time, until the receiver has it.
        bed.receiver.wait_for("one", one.total(), Duration::from_secs(5)).await?;
    }

    let target = Target::new(&bed.server, "bench.many");
    let (mut many, mut told, mut runs) = (Histogram::default(), Vec::new(), Vec::new());
    for _ in 0..plan.fanouts {
        bed.receiver.forget().await?;
        let before = settled_cpu_ns(&bed.server).await;
        let (sent, answered) = publish(&target, &mut connection).await?;
        many.add(answered);
        let seen = bed.receiver.wait_for("many", plan.listeners as u64, PATIENCE).await?;
        let cpu_us = (settled_cpu_ns(&bed.server).await - before) as f64 / 1e3 / seen.count.max(1) as f64;
        let [first, last] = [seen.first_ns, seen.last_ns].map(|at| seconds(at.saturating_sub(sent)));
        if seen.count >= plan.listeners as u64 {
            told.push(last);
        }
        runs.push(json!({
            "answered_ms": answered as f64 / 1e6, "told": seen.count, "first_s": first, "last_s": last,
            "cpu_us_per_delivery": cpu_us,
        }));
    }
    let cpu = median(runs.iter().filter_map(|run| run["cpu_us_per_delivery"].as_f64()));
    let n = plan.listeners;
    let answer = |h: &Histogram| {
        format!("p50 {}, p99 {} ms (of {})", ms(h.quantile_ms(0.5)), ms(h.quantile_ms(0.99)), h.total())
    };
    let lines = vec![
        ("making listeners".to_owned(), format!("{per_s:.0}/s ({n} in {made_in:.1} s)")),
        ("answer, 1 listener".to_owned(), answer(&one)),
        (format!("answer, {n} listeners"), answer(&many)),
        (
            format!("all {n} told"),
            format!(
                "{:.2} s; {cpu:.0} µs CPU per delivery, each on a connection of its own{}",
                median(told.iter().copied()),
                if told.len() < plan.fanouts { "; NOT ALL were told in time" } else { "" }
            ),
        ),
    ];
    let json = json!({
        "listeners": n, "listeners_made_per_s": per_s, "one": one.to_json(), "many": many.to_json(), "runs": runs,
    });
    Ok(Section { name: "fanout", title: "Fan-out, one publish at a time", lines, json })
}

async fn publish(target: &Target, connection: &mut Connection) -> anyhow::Result<(u64, u64)> {
    let sent = now_ns();
    let status = connection.post(&target.body(sent)).await?;
    ensure!(status == 202, "a publish was refused: {}", connection.answer());
    Ok((sent, now_ns() - sent))
}

/// Makes the listeners, spread over many hosts; returns the seconds that it took.
async fn make_listeners(bed: &Bed, listeners: usize) -> anyhow::Result<f64> {
    let (addr, key) = (bed.server.addr, bed.server.credentials.api_key.clone());
    let mut tasks = JoinSet::new();
    let started = now_ns();
    for maker in 0..MAKERS {
        let key = key.clone();
        let bodies: Vec<String> = (maker..listeners)
            .step_by(MAKERS)
            .map(|n| json!({"url": bed.receiver.url_at(n, &format!("many/{n}")), "hooks": ["bench.many"]}).to_string())
            .collect();
        tasks.spawn(async move {
            let mut connection = Connection::open(addr, &key, "/v1/listeners").await?;
            for body in bodies {
                let status = connection.post(&body).await?;
                ensure!(status == 201, "a listener was refused: {}", connection.answer());
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(seconds(now_ns() - started))
}
