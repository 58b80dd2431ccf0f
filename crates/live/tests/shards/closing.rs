//! How sessions end: by the client, by the server, with the node.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use tidings_broker::{Action, SessionOrder, Who};
use tidings_live::{CloseReason, Settings, Socket};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::node::{Client, Node, eventually};

#[test]
fn pings_are_answered_and_a_close_is_echoed() {
    let node = Node::start(1, Settings::default());
    let mut client = node.connect();
    client.socket.send(Message::Ping("who".into())).unwrap();
    assert_eq!(client.socket.read().unwrap(), Message::Pong("who".into()));
    client.socket.send(Message::Pong("unasked".into())).unwrap();
    client.socket.send(Message::Binary(vec![1, 2, 3].into())).unwrap();
    assert_eq!(client.socket.read().unwrap(), Message::Binary(vec![1, 2, 3].into()));
    let frame = CloseFrame { code: CloseCode::from(4321), reason: "enough".into() };
    client.socket.close(Some(frame)).unwrap();
    assert_eq!(client.closed().map(|frame| u16::from(frame.code)), Some(4321));
    assert!(matches!(client.socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    node.is_empty_in_the_end();
}

#[test]
fn a_violation_ends_the_session_with_its_code() {
    let node = Node::start(1, Settings::default());
    // An unmasked text, a reserved opcode, text that isn't UTF-8, a frame that is longer than a message may be.
    let table: [(&[u8], u16); 4] = [
        (&[0x81, 0x01, b'x'], 1002),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (&[0x81, 0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 0], 1009),
    ];
    for (bytes, code) in table {
        let mut client = node.member("c");
        client.socket.get_mut().write_all(bytes).unwrap();
        assert_eq!(client.closed().map(|frame| u16::from(frame.code)), Some(code), "{bytes:?}");
    }
    eventually("all have left", || node.bus.count("c") == 0);
}

#[test]
fn a_protocol_ends_its_session_after_what_it_wrote() {
    let node = Node::start(1, Settings::default());
    let mut client = node.member("c");
    client.say("echo first");
    client.say("close 4100");
    client.say("echo never heard");
    client.hears("first");
    let frame = client.closed().unwrap();
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4100, "as you wish"));
    eventually("it has left", || node.bus.count("c") == 0);
}

#[test]
fn an_app_can_end_a_session_or_all_of_a_user() {
    let node = Node::start(2, Settings::default());
    let mut clients: Vec<_> = (0..6).map(|_| node.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.say(&format!("user u{}", index % 2));
        client.say("echo known");
        client.hears("known");
    }
    let end = |who| node.bus.order(SessionOrder::disconnect("1".into(), who));
    node.bus.order(SessionOrder::disconnect("2".into(), Who::User("u1".into())));
    end(Who::User("u1".into()));
    end(Who::Session(clients[0].id));
    for (index, client) in clients.iter_mut().enumerate() {
        if index % 2 == 1 || index == 0 {
            client.hears("bye Disconnected");
            assert_eq!(client.closed().map(|frame| u16::from(frame.code)), Some(4002));
        } else {
            client.say("echo still here");
            client.hears("still here");
        }
    }
}

#[test]
fn an_app_orders_its_sessions_to_join_to_leave_and_to_end_with_its_own_words() {
    let node = Node::start(2, Settings::default());
    let mut clients: Vec<_> = (0..4).map(|_| node.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.say(if index == 3 { "user other" } else { "user ann" });
        client.say("echo known");
        client.hears("known");
    }
    let except = Some(clients[2].id);
    let order = |action| node.bus.order(SessionOrder { app: "1".into(), to: Who::User("ann".into()), except, action });
    let (first, others) = clients.split_at_mut(2);
    for (action, heard) in [
        (Action::Subscribe("news".to_owned()), "joined news"),
        (Action::Refresh(Some(7)), "until Some(7)"),
        (Action::Send("for you".into()), "for you"),
        (Action::Unsubscribe("news".to_owned()), "left news"),
        (Action::Disconnect { code: Some(4_501), reason: Some("enough".to_owned()) }, "bye Disconnected"),
    ] {
        order(action);
        first.iter_mut().for_each(|client| client.hears(heard));
    }
    for client in first {
        let closed = client.closed().map(|frame| (u16::from(frame.code), frame.reason.to_string()));
        assert_eq!(closed, Some((4_501, "enough".to_owned())));
    }
    order(Action::Send("late".into()));
    for client in others {
        client.say("echo still here");
        client.hears("still here");
    }
    drop(clients);
    node.is_empty_in_the_end();
}

#[test]
fn who_has_another_user_or_none_any_more_is_not_found_by_the_old_one() {
    let node = Node::start(1, Settings::default());
    // Comings and goings, so that slots have other tenants by then.
    for round in 0..3 {
        let mut clients: Vec<_> = (0..40).map(|_| node.connect()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.say(&format!("user u{}", (index + round) % 4));
            client.say("echo known");
            client.hears("known");
        }
    }
    node.is_empty_in_the_end();
    let mut clients: Vec<_> = (0..40).map(|_| node.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        // Each fourth has none, each fourth changes from u1 to u2.
        match index % 4 {
            0 => {}
            1 => client.say("user u0"),
            2 => client.say("user u1"),
            _ => (1..3).for_each(|user| client.say(&format!("user u{user}"))),
        }
        client.say("echo known");
        client.hears("known");
    }
    let mut end = |user: &str, ended: usize| {
        node.bus.order(SessionOrder::disconnect("1".into(), Who::User(user.into())));
        for (index, client) in clients.iter_mut().enumerate() {
            if index % 4 == ended {
                client.hears("bye Disconnected");
                assert_eq!(client.closed().map(|frame| u16::from(frame.code)), Some(4002));
            } else if index % 4 == 0 {
                client.say("echo still here");
                client.hears("still here");
            }
        }
    };
    end("u1", 2);
    end("u2", 3);
    end("u0", 1);
    node.bus.order(SessionOrder::disconnect("1".into(), Who::Session(clients[0].id)));
    clients[0].hears("bye Disconnected");
    node.bus.order(SessionOrder::to_all("2".into(), Action::Shut));
    clients[4].say("echo still here");
    clients[4].hears("still here");
    node.bus.order(SessionOrder::to_all("1".into(), Action::Shut));
    clients[4].hears("bye Shut");
    drop(clients);
    node.is_empty_in_the_end();
}

#[test]
fn a_client_that_does_not_hang_up_is_hung_up_on() {
    let clock = tidings_model::clock::ManualClock::at(1_000_000);
    let node = Node::with_clock(1, Settings::default(), clock.clone());
    let mut client = node.connect();
    client.say("close 4000");
    // It reads the end of what the server says, and says nothing itself.
    let mut rest = Vec::new();
    client.socket.get_mut().read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"as you wish"));
    assert_eq!(node.live.sizes().sessions, 1);
    clock.advance(Duration::from_secs(6));
    node.is_empty_in_the_end();
}

#[test]
fn a_node_that_stops_says_goodbye_one_after_the_other() {
    let node = Node::start(1, Settings::default());
    let mut clients: Vec<_> = (0..40).map(|_| node.member("c")).collect();
    let (server, mut late) = node.pair();
    let permit = node.live.admit(&node.app, None);
    let live = node.live.clone();
    // So long that there is no doubt whose turn it is: the first one's now, the next one's in twenty seconds.
    let stopped =
        node.runtime.spawn(async move { live.stop(Duration::from_secs(1_000), CloseReason::GoingAway).await });
    clients[0].hears("bye GoingAway");
    assert_eq!(clients[0].closed().map(|frame| u16::from(frame.code)), Some(1001));
    for client in &mut clients[1..] {
        client.say("echo not I");
        client.hears("not I");
    }
    // When everybody has gone by themselves there is nothing to wait for.
    drop(clients);
    node.runtime.block_on(stopped).unwrap();
    node.is_empty_in_the_end();
    assert_eq!(node.bus.count("c"), 0);
    // Nobody comes in any more, not even with a permit from before.
    assert!(node.live.admit(&node.app, None).is_err());
    let _inside = node.runtime.enter();
    node.live.attach(
        permit.unwrap(),
        node.app.clone(),
        Socket::from(server),
        bytes::Bytes::new(),
        Box::new(crate::toy::Toy::default()),
    );
    assert!(matches!(late.read(&mut [0; 10]), Ok(0) | Err(_)));
}

// covers: G085
#[test]
fn a_node_that_nobody_takes_over_from_says_goodbye_to_all_at_once() {
    let node = Node::start(1, Settings::default());
    let mut clients: Vec<_> = (0..40).map(|_| node.member("c")).collect();
    let live = node.live.clone();
    let stopped =
        node.runtime.spawn(async move { live.stop(Duration::from_secs(1_000), CloseReason::Restarting).await });
    for client in &mut clients {
        client.hears("bye Restarting");
        assert_eq!(client.closed().map(|frame| u16::from(frame.code)), Some(1012));
    }
    drop(clients);
    node.runtime.block_on(stopped).unwrap();
    node.is_empty_in_the_end();
}

#[test]
fn a_node_stops_in_time_even_if_clients_do_nothing() {
    let node = Node::start(1, Settings { send_buffer: 4 << 10, ..Settings::default() });
    let silent: Vec<Client<_>> = (0..20).map(|_| node.member("c")).collect();
    node.bus.publish("c", "x".repeat(300_000), None);
    node.runtime.block_on(node.live.stop(Duration::from_millis(300), CloseReason::GoingAway));
    node.is_empty_in_the_end();
    assert_eq!(node.bus.count("c"), 0);
    drop(silent);
}

#[test]
fn places_are_given_back() {
    let node = Node::start(1, Settings { sessions: 3, ..Settings::default() });
    let clients: Vec<_> = (0..3).map(|_| node.connect()).collect();
    assert!(node.live.admit(&node.app, None).is_err());
    drop(clients);
    eventually("there is room again", || node.live.admit(&node.app, None).is_ok());
}

#[test]
fn a_protocol_that_breaks_down_takes_only_its_session_along() {
    let node = Node::start(1, Settings::default());
    let (mut victim, mut other) = (node.member("c"), node.member("c"));
    victim.say("panic");
    assert_eq!(victim.closed().map(|frame| u16::from(frame.code)), Some(1011));
    node.bus.publish("c", "on we go", None);
    other.hears("c: on we go");
    drop((victim, other));
    node.is_empty_in_the_end();
}
