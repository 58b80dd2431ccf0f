//! Apps that are kept in the store.

use super::World;
use crate::catalogue::AppRecord;
use crate::error::StoreError;

fn app(id: &str) -> AppRecord {
    let spec = format!("{{\"id\":{id:?},\"secret\":\"hidden-secret\"}}");
    AppRecord { id: id.to_owned(), spec, version: 0, created_at: 5, updated_at: 5 }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The apps that changed after a version, and whether they are deleted.
async fn changed(world: &World, since: i64) -> Vec<(AppRecord, bool)> {
    world.store.changes(since).await.unwrap().apps
}

pub(crate) async fn an_app_comes_back_as_it_was(mut world: World) {
    world.store.create_app(app("7"), names(&["key/a"])).await.unwrap();
    world.reopen().await;
    let (made, gone) = changed(&world, 0).await.remove(0);
    assert_eq!((&made, gone), (&AppRecord { version: made.version, ..app("7") }, false));
    assert!(made.version > 0);
    let other = AppRecord { spec: "{}".to_owned(), updated_at: 9, ..made.clone() };
    assert_eq!(world.store.replace_app(other.clone(), names(&["key/b"]), 0).await, Err(StoreError::Conflict));
    world.store.replace_app(other.clone(), names(&["key/b"]), made.version).await.unwrap();
    let (now, _) = changed(&world, made.version).await.remove(0);
    assert_eq!(now, AppRecord { version: now.version, ..other });
    assert_eq!(changed(&world, now.version).await, []);
    assert_eq!(world.store.replace_app(app("8"), names(&[]), 1).await, Err(StoreError::Missing));
}

pub(crate) async fn what_means_one_app_is_taken_once(world: World) {
    world.store.create_app(app("1"), names(&["key/a", "host/x"])).await.unwrap();
    assert_eq!(world.store.create_app(app("1"), names(&["key/c"])).await, Err(StoreError::Exists));
    assert_eq!(world.store.create_app(app("2"), names(&["key/b", "host/x"])).await, Err(StoreError::Exists));
    // Nothing of a refused one is kept.
    world.store.create_app(app("2"), names(&["key/b"])).await.unwrap();
    let version = changed(&world, 0).await.iter().map(|(app, _)| app.version).max().unwrap();
    assert_eq!(world.store.replace_app(app("2"), names(&["key/a"]), version).await, Err(StoreError::Exists));
    assert_eq!(changed(&world, version).await, []);
}

pub(crate) async fn a_deleted_app_leaves_its_names_and_its_id(world: World) {
    world.store.create_app(app("1"), names(&["key/a"])).await.unwrap();
    let version = changed(&world, 0).await[0].0.version;
    world.store.delete_app("1", 8).await.unwrap();
    assert_eq!(world.store.delete_app("1", 8).await, Err(StoreError::Missing));
    let (gone, is_gone) = changed(&world, version).await.remove(0);
    assert!(is_gone && gone.spec.is_empty(), "its secrets are erased");
    assert_eq!(changed(&world, 0).await, []);
    world.store.create_app(app("2"), names(&["key/a"])).await.unwrap();
    world.store.create_app(app("1"), names(&["key/b"])).await.unwrap();
    assert_eq!(changed(&world, 0).await.len(), 2);
}
