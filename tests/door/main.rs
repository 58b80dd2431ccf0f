//! A door that is added from outside runs on an engine beside the others, without a change below the doors.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "all of it is a test: it panics with what it met")]

mod lines;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::json;
use tidings_broker::{Action, SessionOrder};
use tidings_courier::egress::EgressConfig;
use tidings_door_api::Api;
use tidings_engine::{Config, Door, Engine};
use tidings_model::app::{App, Doors};
use tidings_model::event::{Data, Event};
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook};
use tidings_model::id::DestinationNo;
use tidings_model::listener::{Format, Listener, Order};
use tidings_model::matcher::Match;
use tidings_model::pattern::Pattern;
use tidings_model::secret::SecretString;
use tidings_model::signature::{KeyRing, Secret};
use tidings_testkit::{Answer, Receiver, dial, eventually};
use tokio::net::{TcpListener, TcpStream};
use tungstenite::Message;
use tungstenite::protocol::WebSocket;

use lines::{FORMAT, HEADER, Lines, NAME};

const SOON: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(5);

fn config(folder: &Path) -> Config {
    let only = |doors: &[&str]| Doors::Only(doors.iter().map(|&door| door.to_owned()).collect());
    let app = |id: &str, doors| App { doors, ..App::new(id, format!("key-{id}"), SecretString::from("secret")) };
    let egress = EgressConfig { allow: vec!["127.0.0.0/8".parse().unwrap()], ..EgressConfig::default() };
    let apps = vec![app("1", only(&["api", NAME])), app("2", only(&["api"]))];
    Config::in_folder(folder).shards(1).egress(egress).apps(apps)
}

async fn engine(folder: &Path, with_lines: bool) -> Engine {
    let mut doors: Vec<Arc<dyn Door>> = vec![Arc::new(Api::new(SecretString::from("operator")))];
    if with_lines {
        doors.push(Arc::new(Lines));
    }
    Engine::build(config(folder), doors).await.unwrap()
}

async fn serve(engine: &Engine) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, router) = (listener.local_addr().unwrap(), engine.router());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    addr
}

fn event(name: &str, channels: &[&str], text: &str) -> Event {
    Event {
        id: tidings_model::id::new_id("evt"),
        app: "1".into(),
        name: name.to_owned(),
        channels: channels.iter().map(|&channel| channel.to_owned()).collect(),
        data: Data::json(json!(text).to_string()),
        time: 1,
        op: None,
        key: None,
        except: None,
    }
}

/// A client of the door. Its socket is blocking, so it has a thread of its own.
struct Client {
    socket: WebSocket<std::net::TcpStream>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = blocking(dial(addr).await);
        let url = format!("ws://{addr}/lines/key-1");
        let opened = tokio::task::spawn_blocking(move || tungstenite::client(url, stream).unwrap());
        let (socket, _) = opened.await.unwrap();
        let mut client = Self { socket };
        assert_eq!(client.next(), "hello");
        client
    }

    fn send(&mut self, line: &str) {
        self.socket.send(Message::text(line)).unwrap();
    }

    fn next(&mut self) -> String {
        self.socket.read().unwrap().into_text().unwrap().to_string()
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.next()
    }
}

fn blocking(stream: TcpStream) -> std::net::TcpStream {
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

// covers: G414
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn its_sessions_join_hear_say_and_ask() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), true).await;
    let addr = serve(&engine).await;
    let (mut one, mut other) = (Client::connect(addr).await, Client::connect(addr).await);
    for client in [&mut one, &mut other] {
        assert_eq!(client.ask("join news"), "joined news");
    }
    assert_eq!(
        one.ask("join private-room"),
        "not joined private-room: the channel requires a proof, and the session gave none"
    );
    engine.bus().publish(event("greeting", &["news"], "good morning").into()).await.unwrap();
    for client in [&mut one, &mut other] {
        assert_eq!(client.next(), r#"news greeting "good morning""#);
    }
    one.send("say news hello there");
    assert_eq!(other.next(), r#"news said "hello there""#);
    // The one who said it does not hear it.
    assert_eq!(one.ask("shout wake up"), "WAKE UP");
    assert_eq!(one.ask("leave news"), "left news");
    assert_eq!(one.ask("dance"), "what?");
    let order = |action| engine.bus().order(SessionOrder::to_all("1".into(), action));
    order(Action::Send("for all".into())).await.unwrap();
    for client in [&mut one, &mut other] {
        assert_eq!(client.next(), "for all");
    }
    engine.stop(GRACE).await;
    let Message::Close(Some(close)) = other.socket.read().unwrap() else { panic!("not closed") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1001, "bye"));
}

// covers: G414
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn it_is_open_to_its_apps_alone_and_answers_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), true).await;
    let ask = async |path: &str| {
        use tower::ServiceExt as _;
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        engine.router().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(ask("/lines/key-2").await, 404);
    assert_eq!(ask("/lines/key-1").await, 426);
    assert_eq!(ask("/lines-panic").await, 500);
    assert_eq!(ask("/v1/hooks").await, 401);
    let full = |path: &str| engine.no_room(&Request::get(path).body(()).unwrap());
    let told = String::from_utf8(full("/lines/key-1").unwrap()).unwrap();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.ends_with("\r\n\r\nfull\n"), "{told}");
    assert!(full("/v1/events").is_none());
    assert!(engine.metrics().contains("tidings_panics_total{unit=\"request\"} 1\n"), "{}", engine.metrics());
}

fn listener(id: &str, url: &str, format: Format) -> Listener {
    Listener {
        app: "1".into(),
        id: id.to_owned(),
        no: DestinationNo(0),
        url: url.parse().unwrap(),
        description: String::new(),
        hooks: vec![Pattern::parse("box.opened").unwrap()],
        filter: Match::all(),
        keys: KeyRing::new(Secret::generate().unwrap()),
        headers: vec![("x-own".to_owned(), SecretString::from("of the listener"))],
        rate: None,
        concurrency: None,
        order: Order::None,
        format,
        batch: 1,
        timeout: None,
        schedule: None,
        disabled: None,
        owner: None,
        version: 0,
        created_at: 1,
        updated_at: 1,
    }
}

// covers: G414
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn its_webhooks_go_beside_the_standard_ones_and_wait_for_it_where_it_is_missing() {
    let partner = Receiver::start();
    partner.respond_sequence("/line", vec![Answer::status(500), Answer::status(204)]);
    let dir = tempfile::tempdir().unwrap();
    let first = engine(dir.path(), true).await;
    let bus = first.bus();
    bus.create_hook(hook("box.opened")).await.unwrap();
    for (id, path, format) in [("lst_line", "/line", FORMAT), ("lst_standard", "/standard", Format::STANDARD)] {
        bus.create_listener(listener(id, &partner.url(path), format)).await.unwrap();
    }
    bus.publish(event("box.opened", &[], "full").into()).await.unwrap();
    let lines = partner.wait_for(2, |request| request.path == "/line", SOON).await;
    for line in &lines {
        assert_eq!(line.text(), "box.opened \"full\"\n");
        assert_eq!((line.header(HEADER), line.header("x-own")), (Some("lst_line"), Some("of the listener")));
    }
    let standard = partner.wait_for(1, |request| request.path == "/standard", SOON).await;
    assert_eq!(standard[0].json()["type"], "box.opened");
    assert!(standard[0].header("webhook-signature").is_some() && standard[0].header(HEADER).is_none());
    first.stop(GRACE).await;

    // A version without the door delivers nothing of it, and loses nothing.
    let without = engine(dir.path(), false).await;
    without.bus().publish(event("box.opened", &[], "later").into()).await.unwrap();
    partner.wait_for(2, |request| request.path == "/standard", SOON).await;
    assert_eq!(partner.received_on("/line").len(), 2);
    eventually(SOON, || async { (without.readiness().await.depth.deliveries == 1).then_some(()) }).await;
    without.stop(GRACE).await;

    let again = engine(dir.path(), true).await;
    let lines = partner.wait_for(3, |request| request.path == "/line", SOON).await;
    assert_eq!(lines[2].text(), "box.opened \"later\"\n");
    again.stop(GRACE).await;
}

fn hook(name: &str) -> Hook {
    Hook {
        app: "1".into(),
        name: name.to_owned(),
        description: String::new(),
        fields: None,
        fields_for: FieldsFor::default(),
        schema: None,
        defaults: DeliveryDefaults::default(),
        version: 0,
        created_at: 1,
        updated_at: 1,
    }
}
