//! `kill -9` ten times at random moments under load. Every acknowledged event must have been delivered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tidings_testkit::{Answer, Api, Received, Receiver, Server};
use tokio::task::JoinSet;

use crate::common::{LATER, SOON, drained, hook, listener, local, number};
use crate::publisher::{Acknowledged, Publisher};
use crate::random::Random;
use crate::tally::Tally;

const KILLS: usize = 10;
/// From this round on, events for many listeners are published right before the kill.
const WIDE_FROM: usize = 5;
/// More listeners than the publish itself writes (64) and than one slice of a fan-out has (500): a kill can hit between
/// slices.
const WIDE_LISTENERS: usize = 600;
const WIDE_EVENTS: u64 = 4;
/// 250 publishes per second.
const EVERY: Duration = Duration::from_millis(4);
/// The most attempts in flight; a setting of the server.
const IN_FLIGHT: usize = 128;
/// The most results that are not written yet; a constant of the server.
const UNWRITTEN: usize = 512;

/// One kill and the restart after it.
struct Restart {
    killed: Instant,
    started: Instant,
    ready: Instant,
}

// covers: C01, C02, C04, C08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_ten_kills() {
    let mut random = Random::seeded("TIDINGS_CRASH_SEED");
    let partner = Receiver::start_with_threads(2);
    let refused = script(&partner);
    let mut server = local().env("TIDINGS__COURIER__MAX_IN_FLIGHT", &IN_FLIGHT.to_string()).start().await;
    set_up(&server, &partner).await;

    let now = || tokio::time::Instant::now().into_std();
    let began = now();
    let publisher = Publisher::start(server.api(), "order.placed", EVERY);
    let mut restarts = Vec::new();
    for round in 0..KILLS {
        let mut uptime = Duration::from_millis(random.below(900) + 300);
        if round >= WIDE_FROM {
            let before = Duration::from_millis(random.below(100));
            tokio::time::sleep(uptime - before).await;
            publisher.burst("news.wide", WIDE_EVENTS);
            uptime = before;
        }
        tokio::time::sleep(uptime).await;
        let killed = now();
        server.kill9().await;
        let started = now();
        server.restart().await;
        restarts.push(Restart { killed, started, ready: now() });
        publisher.aim(server.api());
    }
    let acknowledged = publisher.finish(SOON).await;
    let published_for = began.elapsed();
    drained(&server, LATER).await;
    println!("{} acknowledged in {published_for:?}; drained {:?} after the start", acknowledged.len(), began.elapsed());

    let log = log_order(&server.api()).await;
    assert_log(&log, &acknowledged);
    let received = partner.received();
    assert_eq!(received.len(), partner.total(), "the receiver has forgotten requests: the counts would lie");
    let refused = refused.lock();
    count(&received, &refused, &acknowledged, &restarts, server.each_node().count());
    let first = |r: &&Received| r.path == "/fifo";
    let fifo = Tally::of(received.iter().filter(first), |_| true);
    fifo.assert_repeats_follow("/fifo");
    let chosen: Vec<u64> = log.iter().copied().filter(|n| n.is_multiple_of(4)).collect();
    assert!(fifo.first_ones() == chosen, "{}", difference(&fifo.first_ones(), &chosen));
    tell_restarts(&restarts, &received, &acknowledged);
}

/// One listener answers 500 to the first attempt of every seventh event, and is slow with every thirteenth. Returns the
/// numbers of the refused requests.
fn script(partner: &Receiver) -> Arc<Mutex<HashSet<usize>>> {
    let refused = Arc::new(Mutex::new(HashSet::new()));
    let tried = Mutex::new(HashSet::new());
    let noted = Arc::clone(&refused);
    partner.answer_with("/flaky", move |request| {
        let n = number(request);
        if n.is_multiple_of(7) && tried.lock().insert(n) {
            noted.lock().insert(request.number);
            return Answer::status(500);
        }
        let delay = if n.is_multiple_of(13) { Duration::from_millis(150) } else { Duration::ZERO };
        Answer::default().delay(delay)
    });
    refused
}

async fn set_up(server: &Server, partner: &Receiver) {
    let api = server.api();
    hook(&api, "order.placed").await;
    hook(&api, "news.wide").await;
    let all = ["order.placed", "news.wide"];
    let chosen = json!({"chosen": true});
    listener(&api, json!({"url": partner.url("/fifo"), "hooks": all, "order": "fifo", "match": chosen})).await;
    listener(&api, json!({"url": partner.url("/healthy"), "hooks": ["order.placed"]})).await;
    let schedule = ["0s", "300ms", "300ms", "1s", "1s", "1s", "1s", "1s", "1s", "1s"];
    listener(&api, json!({"url": partner.url("/flaky"), "hooks": ["order.placed"], "schedule": schedule})).await;
    let mut making = JoinSet::new();
    for i in 0..WIDE_LISTENERS {
        let body = json!({"url": partner.url(&format!("/wide/{i}")), "hooks": ["news.wide"]});
        let api = api.clone();
        making.spawn(async move { listener(&api, body).await });
        if making.len() == 16 {
            making.join_next().await;
        }
    }
    making.join_all().await;
}

/// The numbers of all events in the log, oldest first.
async fn log_order(api: &Api) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/v1/events?limit=250{cursor}")).await.expect_status(200);
        let events = page["data"].as_array().cloned().unwrap_or_default();
        numbers.extend(events.iter().filter_map(|event| event["data"]["n"].as_u64()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    numbers.reverse();
    numbers
}

/// Asserts that each event is logged once, and that one sent after another's acknowledgement comes after it.
fn assert_log(log: &[u64], acknowledged: &[Acknowledged]) {
    let place: HashMap<u64, usize> = log.iter().enumerate().map(|(place, n)| (*n, place)).collect();
    assert_eq!(place.len(), log.len(), "an event is in the log twice");
    assert_eq!(log.len(), acknowledged.len(), "the log has other events than were published");
    let mut by_ack: Vec<_> = acknowledged.iter().collect();
    by_ack.sort_by_key(|one| one.at);
    let mut by_sending: Vec<_> = acknowledged.iter().collect();
    by_sending.sort_by_key(|one| one.sent);
    let (mut done, mut furthest) = (0, None);
    for later in by_sending {
        while by_ack[done].at < later.sent {
            furthest = furthest.max(Some(place[&by_ack[done].n]));
            done += 1;
        }
        let own = place[&later.n];
        assert!(furthest.is_none_or(|place| place < own), "event {} overtook one acknowledged before", later.n);
    }
}

/// Prints the counts, and asserts that nothing is lost and that no more is repeated than the server's bounds allow.
fn count(
    received: &[Received],
    refused: &HashSet<usize>,
    acknowledged: &[Acknowledged],
    restarts: &[Restart],
    nodes: usize,
) {
    let mut paths: HashMap<&str, Vec<&Received>> = HashMap::new();
    for request in received {
        paths.entry(&request.path).or_default().push(request);
    }
    let wide = (0..WIDE_LISTENERS).map(|i| format!("/wide/{i}"));
    let (mut owed, mut delivered, mut lost, mut repeated) = (0, 0, 0, 0);
    let mut by_kill = vec![0; restarts.len()];
    for path in ["/fifo", "/healthy", "/flaky"].map(str::to_owned).into_iter().chain(wide) {
        let requests = paths.remove(path.as_str()).unwrap_or_default();
        let tally = Tally::of(requests.iter().copied(), |request| !refused.contains(&request.number));
        let wants = |event: &&Acknowledged| match path.as_str() {
            "/fifo" => event.chosen(),
            "/healthy" | "/flaky" => event.name == "order.placed",
            _ => event.name == "news.wide",
        };
        let wanted: Vec<u64> = acknowledged.iter().filter(wants).map(|event| event.n).collect();
        for event in acknowledged.iter().filter(wants) {
            let came = tally.id(event.n);
            assert!(
                came.is_none_or(|id| id == event.id),
                "event {} was acknowledged as {} and came as {came:?}",
                event.n,
                event.id
            );
        }
        let missing = tally.lost(wanted.iter().copied());
        if !missing.is_empty() {
            println!("{path}: lost {missing:?}");
        }
        owed += wanted.len();
        lost += missing.len();
        delivered += tally.distinct();
        repeated += tally.repeated();
        attribute(&requests, refused, restarts, &mut by_kill);
    }
    assert!(paths.is_empty(), "requests on paths that nobody has: {:?}", paths.keys());
    println!(
        "published {}, acknowledged {}, owed {owed}, delivered {delivered}, repeated {repeated} (by kill: \
        {by_kill:?}), lost {lost}",
        acknowledged.len(),
        acknowledged.len(),
    );
    let again = acknowledged.iter().filter(|one| one.tries > 1).count();
    println!("publishes sent more than once, over a restart: {again}");
    assert_eq!(lost, 0, "acknowledged and never delivered");
    assert_eq!(delivered, owed, "delivered to somebody who is owed nothing");
    // What a kill can repeat, of each node: the attempts under way, of which at most IN_FLIGHT are allowed; and the
    // results that were not written yet, of which there are never more, because the courier begins no attempt while
    // there are so many. A repeat may come only after the next kill, so they are added up.
    let most = nodes * (IN_FLIGHT + UNWRITTEN);
    for kills in 1..=by_kill.len() {
        let repeats: usize = by_kill[..kills].iter().sum();
        assert!(repeats <= kills * most, "after {kills} kills {repeats} were repeated, more than {most} each");
    }
    assert_eq!(by_kill.iter().sum::<usize>(), repeated, "something was repeated before the first kill");
}

/// Adds the repeats on a path to the kill before them.
fn attribute(requests: &[&Received], refused: &HashSet<usize>, restarts: &[Restart], by_kill: &mut [usize]) {
    let mut taken = HashSet::new();
    for request in requests.iter().filter(|request| !refused.contains(&request.number)) {
        let kill = restarts.iter().rposition(|restart| restart.killed < request.at);
        if !taken.insert(number(request))
            && let Some(kill) = kill
        {
            by_kill[kill] += 1;
        }
    }
}

/// Prints the time from each start to the first delivery that was pending at the kill.
fn tell_restarts(restarts: &[Restart], received: &[Received], acknowledged: &[Acknowledged]) {
    let acknowledged_at: HashMap<u64, Instant> = acknowledged.iter().map(|one| (one.n, one.at.into_std())).collect();
    let mut firsts = Vec::new();
    for restart in restarts {
        let owed = |request: &&Received| {
            request.at > restart.started && acknowledged_at.get(&number(request)).is_some_and(|at| *at < restart.killed)
        };
        let first = received.iter().find(owed).map(|request| request.at - restart.started);
        firsts.push(first);
        assert!(first.is_none_or(|first| first < SOON), "the first redelivery took {first:?}");
    }
    let ready: Vec<_> = restarts.iter().map(|restart| restart.ready - restart.started).collect();
    println!("from the start of the process to ready: {ready:?}");
    println!("from the start of the process to the first redelivery: {firsts:?}");
}

fn difference(came: &[u64], logged: &[u64]) -> String {
    let place = came.iter().zip(logged).take_while(|(came, logged)| came == logged).count();
    let around = |list: &[u64]| list[place.saturating_sub(3).min(list.len())..(place + 6).min(list.len())].to_vec();
    format!(
        "order differs from the log's at place {place} of {} and {}: came {:?}, logged {:?}",
        came.len(),
        logged.len(),
        around(came),
        around(logged)
    )
}
