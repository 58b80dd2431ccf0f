//! Open loop: the lateness of webhooks when publishes come at a constant rate.

use std::time::Duration;

use serde_json::json;

use super::bed::Bed;
use super::{CONNECTIONS, Plan};
use crate::histogram::ms;
use crate::load::{self, Target};
use crate::report::Section;

const HOOK: &str = "bench.one";
const TAG: &str = "open";
const DRAIN: Duration = Duration::from_secs(30);

/// Measures at 10, 50 and 90 % of `peak` deliveries per second.
pub(crate) async fn run(plan: &Plan, peak: f64) -> anyhow::Result<Section> {
    let mut bed = Bed::start(plan, &[]).await?;
    bed.hook(HOOK).await;
    bed.listener(HOOK, TAG).await;
    let target = Target::new(&bed.server, HOOK);
    load::closed(&target, CONNECTIONS, Duration::from_millis(500), u64::MAX).await?;
    let (mut lines, mut found) = (Vec::new(), Vec::new());
    for share in [0.1, 0.5, 0.9] {
        // Counts of the last run must not count in this one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        bed.receiver.forget().await?;
        let published = load::open(&target, 2 * CONNECTIONS, peak * share, plan.open).await?;
        let seen = bed.receiver.wait_for(TAG, published.accepted, DRAIN).await?;
        let answer = [0.5, 0.99].map(|share| ms(published.answers.quantile_ms(share)));
        lines.push((
            format!("{:.0} % of peak, {:.0}/s", share * 100.0, peak * share),
            format!("{}; answer p50 {}, p99 {}", seen.late.to_text(), answer[0], answer[1]),
        ));
        found.push(json!({
            "share": share, "per_s": peak * share, "published": published.to_json(),
            "deliveries": seen.count, "late": seen.late.to_json(),
        }));
    }
    let title = "Open loop: from when the publish was due to the receiver";
    Ok(Section { name: "open", title, lines, json: json!({"peak": peak, "runs": found}) })
}
