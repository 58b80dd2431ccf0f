//! Lists of channels.

use tidings_model::policy::online;

use super::{World, key};
use crate::broker::{ChannelFilter, Occupancy};

async fn names(world: &World, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let filter = ChannelFilter { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
    let found = world.broker.channels(&"1".into(), filter).await.unwrap();
    found.iter().map(|state| state.name.as_ref().to_owned()).collect()
}

pub(crate) async fn channels_are_paged_by_name(world: &mut World) {
    for n in 0..200 {
        world.join_in(&format!("a{n:03}"), n, "", None).await;
    }
    world.join_in("b", 1, "", None).await;
    // Internal channels are not listed.
    world.join_in(&online("ann"), 2, "ann", None).await;
    let all: Vec<_> = (0..200).map(|n| format!("a{n:03}")).chain(["b".to_owned()]).collect();
    let mut here: Vec<_> = world.broker.names_here(&"1".into()).iter().map(|name| name.as_ref().to_owned()).collect();
    here.sort();
    assert_eq!((here, world.broker.names_here(&"2".into()).len()), (all.clone(), 0));
    assert_eq!(names(world, "", None, 1_000).await, all);
    assert_eq!(names(world, "a", None, 1_000).await, all[..200]);
    assert_eq!(names(world, &online(""), Some(&online("")), 5).await, [""; 0]);
    assert_eq!(names(world, "a1", Some("a100"), 5).await, all[101..106]);
    assert_eq!(names(world, "a", Some("a199"), 5).await, [""; 0]);
    assert_eq!(names(world, "", Some("a198x"), 5).await, ["a199", "b"]);
    assert_eq!(names(world, "", None, 0).await, [""; 0]);
    let mut paged = Vec::new();
    while let Some(last) = names(world, "", paged.last().map(String::as_str), 7).await.into_iter().reduce(|a, b| {
        paged.push(a);
        b
    }) {
        paged.push(last);
    }
    assert_eq!(paged, all);
    assert_eq!(world.broker.channels(&"2".into(), ChannelFilter { limit: 9, ..Default::default() }).await.unwrap(), []);
}

pub(crate) async fn a_channel_is_there_while_somebody_or_something_is(world: &mut World) {
    assert_eq!(world.broker.channel(&key("c")).await.unwrap(), None);
    (world.options.presence, world.options.history_size) = (true, 3);
    world.join(1, "ann").await;
    world.join(2, "").await;
    let state = world.broker.channel(&key("c")).await.unwrap().unwrap();
    assert_eq!((&*state.name, state.occupancy), ("c", Occupancy { subscriptions: 2, users: 1 }));
    assert_eq!(state.position.unwrap().offset, 0);
    world.publish("e1").await;
    world.leave(1).await;
    world.leave(2).await;
    let state = world.broker.channel(&key("c")).await.unwrap().unwrap();
    assert_eq!((state.occupancy, state.position.unwrap().offset), (Occupancy::default(), 1));
    assert_eq!(names(world, "", None, 9).await, [""; 0], "nobody is in it");
}
