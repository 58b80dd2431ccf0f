//! Makes the recording: a server under strace that serves publishes, stops, starts again on its data, and stops.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tidings_testkit::{Api, Receiver, eventually};
use tokio::task::JoinSet;

use crate::common::{SOON, hook, listener, local};
use crate::strace::finished_trace;

const PUBLISHERS: u64 = 6;
/// The number of small events, before the restart.
const SMALL: u64 = 72;
/// The number of large events, after it: enough for a checkpoint of the write-ahead log (4 MiB).
const LARGE: u64 = 420;
/// The listeners of each event: one that accepts it, and one that cannot be reached.
pub(super) const LISTENERS: u64 = 2;

/// The system calls that change the disk or send an answer.
const CALLS: &str = "execve,openat,mkdir,mkdirat,write,writev,pwrite64,pwritev,ftruncate,fsync,fdatasync,rename,\
                     renameat,renameat2,link,linkat,unlink,unlinkat,sendto,sendmsg";

/// The data of each event, as it is stored.
pub(super) fn published() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| (0..SMALL + LARGE + SMALL).map(|n| data(n).to_string()).collect())
}

/// The data of event number `n`.
fn data(n: u64) -> Value {
    let size = if (SMALL..SMALL + LARGE).contains(&n) { 9_000 } else { 40 };
    json!({"n": n, "text": "x".repeat(size)})
}

/// Records into a folder: the trace in `trace`, the server's files in `server`.
pub(super) async fn record(folder: &Path) {
    let dir = folder.join("server");
    std::fs::create_dir(&dir).unwrap();
    let trace = folder.join("trace");
    let partner = Receiver::start();
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let words = ["strace", "--seccomp-bpf", "-f", "-yy", "-xx", "-ttt", "-s", "16777216", "-A", "-o"];
    let wrapper = words.into_iter().map(str::to_owned).chain([
        trace.display().to_string(),
        "-e".to_owned(),
        format!("trace={CALLS}"),
    ]);
    let mut server = local().alone().dir(&dir).wrapper(wrapper).start().await;
    let api = server.api();
    hook(&api, "ledger.booked").await;
    listener(&api, json!({"url": partner.url("/in"), "hooks": ["ledger.*"]})).await;
    listener(&api, json!({"url": format!("http://{gone}/"), "hooks": ["ledger.booked"], "order": "fifo"})).await;
    publish_all(&api, 0..SMALL).await;
    server.terminate().await.expect_code(0);

    server.restart().await;
    publish_all(&server.api(), SMALL..SMALL + LARGE).await;
    let wal = server.data_dir().join("tidings.db-wal");
    let database = server.data_dir().join("tidings.db");
    let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
    assert!(size(&wal) > 4 << 20, "too little was written for the log to be moved: {}", size(&wal));
    eventually(SOON, || async { (size(&database) > 2 << 20).then_some(()) }).await;
    publish_all(&server.api(), SMALL + LARGE..SMALL + LARGE + SMALL).await;
    server.terminate().await.expect_code(0);
    eventually(SOON, || async { finished_trace(&trace) }).await;
}

async fn publish_all(api: &Api, numbers: std::ops::Range<u64>) {
    let mut publishers = JoinSet::new();
    for first in 0..PUBLISHERS {
        let (api, numbers) = (api.clone(), numbers.clone());
        publishers.spawn(async move {
            for n in numbers.skip(first as usize).step_by(PUBLISHERS as usize) {
                let body = json!({"name": "ledger.booked", "id": format!("e-{n}"), "data": data(n)});
                api.post("/v1/events", body).await.expect_status(202);
            }
        });
    }
    publishers.join_all().await;
}
