//! Watches the system calls: between reading a publish and answering `202`, the server synced the write-ahead log. And
//! one sync serves many publishes.

use std::collections::HashMap;

use tidings_testkit::eventually;
use tokio::task::JoinSet;

use crate::common::{SOON, hook, local, publish};
use crate::strace::{Call, finished_trace, parse};

/// The number of concurrent publishers, each with its own connection, and of publishes of each.
const PUBLISHERS: u64 = 64;
const EACH: u64 = 12;

// covers: C01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledgement_follows_a_sync_of_its_own_event() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let calls = "fsync,fdatasync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg";
    let mut server = local()
        .alone()
        .wrapper([
            "strace",
            "--seccomp-bpf",
            "-f",
            "-yy",
            "-ttt",
            "-s",
            "64",
            "-e",
            &format!("trace={calls}"),
            // As slow as a disk that really syncs, wherever this runs: so publishes come together while one is waited
            // for.
            "-e",
            "inject=fsync,fdatasync:delay_enter=10000",
            "-o",
            &trace.display().to_string(),
        ])
        .start()
        .await;
    hook(&server.api(), "ledger.booked").await;

    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let api = server.api();
        publishers.spawn(async move {
            for i in 0..EACH {
                publish(&api, "ledger.booked", publisher * EACH + i).await.expect_status(202);
            }
        });
    }
    publishers.join_all().await;
    server.terminate().await.expect_code(0);

    let trace = eventually(SOON, || async { finished_trace(&trace) }).await;
    let calls = parse(&trace);
    let syncs: Vec<&Call> = calls.iter().filter(|call| is_log_sync(call)).collect();
    let publishes = pairs(&calls);
    println!("{} publishes, {} syncs of the log in all", publishes.len(), syncs.len());
    assert_eq!(publishes.len() as u64, PUBLISHERS * EACH, "the trace does not show every publish and its answer");
    for (request, answer) in &publishes {
        let between = syncs.iter().any(|sync| request.ended < sync.began && sync.ended < answer.began);
        assert!(
            between,
            "no sync of the log began after\n  {}\nand ended before\n  {}\nin between:\n  {}",
            request.text,
            answer.text,
            trace.lines().skip(request.ended).take(answer.began - request.ended).collect::<Vec<_>>().join("\n  ")
        );
    }
    let (first, last) = (publishes.iter().map(|(r, _)| r.began).min(), publishes.iter().map(|(_, a)| a.ended).max());
    let during = syncs.iter().filter(|sync| Some(sync.began) > first && Some(sync.began) < last).count();
    println!("{during} syncs while {} publishes were made, {PUBLISHERS} at a time", publishes.len());
    assert!(during * 4 < publishes.len(), "no group commit: {during} syncs for {} publishes", publishes.len());
}

fn is_log_sync(call: &Call) -> bool {
    (call.text.starts_with("fdatasync(") || call.text.starts_with("fsync("))
        && call.text.contains("tidings.db-wal>")
        && call.text.contains(") = 0")
}

/// Each publish with its answer: the calls that read and wrote them, on the same connection.
fn pairs(calls: &[Call]) -> Vec<(&Call, &Call)> {
    let mut reading: HashMap<&str, &Call> = HashMap::new();
    let mut pairs = Vec::new();
    for call in calls {
        let Some(connection) = connection(&call.text) else { continue };
        if call.text.contains("\"POST /v1/events ") {
            reading.insert(connection, call);
        } else if call.text.contains("\"HTTP/1.1 202 ")
            && let Some(request) = reading.remove(connection)
        {
            pairs.push((request, call));
        }
    }
    pairs
}

/// `TCP:[127.0.0.1:8000->127.0.0.1:40000]` of a call on a socket.
fn connection(text: &str) -> Option<&str> {
    let (_, behind) = text.split_once("<TCP:[")?;
    behind.split_once("]>").map(|(connection, _)| connection)
}
