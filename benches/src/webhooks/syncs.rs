//! How often the server syncs the disk: `fsync` and `fdatasync`, counted by strace in a run of its own.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::bed::Bed;
use super::{CONNECTIONS, Plan};
use crate::load::{self, Published, Target};
use crate::report::Section;

const STRACE: &str = "/usr/bin/strace";
const HOOK: &str = "bench.one";

/// Counts with 1 publish in flight and with 64.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Section> {
    let title = "Syncs (counted by strace, which makes each a little slower)";
    if !Path::new(STRACE).exists() {
        let lines = vec![("not counted".to_owned(), "strace is not installed".to_owned())];
        return Ok(Section { name: "syncs", title, lines, json: json!(null) });
    }
    let (mut lines, mut found) = (Vec::new(), Vec::new());
    for connections in [1, CONNECTIONS] {
        let (published, syncs) = count(plan, connections).await?;
        let per_publish = syncs as f64 / published.accepted.max(1) as f64;
        let per_s = syncs as f64 / (published.elapsed_ns as f64 / 1e9);
        lines.push((
            format!("{connections} under way"),
            format!("{per_s:.0} syncs/s, {per_publish:.3} per publish ({:.0} publishes/s)", published.rate()),
        ));
        found.push(json!({
            "connections": connections, "syncs": syncs, "syncs_per_s": per_s, "syncs_per_publish": per_publish,
            "published": published.to_json(),
        }));
    }
    Ok(Section { name: "syncs", title, lines, json: json!({"counted_by": "strace", "runs": found}) })
}

async fn count(plan: &Plan, connections: usize) -> anyhow::Result<(Published, usize)> {
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("syncs.strace");
    let file = trace.to_string_lossy().into_owned();
    let strace = [STRACE, "-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync", "-o", &file];
    let mut bed = Bed::start(plan, &strace).await?;
    bed.hook(HOOK).await;
    bed.listener(HOOK, "sync").await;
    let target = Target::new(&bed.server, HOOK);
    load::closed(&target, connections, Duration::from_millis(500), u64::MAX).await?;
    let before = syncs_in(&trace);
    let published = load::closed(&target, connections, plan.closed.min(Duration::from_secs(4)), u64::MAX).await?;
    let syncs = syncs_in(&trace) - before;
    bed.receiver.wait_for("sync", published.accepted, Duration::from_secs(10)).await?;
    drop(bed);
    Ok((published, syncs))
}

/// Calls so far; a call that strace shows in two parts counts once.
fn syncs_in(trace: &Path) -> usize {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    text.matches("fsync(").count() + text.matches("fdatasync(").count()
}
