//! The floor: the least CPU time that a delivery can cost with our HTTP client. It sends the same bytes over the same
//! connections to the same receiver, without publishing, storing or scheduling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use tidings_courier::egress::{Egress, EgressConfig, Request};
use url::Url;

use crate::clock::{now_ns, own_cpu_ns, seconds};
use crate::cpu::Cores;
use crate::load::data;

const TIMEOUT: Duration = Duration::from_secs(15);
/// The warm-up: connections are opened and caches are filled before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// The task of the child process.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    url: Url,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    milliseconds: u64,
}

/// The measurements of the child process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Floor {
    pub(crate) posts: u64,
    pub(crate) failed: u64,
    pub(crate) cpu_us_per_post: f64,
    pub(crate) posts_per_s: f64,
}

/// Runs the child on the server's core.
pub(crate) async fn measure(cores: Cores, url: &str, connections: usize, time: Duration) -> anyhow::Result<Floor> {
    let mut words = cores.measured();
    words.push(std::env::current_exe()?.to_string_lossy().into_owned());
    let mut command = tokio::process::Command::new(&words[0]);
    command.args(&words[1..]).args(["floor-sender", "--url", url]).kill_on_drop(true);
    command.args(["--connections", &connections.to_string(), "--milliseconds", &time.as_millis().to_string()]);
    command.stderr(std::process::Stdio::inherit());
    let output = tokio::time::timeout(time + Duration::from_secs(20), command.output()).await??;
    serde_json::from_slice(&output.stdout).context("the output of the floor is not JSON")
}

/// The child process.
pub(crate) fn send(args: &Args) -> anyhow::Result<()> {
    // As in the server: one thread per core.
    let floor = tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))?;
    println!("{}", serde_json::to_string(&floor)?);
    Ok(())
}

async fn run(args: &Args) -> anyhow::Result<Floor> {
    let config = EgressConfig { allow: vec!["127.0.0.0/8".parse()?], ..EgressConfig::default() };
    let egress = Egress::new(config)?;
    let headers = headers();
    let body = body();
    let [sent, failed] = [0, 0].map(|zero| Arc::new(AtomicU64::new(zero)));
    for _ in 0..args.connections {
        let (egress, headers, body, url) = (egress.clone(), headers.clone(), body.clone(), args.url.clone());
        let (sent, failed) = (Arc::clone(&sent), Arc::clone(&failed));
        tokio::spawn(async move {
            loop {
                let (headers, body, url) = (headers.clone(), body.clone(), url.clone());
                let answer = egress
                    .send(
                        Request { method: Method::POST, url, headers, body, title_case: false, fresh: false },
                        TIMEOUT,
                    )
                    .await;
                let ended = if answer.is_ok_and(|answer| answer.status.is_success()) { &sent } else { &failed };
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let before = (now_ns(), own_cpu_ns(), sent.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_millis(args.milliseconds)).await;
    let after = (now_ns(), own_cpu_ns(), sent.load(Ordering::Relaxed));
    let posts = after.2 - before.2;
    Ok(Floor {
        posts,
        failed: failed.load(Ordering::Relaxed),
        cpu_us_per_post: (after.1 - before.1) as f64 / 1e3 / posts.max(1) as f64,
        posts_per_s: posts as f64 / seconds(after.0 - before.0),
    })
}

/// Headers with the same lengths as a real delivery's.
fn headers() -> HeaderMap {
    let fields = [
        ("content-type", "application/json"),
        ("webhook-id", "evt_01a2b3c4d5e67f8091a2b3c4d5e6f708"),
        ("webhook-timestamp", "1767225600"),
        ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ];
    fields.into_iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

fn body() -> Bytes {
    let data = data(1_234_567_890_123);
    Bytes::from(format!(r#"{{"type":"bench.one","timestamp":"2026-01-01T00:00:00.000Z","data":{data}}}"#))
}
