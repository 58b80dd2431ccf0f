//! Publishes that are logged in PostgreSQL, compared with bare inserts of the same bytes by `pgbench`.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tidings_testkit::{Api, Database, postgres_synced};

use super::Args;
use crate::cpu::{Cores, cpu_ns_of};
use crate::live::subject::{API_KEY, Subject};
use crate::load::{self, Target, data};
use crate::report::{Section, median};

/// Debian's path of `pgbench`, which is not on the PATH.
const PGBENCH: &str = "/usr/lib/postgresql/15/bin/pgbench";
/// Publishes in flight, and clients of `pgbench`.
const CLIENTS: usize = 64;
const HOOK: &str = "bench.logged";
const WARM_UP: Duration = Duration::from_secs(1);

/// Inserts of an event's data per second, each in a transaction of its own.
fn inserts(database: &Database, time: Duration) -> anyhow::Result<f64> {
    let mut script = tempfile::NamedTempFile::new()?;
    writeln!(script, "INSERT INTO bench (name, data) VALUES ('{HOOK}', '{}');", data(0))?;
    let output = Command::new(PGBENCH)
        .args(["-n", "-M", "extended", "-j", "1", "-c", &CLIENTS.to_string(), "-T", &time.as_secs().to_string(), "-f"])
        .arg(script.path())
        .arg(database.url())
        .output()
        .with_context(|| format!("{PGBENCH} cannot be run: apt-get install -y postgresql-15"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench: {said}{}", String::from_utf8_lossy(&output.stderr));
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.with_context(|| format!("pgbench says no rate: {said}"))
}

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    let time = Duration::from_secs(if args.quick { 3 } else { 8 });
    let database = postgres_synced();
    database.run("CREATE TABLE bench (no bigserial PRIMARY KEY, name text NOT NULL, data text NOT NULL)");
    let node = Subject::node(cores, &format!("[store]\nurl = {:?}\n", database.url())).await?;
    let api = Api::new(&format!("http://{}", node.addr()), API_KEY);
    api.post("/v1/hooks", json!({"name": HOOK})).await.expect_status(201);
    let target = Target::with_key(node.addr(), API_KEY, HOOK);
    load::closed(&target, CLIENTS, WARM_UP, u64::MAX).await?;
    let (mut bare, mut ours, mut cpu_us, mut records) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.alternations() {
        bare.push(inserts(&database, time)?);
        let before = cpu_ns_of(node.pid());
        let published = load::closed(&target, CLIENTS, time, u64::MAX).await?;
        ensure!(published.refused == 0, "{} publishes were refused", published.refused);
        cpu_us.push((cpu_ns_of(node.pid()) - before) as f64 / 1e3 / published.accepted.max(1) as f64);
        ours.push(published.rate());
        records.push(published.to_json());
    }
    let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours / bare));
    let lines = vec![
        ("pgbench".to_owned(), format!("{:.0} inserts/s, each a transaction", median(bare.iter().copied()))),
        (
            "publishes that are logged".to_owned(),
            format!(
                "{:.0}/s = {ratio:.2} × that; {:.0} µs of the node's CPU each",
                median(ours.iter().copied()),
                median(cpu_us.iter().copied())
            ),
        ),
    ];
    let json = json!({"inserts_per_s": bare, "publishes": records, "node_us_per_publish": cpu_us, "ratio": ratio});
    Ok(Section {
        name: "durable",
        title: "64 under way, commits synced (node on one core, PostgreSQL and load on the other)",
        lines,
        json,
    })
}
