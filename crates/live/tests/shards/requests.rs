//! Requests: what they hold up, and what becomes of them when somebody goes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_live::Settings;
use tidings_model::clock::ManualClock;
use tungstenite::Message;

use crate::node::{Node, eventually};

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
