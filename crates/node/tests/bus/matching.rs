//! Who gets an event while hooks and listeners change.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidings_model::hook::{FieldsFor, Hook};
use tidings_model::listener::Listener;
use tidings_model::matcher::Match;

use crate::kit::{TestNode, app, event, eventually, hook, listener};

/// A match from before there was a limit on its size: it is compiled for each event, on a thread of its own.
fn large(n: usize) -> Match {
    let large = Match::stored(&format!(r#"{{"name": {{"like": "^\\pL{{20,{}}}$"}}}}"#, 20 + n)).unwrap();
    assert!(large.is_large());
    large
}

/// Has the catalogue change while so many large matches are tried; `false` if that was too late.
async fn change_while_matching(large_matches: usize) -> bool {
    let node = TestNode::start().await;
    node.hook("box.opened", Some(&["name"]), FieldsFor::All).await;
    for n in 0..large_matches {
        let listener = listener("1", &format!("large{n}"), &["box.opened"], large(n));
        node.bus().create_listener(listener).await.unwrap();
    }
    node.listen("stays", &["box.opened"], "{}").await;
    node.listen("goes", &["box.opened"], "{}").await;
    node.listen("turns", &["box.opened"], r#"{"name": {"starts_with": "ö"}}"#).await;

    let name = "ä".repeat(20);
    let data = serde_json::json!({"name": name, "size": 3}).to_string();
    let bus = node.bus().clone();
    let publish = tokio::spawn(async move { bus.publish(event("e1", "box.opened", &data).into()).await });
    // It gets as far as it can.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    node.listen("comes", &["box.opened"], "{}").await;
    node.bus().delete_listener(&app(), "goes").await.unwrap();
    let turn = |listener: &mut Listener| {
        listener.filter = Match::parse(r#"{"name": {"starts_with": "ä"}}"#).unwrap();
        Ok(())
    };
    node.bus().change_listener(&app(), "turns", &turn).await.unwrap();
    let add = |changed: &mut Hook| {
        changed.fields = hook("", Some(&["name", "size"]), FieldsFor::All).fields;
        Ok(())
    };
    node.bus().change_hook(&app(), "box.opened", &add).await.unwrap();
    if publish.is_finished() {
        return false;
    }
    publish.await.unwrap().unwrap();
    let mut expected: Vec<_> = (0..large_matches).map(|n| format!("large{n}")).collect();
    expected.extend(["comes", "stays", "turns"].map(str::to_owned));
    expected.sort();
    assert_eq!(node.destinations_of("e1").await, expected);
    assert_eq!(node.logged("e1").await, Some(format!(r#"{{"name":"{name}","size":3}}"#)));
    true
}

// What was matched is not what the store holds by then, so it refuses it, and it is matched anew.
#[tokio::test]
async fn what_changes_between_matching_and_commit_counts() {
    for large_matches in [20, 80, 320] {
        if change_while_matching(large_matches).await {
            return;
        }
    }
    panic!("the catalogue never changed in time");
}

#[tokio::test]
async fn a_pattern_takes_in_hooks_that_come_later_and_lets_go_of_those_that_went() {
    let node = TestNode::start().await;
    node.listen("pattern", &["box.*"], "{}").await;
    assert!(!node.publish(event("e1", "box.opened", "1")).await.logged);
    node.hook("box.opened", None, FieldsFor::All).await;
    node.publish(event("e2", "box.opened", "1")).await;
    assert_eq!(node.destinations_of("e2").await, ["pattern"]);
    node.bus().delete_hook(&app(), "box.opened").await.unwrap();
    assert!(!node.publish(event("e3", "box.opened", "1")).await.logged);
    // What it was owed it still is.
    assert_eq!(node.destinations_of("e2").await, ["pattern"]);
}

/// When something was done: the ticks before it began and after it had ended.
type Span = (u64, u64);

/// A clock that tells only what came before what.
#[derive(Default)]
struct Ticks(AtomicU64);

impl Ticks {
    async fn span<T>(&self, work: impl Future<Output = T>) -> (Span, T) {
        let began = self.0.fetch_add(1, Ordering::SeqCst);
        let done = work.await;
        ((began, self.0.fetch_add(1, Ordering::SeqCst)), done)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_listened_the_whole_time_gets_an_event_and_whoever_did_not_at_all_does_not() {
    const LISTENERS: usize = 20;
    const PUBLISHERS: usize = 3;
    let node = TestNode::start().await;
    node.hook("box.opened", None, FieldsFor::All).await;
    node.listen("always", &["box.opened"], "{}").await;
    let (ticks, count, is_over) = (Ticks::default(), AtomicU64::new(0), AtomicBool::new(false));

    let change = async {
        let mut lives: BTreeMap<String, (Span, Span)> = BTreeMap::new();
        for n in 0..LISTENERS {
            let id = format!("listener{n}");
            let (created, ()) = ticks.span(node.listen(&id, &["box.opened"], "{}")).await;
            // Long enough for somebody to publish meanwhile.
            let enough = count.load(Ordering::SeqCst) + 2 * PUBLISHERS as u64;
            eventually("events are to be published", || async { count.load(Ordering::SeqCst) >= enough }).await;
            let app = app();
            let (deleted, done) = ticks.span(node.bus().delete_listener(&app, &id)).await;
            done.unwrap();
            lives.insert(id, (created, deleted));
        }
        is_over.store(true, Ordering::SeqCst);
        lives
    };
    let publish = |publisher: usize| {
        let (node, ticks, count, is_over) = (&node, &ticks, &count, &is_over);
        async move {
            let mut published = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                let id = format!("e{publisher}x{}", published.len());
                let (span, receipt) = ticks.span(node.publish(event(&id, "box.opened", "1"))).await;
                assert!(receipt.logged && !receipt.repeated);
                count.fetch_add(1, Ordering::SeqCst);
                published.push((id, span));
            }
            published
        }
    };
    let (lives, first, second, third) = tokio::join!(change, publish(0), publish(1), publish(PUBLISHERS - 1));

    let (mut got, mut missed) = (0, 0);
    for (id, (began, ended)) in first.into_iter().chain(second).chain(third) {
        let owed = node.destinations_of(&id).await;
        assert!(owed.contains(&"always".to_owned()), "{id}: {owed:?}");
        for (listener, (created, deleted)) in &lives {
            let has = owed.contains(listener);
            if created.1 < began && ended < deleted.0 {
                assert!(has, "{id} ({began} to {ended}) is not owed to {listener} ({created:?} to {deleted:?})");
                got += 1;
            } else if ended < created.0 || deleted.1 < began {
                assert!(!has, "{id} ({began} to {ended}) is owed to {listener} ({created:?} to {deleted:?})");
                missed += 1;
            }
        }
    }
    assert!(got > 0 && missed > 0, "{got} {missed}: nothing was compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_is_matched_on_the_very_fields_that_are_stored() {
    let node = TestNode::start().await;
    node.hook("box.opened", Some(&["a"]), FieldsFor::All).await;
    node.listen("a", &["box.opened"], r#"{"a": 1}"#).await;
    node.listen("b", &["box.opened"], r#"{"b": 1}"#).await;
    let is_over = AtomicBool::new(false);
    let change = async {
        for n in 0..60 {
            let fields = hook("", Some(if n % 2 == 0 { &["b"] } else { &["a"] }), FieldsFor::All).fields;
            let turn = move |hook: &mut Hook| {
                hook.fields.clone_from(&fields);
                Ok(())
            };
            node.bus().change_hook(&app(), "box.opened", &turn).await.unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    };
    let publish = |publisher: usize| {
        let (node, is_over) = (&node, &is_over);
        async move {
            let mut published = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                let id = format!("e{publisher}x{}", published.len());
                node.publish(event(&id, "box.opened", r#"{"a":1,"b":1}"#)).await;
                published.push(id);
            }
            published
        }
    };
    let ((), first, second) = tokio::join!(change, publish(0), publish(1));
    let mut both = [0, 0];
    for id in first.into_iter().chain(second) {
        let (data, owed) = (node.logged(&id).await.unwrap(), node.destinations_of(&id).await);
        let expected = if data == r#"{"a":1}"# { 0 } else { 1 };
        assert_eq!(data, [r#"{"a":1}"#, r#"{"b":1}"#][expected], "{id}");
        assert_eq!(owed, [["a", "b"][expected]], "{id}: {data}");
        both[expected] += 1;
    }
    assert!(both.iter().all(|count| *count > 0), "{both:?}: the fields never changed");
}
