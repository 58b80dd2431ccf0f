//! Reading the log back.

use tidings_model::event::Data;
use tidings_model::id::{AppId, EventNo};

use super::{World, event};
use crate::log::{EventFilter, Lane, Logged};

pub(crate) async fn events_come_back_as_they_were(w: World) {
    let mut publish = w.to("full", &[], Lane::Own).await;
    publish.event.channels = vec!["a".to_owned(), "b".to_owned(), "a".to_owned()];
    publish.event.data =
        Data { bytes: vec![0, 1, 2, 255].into(), content_type: Some("application/octet-stream".to_owned()) };
    publish.event.op = Some("update".to_owned());
    publish.event.key = Some("joe".to_owned());
    publish.event.except = Some("123.456".to_owned());
    publish.hook_version = Some(7);
    let expected = publish.event.clone();
    let (full, _) = w.stored_as(publish).await;
    let (plain, _) = w.publish("plain", &[], Lane::Own).await;
    assert!(full < plain);
    let logged = w.store.event(&w.app, "full").await.unwrap().unwrap();
    assert_eq!(logged, Logged { no: full, event: expected, hook_version: Some(7), received_at: w.now, deliveries: 0 });
    let by_place = w.store.events_at(vec![plain, EventNo(1), full]).await.unwrap();
    assert_eq!(by_place.iter().map(|l| l.event.id.as_str()).collect::<Vec<_>>(), ["plain", "full"]);
    assert_eq!(by_place[0].event, event(&w.app, "plain"));
    assert_eq!(w.store.event(&AppId::from("2"), "full").await.unwrap(), None);
}

// covers: T03
pub(crate) async fn every_filter_pages_the_log(mut w: World) {
    let apps = [w.app.clone(), AppId::from("2")];
    let mut expected: Vec<(AppId, Logged)> = Vec::new();
    for i in 0..40 {
        let app = &apps[i % 2];
        let mut publish = w.to(&format!("e{i}"), &[], Lane::Own).await;
        publish.event = event(app, &format!("e{i}"));
        publish.event.name = ["x", "y", "z"][i % 3].to_owned();
        publish.event.channels = (0..i % 4).map(|c| format!("c{c}")).collect();
        let (no, _) = w.stored_as(publish.clone()).await;
        let logged =
            Logged { no, event: publish.event, hook_version: None, received_at: publish.received_at, deliveries: 0 };
        expected.push((app.clone(), logged));
        w.now += 10 * (i as i64 % 3);
    }
    expected.reverse();
    let times = [None, Some(expected[10].1.received_at), Some(expected[30].1.received_at)];
    let wanted = [(None, None), (Some("x"), None), (Some("nothing"), None), (None, Some("c0")), (None, Some("c2"))];
    for (since, until, (name, channel)) in
        times.iter().flat_map(|s| times.iter().flat_map(move |u| wanted.map(|n| (*s, *u, n))))
    {
        let matching: Vec<&Logged> = expected
            .iter()
            .filter(|(app, _)| *app == w.app)
            .map(|(_, logged)| logged)
            .filter(|l| name.is_none_or(|n| l.event.name == n))
            .filter(|l| channel.is_none_or(|c| l.event.channels.iter().any(|x| x == c)))
            .filter(|l| since.is_none_or(|t| l.received_at >= t) && until.is_none_or(|t| l.received_at < t))
            .collect();
        for limit in [1, 7, 100] {
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let (name, channel) = (name.map(str::to_owned), channel.map(str::to_owned));
                let filter = EventFilter { name, channel, since, until, before, limit, bytes: None };
                let page = w.store.events(&w.app, filter).await.unwrap().rows;
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                before = Some(last.no);
                found.extend(page);
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), matching, "{name:?} {channel:?} {since:?} {until:?} {limit}");
        }
    }
}

// covers: G031
pub(crate) async fn a_page_of_the_log_is_bounded_in_bytes(mut w: World) {
    for i in 0..6 {
        let mut publish = w.to(&format!("e{i}"), &[], Lane::Own).await;
        publish.event.data = tidings_model::event::Data::json(vec![b'1'; 50_000]);
        w.stored_as(publish).await;
        w.now += 1;
    }
    let (mut found, mut before, mut pages) = (Vec::new(), None, Vec::new());
    loop {
        let filter = EventFilter { before, limit: 100, bytes: Some(110_000), ..EventFilter::default() };
        let page = w.store.events(&w.app, filter).await.unwrap();
        pages.push(page.rows.len());
        before = page.rows.last().map(|last| last.no);
        found.extend(page.rows.into_iter().map(|logged| logged.event.id));
        if !page.more {
            break;
        }
    }
    assert_eq!((pages, found), (vec![2, 2, 2], (0..6).rev().map(|i| format!("e{i}")).collect()));
    let filter = EventFilter { limit: 100, bytes: Some(1), ..EventFilter::default() };
    let page = w.store.events(&w.app, filter).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (1, true));
}
