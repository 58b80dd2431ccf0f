//! A fan-out whose row cannot be read.

use super::*;
use crate::error::StoreError;
use crate::log::Log as _;
use crate::log::{Lane, MAX_DIRECT, Published};
use crate::queue::{FanoutTurn, Queue as _};
use crate::sqlite::writer::Class;
use crate::suite::World;
use tidings_model::listener::Order;

// covers: G415
#[tokio::test]
async fn the_event_whose_deliveries_cannot_be_written_is_named() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let mut world = World::around(Box::new(Dir::new()), Arc::clone(&store) as Arc<dyn Store>);
    let all = world.listeners(MAX_DIRECT + 1, Order::None).await;
    let published = store.publish(world.to("a", &all, Lane::Own).await).await.unwrap();
    let Published::Stored { no, .. } = published else { panic!("{published:?}") };
    let spoil =
        |db: &crate::sqlite::db::Db| Ok(db.execute("UPDATE fanout SET destinations = x'ffffffffffffffffffff'", [])?);
    assert_eq!(store.writer.call(Class::Work, spoil).await, Ok(1));
    let refused = store.expand(1, FanoutTurn::default(), world.lease()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Fanout { event, .. } if event == no), "{refused:?}");
    let turn = FanoutTurn { parked: vec![no], ..FanoutTurn::default() };
    assert_eq!(store.expand(1, turn, world.lease()).await.unwrap().app, None);
}
