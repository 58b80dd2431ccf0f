//! The catalogue: versions, conflicts, and the changes that it returns.

use std::time::Duration;

use tidings_model::hook::FieldsFor;
use tidings_model::id::AppId;
use tidings_model::listener::{Disabled, Order};
use tidings_model::payload::Field;

use super::{World, hook, listener, secret};
use crate::error::StoreError;

pub(crate) async fn changes_are_told_since_a_version(w: World) {
    let store = &w.store;
    let nothing = store.changes(0).await.unwrap();
    assert_eq!((nothing.version, nothing.hooks.len(), nothing.listeners.len()), (0, 0, 0));
    store.create_hook(hook(&w.app, "a")).await.unwrap();
    store.create_hook(hook(&w.app, "b")).await.unwrap();
    store.create_listener(listener(&w.app, "l", Order::Key)).await.unwrap();
    let all = store.changes(0).await.unwrap();
    assert_eq!((all.version, all.hooks.len(), all.listeners.len()), (3, 2, 1));
    assert!(all.hooks.iter().all(|(_, gone)| !gone));
    assert_eq!(all.listeners[0].0.version, 3);

    store.delete_hook(&w.app, "a", w.now).await.unwrap();
    store.delete_listener(&w.app, "l", w.now).await.unwrap();
    let later = store.changes(3).await.unwrap();
    assert_eq!(later.version, 5);
    assert_eq!(later.hooks.iter().map(|(h, gone)| (h.name.as_str(), *gone)).collect::<Vec<_>>(), [("a", true)]);
    assert_eq!(later.listeners.iter().map(|(l, gone)| (l.id.as_str(), *gone)).collect::<Vec<_>>(), [("l", true)]);
    assert_eq!(store.changes(5).await.unwrap().hooks.len(), 0);
    // A hook may be created again under the same name. A read from version 0 returns no deleted records.
    store.create_hook(hook(&w.app, "a")).await.unwrap();
    let fresh = store.changes(0).await.unwrap();
    assert_eq!((fresh.version, fresh.hooks.len(), fresh.listeners.len()), (6, 2, 0));
}

/// More changes than a store reads at once: each is returned once, in the order of versions.
pub(crate) async fn a_large_catalogue_is_told_whole(w: World) {
    let store = &w.store;
    let (hooks, listeners) = (260, 520);
    for number in 0..listeners {
        if number < hooks {
            store.create_hook(hook(&w.app, &format!("h{number}"))).await.unwrap();
        }
        store.create_listener(listener(&w.app, &format!("l{number}"), Order::None)).await.unwrap();
    }
    let all = store.changes(0).await.unwrap();
    assert_eq!((all.version, all.hooks.len(), all.listeners.len()), (780, hooks, listeners));
    assert!(all.hooks.is_sorted_by(|(a, _), (b, _)| a.version < b.version));
    assert!(all.listeners.is_sorted_by(|(a, _), (b, _)| a.version < b.version));
    let later = store.changes(10).await.unwrap();
    assert_eq!((later.version, later.hooks.len(), later.listeners.len()), (780, hooks - 5, listeners - 5));
}

pub(crate) async fn hooks_keep_their_earlier_fields(w: World) {
    let store = &w.store;
    let mut changed = hook(&w.app, "a");
    store.create_hook(changed.clone()).await.unwrap();
    let stored = store.changes(0).await.unwrap().hooks.remove(0).0;
    assert_eq!(stored, tidings_model::hook::Hook { version: 1, ..changed.clone() });
    changed.fields = Some(vec![Field::named("name")]);
    changed.fields_for = FieldsFor::Webhooks;
    store.replace_hook(changed.clone(), 1).await.unwrap();
    assert_eq!(store.changes(1).await.unwrap().hooks.remove(0).0.fields_for, FieldsFor::Webhooks);
    assert_eq!(store.fields_at(&w.app, "a", 1).await.unwrap(), Some(None));
    assert_eq!(store.fields_at(&w.app, "a", 2).await.unwrap(), Some(changed.fields));
    assert_eq!(store.fields_at(&w.app, "a", 3).await.unwrap(), None);
    assert_eq!(store.fields_at(&AppId::from("2"), "a", 1).await.unwrap(), None);
    store.delete_hook(&w.app, "a", w.now).await.unwrap();
    assert_eq!(store.fields_at(&w.app, "a", 1).await.unwrap(), Some(None));
}

pub(crate) async fn who_comes_second_is_told(w: World) {
    let store = &w.store;
    store.create_hook(hook(&w.app, "a")).await.unwrap();
    assert_eq!(store.create_hook(hook(&w.app, "a")).await, Err(StoreError::Exists));
    store.create_hook(hook(&AppId::from("2"), "a")).await.unwrap();
    store.create_listener(listener(&w.app, "l", Order::None)).await.unwrap();
    assert_eq!(store.create_listener(listener(&w.app, "l", Order::None)).await, Err(StoreError::Exists));
    // Failed changes have not incremented the version.
    assert_eq!(store.changes(0).await.unwrap().version, 3);

    store.replace_hook(hook(&w.app, "a"), 1).await.unwrap();
    assert_eq!(store.replace_hook(hook(&w.app, "a"), 1).await, Err(StoreError::Conflict));
    assert_eq!(store.replace_hook(hook(&w.app, "b"), 1).await, Err(StoreError::Missing));
    store.replace_listener(listener(&w.app, "l", Order::None), 3).await.unwrap();
    assert_eq!(store.replace_listener(listener(&w.app, "l", Order::None), 3).await, Err(StoreError::Conflict));
    assert_eq!(
        store.replace_listener(listener(&AppId::from("2"), "l", Order::None), 3).await,
        Err(StoreError::Missing)
    );
    store.delete_hook(&w.app, "a", w.now).await.unwrap();
    store.delete_listener(&w.app, "l", w.now).await.unwrap();
    assert_eq!(store.delete_hook(&w.app, "a", w.now).await, Err(StoreError::Missing));
    assert_eq!(store.delete_listener(&w.app, "l", w.now).await, Err(StoreError::Missing));
    assert_eq!(store.replace_hook(hook(&w.app, "a"), 6).await, Err(StoreError::Missing));
    assert_eq!(store.replace_listener(listener(&w.app, "l", Order::None), 7).await, Err(StoreError::Missing));
    assert_eq!(store.changes(0).await.unwrap().version, 7);
}

pub(crate) async fn a_listener_comes_back_as_it_was(w: World) {
    let mut wanted = listener(&w.app, "l", Order::Fifo);
    wanted.keys.rotate(tidings_model::signature::Secret::from_bytes(&[7; 32]).unwrap(), w.now, 60_000);
    wanted.disabled = Some(Disabled { reason: "by request".to_owned(), at: w.now });
    let no = w.store.create_listener(wanted.clone()).await.unwrap();
    let (found, gone) = w.store.changes(0).await.unwrap().listeners.remove(0);
    assert!(!gone);
    assert_eq!((found.no, found.version, &found.id, &found.app), (no, 1, &wanted.id, &wanted.app));
    assert_eq!((&found.url, &found.description, &found.hooks), (&wanted.url, &wanted.description, &wanted.hooks));
    assert_eq!((found.rate, found.concurrency, found.order), (Some(7), Some(3), Order::Fifo));
    assert_eq!((found.timeout, &found.schedule, &found.owner), (Some(Duration::from_secs(9)), &None, &wanted.owner));
    assert_eq!(found.filter.to_json().get(), wanted.filter.to_json().get());
    assert_eq!(found.disabled, wanted.disabled);
    assert_eq!(found.keys.current.expose(), wanted.keys.current.expose());
    assert_eq!(found.keys.previous.len(), 1);
    assert_eq!(found.keys.previous[0].0.expose(), secret().expose());
    assert_eq!(found.headers[0].1.expose(), "hidden-header-value");
}

pub(crate) async fn a_deleted_listener_keeps_no_secret(mut w: World) {
    let no = w.listener(Order::None).await;
    super::delete(&w, no).await;
    let (gone, is_gone) = w.stored(no).await;
    assert!(is_gone);
    assert_ne!(gone.keys.current.expose(), secret().expose());
    assert!(gone.headers.is_empty());
}
