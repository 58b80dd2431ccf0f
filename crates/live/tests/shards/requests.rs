//! Requests: what has to wait for them, and what happens to them when their session closes.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidings_live::Settings;
use tidings_model::clock::ManualClock;
use tungstenite::Message;

use crate::node::{Client, Node, eventually};

#[test]
fn what_is_refused_is_said_and_what_is_published_reaches_the_others() {
    let node = Node::start(2, Settings::default());
    let mut alice = node.member("c");
    let mut bob = node.member("c");
    alice.say("join closed");
    alice.hears("refused closed");
    alice.say("say c hello");
    alice.hears("said");
    bob.hears("c: hello");
    alice.say("echo nothing came back");
    alice.hears("nothing came back");
}

#[test]
fn commands_wait_for_a_slow_answer_in_order() {
    let node = Node::start(1, Settings::default());
    let mut client = node.connect();
    for text in ["join slow-1", "echo a", "say slow-1 x", "echo b", "leave slow-1", "join closed", "echo c"] {
        client.say(text);
    }
    // Another session isn't held up by it.
    let mut other = node.member("c");
    other.say("echo here");
    other.hears("here");
    node.bus.gate.add_permits(1);
    client.hears("joined slow-1");
    client.hears("a");
    node.bus.gate.add_permits(2);
    for text in ["said", "b", "left slow-1", "refused closed", "c"] {
        client.hears(text);
    }
}

#[test]
fn several_asks_of_one_call_are_taken_up_in_order() {
    let node = Node::start(1, Settings::default());
    node.bus.gate.add_permits(1);
    let mut client = node.member("slow");
    client.say("both slow");
    client.say("echo after");
    node.bus.gate.add_permits(1);
    client.hears("left slow");
    assert_eq!(node.bus.count("slow"), 0, "to join was asked before leaving was answered");
    node.bus.gate.add_permits(1);
    client.hears("joined slow");
    client.hears("after");
}

#[test]
fn a_client_that_sends_much_while_it_waits_is_not_read_and_loses_nothing() {
    let node = Node::start(1, Settings { session_queue: 16 << 20, ..Settings::default() });
    let mut client = node.connect();
    client.say("join slow");
    let long = "l".repeat(1_000);
    let sent = std::thread::spawn(move || {
        for n in 0..2_000 {
            client.say(&format!("echo {n} {long}"));
        }
        client
    });
    // Nothing happens while the request is open; a bystander gives it time to go wrong.
    let mut other = node.connect();
    (0..200).for_each(|_| {
        other.say("echo hm");
        other.hears("hm");
    });
    node.bus.gate.add_permits(1);
    let mut client = sent.join().unwrap();
    client.hears("joined slow");
    let long = "l".repeat(1_000);
    (0..2_000).for_each(|n| client.hears(&format!("{n} {long}")));
}

#[test]
fn what_was_sent_before_hanging_up_is_done() {
    let node = Node::start(1, Settings::default());
    let mut listener = node.member("c");
    let mut client = node.connect();
    client.say("join slow");
    client.say("say c last words");
    drop(client);
    // To join, and to leave.
    node.bus.gate.add_permits(2);
    listener.hears("c: last words");
    eventually("it has left", || node.bus.count("slow") == 0);
    drop(listener);
    node.is_empty_in_the_end();
}

#[test]
fn whoever_dies_while_joining_is_taken_out_again() {
    let node = Node::start(1, Settings::default());
    for _ in 0..20 {
        let mut client = node.connect();
        client.say("join slow");
        client.socket.send(Message::Binary("x".into())).unwrap();
        // A reset, not an end: nothing more is worked off.
        socket2::SockRef::from(client.socket.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    eventually("all are gone", || node.live.sizes().sessions == 0);
    assert!(node.live.sizes().slots > 0, "their slots are kept while to join is asked");
    // To join, and to leave.
    node.bus.gate.add_permits(40);
    node.is_empty_in_the_end();
    assert_eq!(node.bus.count("slow"), 0);
}

#[test]
fn leaving_is_tried_until_it_works() {
    let clock = ManualClock::at(1_000_000);
    let node = Node::with_clock(1, Settings::default(), clock.clone());
    let member = node.member("c");
    node.bus.stuck.store(true, Ordering::SeqCst);
    drop(member);
    eventually("it is gone", || node.live.sizes().sessions == 0);
    node.bus.publish("c", "to nobody", None);
    assert_eq!(node.live.sizes().subscriptions, 1);
    node.bus.stuck.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_secs(2));
    node.is_empty_in_the_end();
    assert_eq!(node.bus.count("c"), 0);
}

#[test]
fn a_session_is_woken_when_it_wants_to_be() {
    let clock = ManualClock::at(1_000_000);
    let node = Node::with_clock(1, Settings::default(), clock.clone());
    let mut client = node.connect();
    client.say("wake 100000");
    client.say("wake 90000");
    client.say("echo set");
    client.hears("set");
    for _ in 0..89 {
        clock.advance(Duration::from_secs(1));
        client.say("echo not yet");
        client.hears("not yet");
    }
    clock.advance(Duration::from_secs(1));
    client.hears("woken");
    clock.advance(Duration::from_secs(100));
    client.say("echo once");
    client.hears("once");
}

/// Most requests of all sessions that are handled between two reads of a socket.
const SLICE: usize = 128;
const MANY: usize = 10_000;

/// Has the bystander ask, on every request that is handled, how many were handled: so its socket always has bytes to be
/// read.
fn watch_from(node: &Node, bystander: &Client<TcpStream>) {
    let mut socket = bystander.socket.get_ref().try_clone().unwrap();
    // Masked with zeros.
    let ask = [&[0x81, 0x87, 0, 0, 0, 0][..], b"handled"].concat();
    *node.bus.on_request.lock() = Some(Box::new(move |_| socket.write_all(&ask).unwrap()));
}

/// Asserts that between two reads of the bystander's socket at most a slice of `requests` was handled.
#[track_caller]
fn were_sliced(bystander: &mut Client<TcpStream>, requests: usize, mut before: usize) {
    let mut reads = 0;
    for _ in 0..requests {
        let handled: usize = bystander.text().parse().unwrap();
        assert!((before..=before + SLICE).contains(&handled), "{} between two reads", handled - before);
        reads += usize::from(handled > before);
        before = handled;
    }
    assert!(reads >= requests / SLICE, "{reads} reads");
}

// covers: G410
#[test]
fn ten_thousand_requests_of_one_session_do_not_hold_up_the_others() {
    let node = Node::start(1, Settings { session_queue: 16 << 20, ..Settings::default() });
    let (mut bystander, mut watcher) = (node.connect(), node.connect());
    watch_from(&node, &bystander);
    watcher.say(&format!("many {MANY}"));
    watcher.say("echo after");
    were_sliced(&mut bystander, MANY, 0);
    (0..MANY).for_each(|n| watcher.hears(&format!("joined many-{n}")));
    watcher.hears("after");
    // It goes as it came.
    drop(watcher);
    were_sliced(&mut bystander, MANY, MANY);
    *node.bus.on_request.lock() = None;
    drop(bystander);
    node.is_empty_in_the_end();
    assert_eq!(node.bus.count("many-0") + node.bus.count("many-9999"), 0);
}

#[test]
fn sessions_with_requests_take_turns() {
    let node = Node::start(1, Settings { session_queue: 16 << 20, ..Settings::default() });
    let (bystander, mut watcher) = (node.connect(), node.connect());
    let mut socket = bystander.socket.get_ref().try_clone().unwrap();
    let ask = [&[0x81, 0x88, 0, 0, 0, 0][..], b"join its"].concat();
    let (handled, when) = (Arc::clone(&node.bus.handled), Arc::new(AtomicUsize::new(0)));
    let noted = Arc::clone(&when);
    *node.bus.on_request.lock() = Some(Box::new(move |channel| match channel {
        "many-0" => socket.write_all(&ask).unwrap(),
        "its" => noted.store(handled.load(Ordering::SeqCst), Ordering::SeqCst),
        _ => {}
    }));
    watcher.say(&format!("many {MANY}"));
    eventually("it has had its turn", || when.load(Ordering::SeqCst) > 0);
    // One more than the slice in which it came: then it is read, and the other has its next turn first.
    assert!(when.load(Ordering::SeqCst) <= SLICE + 2, "{} came first", when.load(Ordering::SeqCst));
}

#[test]
fn what_is_said_before_an_end_in_the_same_breath_is_published() {
    let node = Node::start(1, Settings::default());
    let mut listener = node.member("c");
    let mut client = node.member("c");
    client.say("last c");
    listener.hears("c: one");
    listener.hears("c: two");
    client.closed();
    drop((client, listener));
    node.is_empty_in_the_end();
}

#[test]
fn a_doors_own_request_is_answered_or_given_up_in_time() {
    let node = Node::start(1, Settings { door_timeout: Duration::from_millis(50), ..Settings::default() });
    let mut client = node.connect();
    for text in ["ask hello", "echo a", "ask never", "echo b", "ask panic", "echo c"] {
        client.say(text);
    }
    for text in ["answer hello", "a", "TimedOut", "b", "BrokenOff", "c"] {
        client.hears(text);
    }
    // Whoever goes meanwhile is not waited for.
    client.say("ask never");
    drop(client);
    node.is_empty_in_the_end();
}
