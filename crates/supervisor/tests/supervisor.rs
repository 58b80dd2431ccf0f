//! Work that panics, ends, or is ended.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidings_supervisor::{Supervisor, fault};

fn supervisor() -> (Supervisor, Registry) {
    let mut registry = Registry::default();
    (Supervisor::new(&mut registry), registry)
}

fn counted(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[tokio::test]
async fn a_service_that_panics_or_ends_unasked_is_a_failure_with_its_name() {
    let (first, _registry) = supervisor();
    first.service("sweep", async {});
    let failure = first.failed().await;
    assert_eq!(failure.to_string(), "sweep ended: it returned unexpectedly");
    first.service("retention", async { panic!("a row") });
    assert_eq!(first.failed().await, failure, "what failed first is what is told");

    let (second, _registry) = supervisor();
    second.service("retention", async { panic!("a row of {}", 3) });
    assert_eq!(second.failed().await.to_string(), "retention ended: it panicked: a row of 3");
    let (third, _registry) = supervisor();
    third.thread("writer", || panic!("a page")).unwrap().join().unwrap();
    assert_eq!(third.failed().await.to_string(), "writer ended: it panicked: a page");
    let (fourth, _registry) = supervisor();
    fourth.thread("writer", || {}).unwrap().join().unwrap();
    assert!(fourth.failure().is_some());
}

#[tokio::test]
async fn a_task_may_end_and_so_may_everything_once_it_is_to_stop() {
    let (supervisor, registry) = supervisor();
    supervisor.task("restore", async {}).await.unwrap();
    assert_eq!(supervisor.failure(), None);
    supervisor.stop();
    supervisor.service("sweep", async {}).await.unwrap();
    supervisor.thread("writer", || {}).unwrap().join().unwrap();
    assert_eq!(supervisor.failure(), None);
    supervisor.task("restore", async { panic!("a file") }).await.unwrap();
    assert!(supervisor.failure().is_some(), "a panic is one at any time");
    assert!(counted(&registry).contains("work_running{work=\"restore\"} 0\n"), "{}", counted(&registry));
}

#[tokio::test]
async fn the_end_drops_what_tasks_hold_and_waits_for_it() {
    let (supervisor, registry) = supervisor();
    let held = Arc::new(());
    for _ in 0..3 {
        let theirs = Arc::clone(&held);
        supervisor.service("follow", async move {
            let _theirs = theirs;
            std::future::pending::<()>().await;
        });
    }
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&held), 4);
    assert!(counted(&registry).contains("work_running{work=\"follow\"} 3\n"), "{}", counted(&registry));
    supervisor.join().await;
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(supervisor.failure(), None);
    supervisor.service("late", async { tokio::time::sleep(Duration::from_secs(3_600)).await }).await.unwrap();
}

#[tokio::test]
async fn a_panic_costs_one_unit_and_is_counted() {
    let (supervisor, registry) = supervisor();
    let jobs = supervisor.units("job");
    let done = AtomicUsize::new(0);
    for n in 0..10 {
        let outcome = jobs.catch(n, || {
            assert!(n % 2 == 0, "{n} is odd");
            done.fetch_add(1, Ordering::Relaxed)
        });
        let error = outcome.err().map(|panicked| panicked.to_string());
        assert_eq!(error, (n % 2 == 1).then(|| format!("{n} is odd")));
    }
    assert_eq!(done.into_inner(), 5);
    let late = async {
        tokio::task::yield_now().await;
        panic!("late")
    };
    let outcome: Result<(), _> = jobs.catch_async("a", late).await;
    assert_eq!(outcome.unwrap_err().to_string(), "late");
    assert_eq!(jobs.catch_async("b", async { 7 }).await, Ok(7));
    assert!(counted(&registry).contains("panics_total{unit=\"job\"} 6\n"), "{}", counted(&registry));
    assert_eq!(supervisor.failure(), None);
}

#[test]
fn a_fault_point_panics_where_it_is_armed_and_nowhere_else() {
    let jobs = Supervisor::default().units("fault job");
    let run = |id: &str| jobs.catch(id, || ()).is_ok();
    assert!(run("1") && run("2"));
    fault::arm("fault job 1\n\nother\n");
    // The name is the first word.
    assert!(run("1"));
    let jobs = Supervisor::default().units("fault-job");
    let run = |id: &str| jobs.catch(id, || ()).is_ok();
    fault::arm("fault-job 1\n");
    assert!(!run("1") && run("2"));
    fault::arm("fault-job");
    assert!(!run("1") && !run("2"));
    fault::arm("");
    assert!(run("1") && run("2"));
}
