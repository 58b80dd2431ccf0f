//! Isolation: does a listener that hangs delay another one?

use std::time::Duration;

use serde_json::json;

use super::bed::Bed;
use super::{CONNECTIONS, Plan};
use crate::load::{self, Target};
use crate::receiver::Seen;
use crate::report::Section;

const HOOK: &str = "bench.one";
/// The share of the peak rate; low enough that lateness is not caused by load alone.
const SHARE: f64 = 0.3;

/// Measures a healthy listener alone, then beside one that accepts every request and answers none.
pub(crate) async fn run(plan: &Plan, peak: f64) -> anyhow::Result<Section> {
    let mut bed = Bed::start(plan, &[]).await?;
    bed.hook(HOOK).await;
    bed.listener(HOOK, "healthy").await;
    bed.receiver.hold("hanging").await?;
    let target = Target::new(&bed.server, HOOK);
    load::closed(&target, CONNECTIONS, Duration::from_millis(500), u64::MAX).await?;
    let alone = measure(plan, &mut bed, &target, peak).await?;
    bed.listener(HOOK, "hanging").await;
    load::closed(&target, CONNECTIONS, Duration::from_secs(1), 4 * CONNECTIONS as u64).await?;
    let hanging = bed.receiver.count("hanging").await?;
    let beside = measure(plan, &mut bed, &target, peak).await?;
    let lines = vec![
        ("healthy, alone".to_owned(), alone.late.to_text()),
        (format!("healthy, beside {hanging} hanging"), beside.late.to_text()),
    ];
    let json = json!({
        "per_s": peak * SHARE, "hanging_attempts": hanging, "alone": alone.late.to_json(),
        "beside": beside.late.to_json(),
    });
    Ok(Section {
        name: "isolation",
        title: "Isolation, at 30 % of peak: a hanging listener on the same hook",
        lines,
        json,
    })
}

async fn measure(plan: &Plan, bed: &mut Bed, target: &Target, peak: f64) -> anyhow::Result<Seen> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.receiver.forget().await?;
    let published = load::open(target, 2 * CONNECTIONS, peak * SHARE, plan.open).await?;
    bed.receiver.wait_for("healthy", published.accepted, Duration::from_secs(20)).await
}
