//! A channel's messages reach every session in the channel, once and in order.

use std::io::Read as _;
use std::sync::Arc;

use tidings_broker::{Lost, ShardMessage, Shards as _};
use tidings_live::{Settings, Socket};
use tidings_model::channel::ChannelKey;
use tungstenite::Message;

use crate::node::{Client, Node, eventually};
use crate::toy::prepare;

#[test]
fn everybody_hears_everything_in_order() {
    let node = Node::start(2, Settings::default());
    let mut members: Vec<_> = (0..700).map(|_| node.member("news")).collect();
    let mut others: Vec<_> = (0..3).map(|_| node.member("other")).collect();
    for n in 0..100 {
        node.bus.publish("news", n.to_string(), None);
        if n % 10 == 0 {
            node.bus.publish("other", n.to_string(), None);
        }
    }
    for member in &mut members {
        (0..100).for_each(|n| member.hears(&format!("news: {n}")));
    }
    for other in &mut others {
        (0..10).for_each(|n| other.hears(&format!("other: {}", n * 10)));
    }
    assert_eq!(node.live.sizes().subscriptions, 703);
    drop((members, others));
    node.is_empty_in_the_end();
}

#[test]
fn publishers_that_do_a_sleeping_shards_work_keep_the_order() {
    const EACH: usize = 2_000;
    let node = Node::start(2, Settings::default());
    // Two hear in the shared way, which whoever publishes can do; the third in its own, which is left to the shard.
    let mut members: Vec<_> = (0..3).map(|_| node.connect()).collect();
    for (member, verb) in members.iter_mut().zip(["join", "join", "own"]) {
        member.say(&format!("{verb} c"));
        member.hears("joined c");
    }
    let mut alone = node.member("alone");
    std::thread::scope(|scope| {
        for publisher in 0..3 {
            let node = &node;
            scope.spawn(move || {
                for n in 0..EACH {
                    node.bus.publish("c", format!("{publisher} {n}"), None);
                    node.bus.publish("alone", format!("{publisher} {n}"), None);
                }
            });
        }
        let heard = |member: &mut Client<_>| -> Vec<String> { (0..3 * EACH).map(|_| member.text()).collect() };
        let [first, second, own] = [0, 1, 2].map(|index| heard(&mut members[index]));
        assert_eq!(first, second);
        assert!(first.iter().zip(&own).all(|(shared, own)| *own == format!("to you, {shared}")));
        let alone = heard(&mut alone);
        for publisher in 0..3 {
            let prefix = format!("alone: {publisher} ");
            let numbers: Vec<usize> =
                alone.iter().filter_map(|text| text.strip_prefix(&prefix)?.parse().ok()).collect();
            assert_eq!(numbers, (0..EACH).collect::<Vec<_>>());
        }
    });
}

#[test]
fn one_session_can_be_left_out() {
    let node = Node::start(1, Settings::default());
    let mut members: Vec<_> = (0..5).map(|_| node.member("c")).collect();
    let except = members[2].id;
    node.bus.publish("c", "1", None);
    node.bus.publish("c", "2", Some(except));
    node.bus.publish("c", "3", None);
    for (index, member) in members.iter_mut().enumerate() {
        member.hears("c: 1");
        if index != 2 {
            member.hears("c: 2");
        }
        member.hears("c: 3");
    }
}

#[test]
fn every_session_hears_in_its_own_way() {
    let node = Node::start(1, Settings::default());
    let mut clients: Vec<_> = (0..6).map(|_| node.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.say(&format!("{} c", ["join", "loud", "own"][index % 3]));
        client.hears("joined c");
    }
    // More than leave in one `writev`.
    let words: Vec<String> = (0..200).map(|n| format!("word {n}")).collect();
    node.bus.tell_all(words.iter().map(|word| prepare("c", word.clone())).collect());
    for word in words {
        for (index, client) in clients.iter_mut().enumerate() {
            let shared = format!("c: {word}");
            let expected = [shared.clone(), shared.to_uppercase(), format!("to you, {shared}")];
            client.hears(&expected[index % 3]);
        }
    }
}

#[test]
fn what_a_broken_connection_does_not_take_reaches_nobody_else() {
    let node = Node::start(1, Settings::default());
    for round in 0..100 {
        let [mut broken, mut whole] = [node.connect(), node.connect()];
        for client in [&mut broken, &mut whole] {
            client.say("own c");
            client.hears("joined c");
        }
        // The kernel answers what comes after this with a reset.
        socket2::SockRef::from(broken.socket.get_ref()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(broken);
        let words = ["one", "two", "three"].map(|word| format!("{word} {round}"));
        node.bus.tell_all(words.iter().map(|word| prepare("c", word.clone())).collect());
        for word in &words {
            whole.hears(&format!("to you, c: {word}"));
        }
        drop(whole);
        node.is_empty_in_the_end();
    }
}

#[test]
fn leaving_ends_hearing_and_coming_back_begins_it() {
    let node = Node::start(1, Settings::default());
    let mut clients: Vec<_> = (0..4).map(|_| node.member("c")).collect();
    clients[1].say("leave c");
    clients[1].hears("left c");
    node.bus.publish("c", "1", None);
    clients[1].say("leave c");
    clients[1].hears("left c");
    // Twice in the channel is once.
    for _ in 0..2 {
        clients[1].say("join c");
        clients[1].hears("joined c");
    }
    clients[0].say("both c");
    clients[0].hears("c: 1");
    clients[0].hears("left c");
    clients[0].hears("joined c");
    node.bus.publish("c", "2", None);
    clients[0].hears("c: 2");
    clients[1].hears("c: 2");
    for client in &mut clients[2..] {
        client.hears("c: 1");
        client.hears("c: 2");
    }
    assert_eq!((node.live.sizes().subscriptions, node.live.sizes().channels), (4, 1));
}

#[test]
fn whoever_does_not_read_is_dropped_and_nobody_else_notices() {
    let node = Node::start(1, Settings { session_queue: 256 << 10, send_buffer: 8 << 10, ..Settings::default() });
    let mut slow = node.member("c");
    let mut others: Vec<_> = (0..3).map(|_| node.member("c")).collect();
    let big = "x".repeat(50_000);
    let mut said = 0;
    eventually("the slow one is out of the channel", || {
        node.bus.publish("c", format!("{said} {big}"), None);
        for other in &mut others {
            other.hears(&format!("c: {said} {big}"));
        }
        said += 1;
        node.bus.count("c") == 3
    });
    // What it had begun to read is whole, and then it is told why.
    let mut heard = 0;
    let frame = loop {
        match slow.socket.read().unwrap() {
            Message::Text(text) if text.starts_with("c: ") => {
                assert_eq!(text.as_str(), format!("c: {heard} {big}"));
                heard += 1;
            }
            Message::Text(text) => assert_eq!(text.as_str(), "bye Slow"),
            Message::Close(frame) => break frame.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(u16::from(frame.code), 4001);
    assert!(heard < said);
    drop((slow, others));
    node.is_empty_in_the_end();
}

#[test]
fn frames_stay_whole_through_a_narrow_socket() {
    let node = Node::start(1, Settings { session_queue: 64 << 20, send_buffer: 4 << 10, ..Settings::default() });
    let mut member = node.member("c");
    let text = |n: usize| format!("{n} {}", "y".repeat(n * 977 % 20_000));
    (0..400).for_each(|n| node.bus.publish("c", text(n), None));
    eventually("something waits", || node.live.sizes().queued_bytes > 100_000);
    (0..400).for_each(|n| member.hears(&format!("c: {}", text(n))));
    eventually("nothing waits", || node.live.sizes().queued_bytes == 0);
}

#[test]
fn a_session_gets_a_slot_when_nobody_speaks_of_its_last_tenant_any_more() {
    let node = Node::start(1, Settings::default());
    let mut stays = node.member("c");
    for round in 0..50 {
        let mut comes = node.member("c");
        node.bus.publish("c", round.to_string(), None);
        comes.hears(&format!("c: {round}"));
        drop(comes);
        let mut stranger = node.connect();
        node.bus.publish("c", "more", None);
        stranger.say("echo still a stranger");
        stranger.hears("still a stranger");
        stays.hears(&format!("c: {round}"));
        stays.hears("c: more");
    }
    drop(stays);
    node.is_empty_in_the_end();
    assert_eq!(node.bus.count("c"), 0);
}

#[test]
fn what_http_had_read_already_comes_first() {
    let node = Node::start(1, Settings::default());
    let (server, client) = node.pair();
    // A client's frame, masked with zeros (RFC 6455 § 5.2): `echo early`, and the first half of another.
    let frame = |text: &str| [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
    let second = frame("echo late");
    let early = [frame("echo early"), second[..5].to_vec()].concat();
    node.attach(Socket::from(server), early.into());
    std::io::Write::write_all(&mut &client, &second[5..]).unwrap();
    let mut client = Client::greeted(client);
    client.hears("early");
    client.hears("late");
    let mut rest = Vec::new();
    client.socket.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    client.socket.get_mut().read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "a client that hangs up is hung up on");
    node.is_empty_in_the_end();
}

#[test]
fn what_protocols_write_piece_by_piece_stays_whole_through_a_narrow_socket() {
    let node = Node::start(1, Settings { session_queue: 64 << 20, send_buffer: 4 << 10, ..Settings::default() });
    let mut member = node.connect();
    member.say("own c");
    member.hears("joined c");
    let text = |n: usize| format!("{n} {}", "z".repeat(n * 977 % 5_000));
    (0..2_000).for_each(|n| node.bus.publish("c", text(n), None));
    (0..2_000).for_each(|n| member.hears(&format!("to you, c: {}", text(n))));
    eventually("nothing waits", || node.live.sizes().queued_bytes == 0);
}

#[test]
fn what_is_lost_is_told_to_those_who_are_there() {
    let node = Node::start(1, Settings::default());
    let (mut alice, mut bob) = (node.member("c"), node.member("d"));
    for name in ["nowhere", "c"] {
        let channel = ChannelKey::new(node.app.id.clone(), name);
        let lost = Lost { channel, position: None, publications: true, members: false };
        node.bus.inboxes.send(0, ShardMessage::Lost(Arc::new(lost)));
    }
    alice.hears("lost c");
    // What was told before has been heard by now.
    bob.say("echo nothing");
    bob.hears("nothing");
    alice.say("echo still here");
    alice.hears("still here");
}
