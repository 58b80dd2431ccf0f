//! Spans are made for who listens, and for nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use parking_lot::Mutex;
use tidings_model::app::App;
use tidings_model::event::{Data, Event};
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook};
use tidings_node::{Config, Node};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};

/// Listens from `debug` on, or from `info` on, and notes which spans are made.
#[derive(Default)]
struct Listener {
    debug: AtomicBool,
    spans: Mutex<Vec<&'static str>>,
}

impl Listener {
    fn level(&self) -> LevelFilter {
        if self.debug.load(SeqCst) { LevelFilter::DEBUG } else { LevelFilter::INFO }
    }
}

/// The listener as the program's own.
struct Global(Arc<Listener>);

impl Subscriber for Global {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level())
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tidings") && *metadata.level() <= self.0.level()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.spans.lock();
        spans.push(span.metadata().name());
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn event(id: String, name: &str) -> Event {
    Event {
        id,
        app: "1".into(),
        name: name.to_owned(),
        channels: vec!["news".to_owned()],
        data: Data::json("1".to_owned()),
        time: 0,
        op: None,
        key: None,
        except: None,
    }
}

fn hook() -> Hook {
    Hook {
        app: "1".into(),
        name: "logged".to_owned(),
        description: String::new(),
        fields: None,
        fields_for: FieldsFor::All,
        schema: None,
        defaults: DeliveryDefaults::default(),
        version: 0,
        created_at: 0,
        updated_at: 0,
    }
}

// covers: G419
#[tokio::test]
async fn a_publish_makes_spans_only_for_who_listens_to_them() {
    let listener = Arc::new(Listener::default());
    tracing::subscriber::set_global_default(Global(Arc::clone(&listener))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = Config::in_folder(dir.path()).apps(vec![App::new("1", "public", "secret".into())]);
    let node = Node::start(config, |_| Vec::new()).await.unwrap();
    node.bus().create_hook(hook()).await.unwrap();
    let publish = async |from: u32, count: u32| {
        for n in from..from + count {
            assert!(node.bus().publish(event(format!("logged-{n}"), "logged").into()).await.unwrap().logged);
            assert!(!node.bus().publish(event(format!("said-{n}"), "said").into()).await.unwrap().logged);
        }
        std::mem::take(&mut *listener.spans.lock())
    };
    assert_eq!(publish(0, 100).await, [""; 0], "nobody listens");
    listener.debug.store(true, SeqCst);
    tracing::callsite::rebuild_interest_cache();
    let spans = publish(100, 10).await;
    let count = |name: &str| spans.iter().filter(|span| **span == name).count();
    assert_eq!((count("publish"), count("commit")), (20, 10), "{spans:?}");
}
