//! The counters of each app.

use std::sync::Arc;

use tidings_live::{NotAdmitted, Settings};
use tidings_model::app::App;

use crate::node::{Node, eventually};

// covers: G305
#[test]
fn connections_messages_and_bytes_are_counted_by_app() {
    let node = Node::start(2, Settings::default());
    let mut members = [node.member("c"), node.member("c")];
    let mut own = node.connect();
    own.say("own c");
    own.hears("joined c");
    let count = |what: &str| node.counted(&format!("app_{what}_total{{app=\"1\"}}"));
    let (received, sent) = (count("received_bytes"), count("sent_bytes"));
    assert_eq!((count("connects"), count("disconnects"), count("messages_received")), (3, 0, 3));
    // Six bytes of a masked frame's header come before each "join c", and "own c".
    assert_eq!(received, 12 + 12 + 11);
    assert_eq!(count("messages_sent"), 0, "what a session is told is no message of a channel");
    for n in 0..10 {
        node.bus.publish("c", n.to_string(), None);
    }
    for member in &mut members {
        (0..10).for_each(|n| member.hears(&format!("c: {n}")));
    }
    (0..10).for_each(|n| own.hears(&format!("to you, c: {n}")));
    eventually("all is counted", || count("messages_sent") == 30);
    // Two bytes of header, and "c: 0" or "to you, c: 0".
    eventually("bytes too", || count("sent_bytes") == sent + 10 * (6 + 6 + 14));
    drop((members, own));
    node.is_empty_in_the_end();
    assert_eq!((count("connects"), count("disconnects")), (3, 3));
}

// covers: G366
#[test]
fn who_finds_no_place_is_counted_with_the_limit_that_it_met() {
    let node = Node::start(1, Settings { sessions: 2, ..Settings::default() });
    let mut small = App::new("2", "other", "secret".into());
    small.limits.sessions = 1;
    let small = Arc::new(small);
    let first = node.live.admit(&small, None).unwrap();
    assert_eq!(node.live.admit(&small, None).err(), Some(NotAdmitted::App));
    let second = node.live.admit(&node.app, None).unwrap();
    assert_eq!(node.live.admit(&node.app, None).err(), Some(NotAdmitted::Node));
    let refused =
        |app: &str, reason: &str| node.counted(&format!("app_refusals_total{{app=\"{app}\",reason=\"{reason}\"}}"));
    assert_eq!((refused("2", "app_full"), refused("1", "node_full"), refused("1", "app_full")), (1, 1, 0));
    drop((first, second));
}
