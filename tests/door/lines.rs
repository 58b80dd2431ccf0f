//! A minimal door: text lines over WebSocket, and webhooks of one line. No crate below the doors knows it.
//!
//! A client sends `join CHANNEL`, `leave CHANNEL`, `say CHANNEL TEXT` and `shout TEXT`, each in a text frame.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::get;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, StatusCode};
use tidings_broker::{Action, DeliveryMode, JoinRefused, Lost, Welcome};
use tidings_bus::{AppBy, Bus, check_served};
use tidings_courier::Delivery;
use tidings_courier::egress::Response;
use tidings_door::Door;
use tidings_live::{
    ClientEvent, CloseReason, Context, DoorAnswer, DoorRequest, JoinRequest, LeaveFailed, Live, Message, NoDoorAnswer,
    Proof, PublishRefused, SessionProtocol, SessionRequest, upgrade,
};
use tidings_model::channel::ChannelKey;
use tidings_model::clock::Millis;
use tidings_model::event::Data;
use tidings_model::listener::{Format, Listener};
use tidings_node::{NamedFormat, Node, Rendered, WebhookFormat, WebhookParts};
use tidings_store::StoreError;
use tidings_wire::ws::{self, handshake};
use tidings_wire::{ChannelMessage, EncodedMessage, Encoding};

pub(crate) const NAME: &str = "lines";
pub(crate) const FORMAT: Format = Format::named("line");
pub(crate) const HEADER: &str = "x-line-of";

/// The door.
#[derive(Debug)]
pub(crate) struct Lines;

impl Door for Lines {
    fn name(&self) -> &'static str {
        NAME
    }

    fn webhook_formats(&self, _: &WebhookParts<'_>) -> Vec<NamedFormat> {
        vec![(FORMAT, Arc::new(LineWebhooks))]
    }

    fn routes(&self, node: &Node) -> Router {
        let shared = (node.bus().clone(), node.live().clone());
        Router::new().route("/lines/{key}", get(connect)).route("/lines-panic", get(panics)).with_state(shared)
    }

    fn panicked(&self) -> Answer {
        (StatusCode::INTERNAL_SERVER_ERROR, "oh no\n").into_response()
    }

    fn no_room(&self, request: &http::Request<()>) -> Option<(StatusCode, HeaderMap, Vec<u8>)> {
        request.uri().path().strip_prefix("/lines/")?;
        Some((StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), b"full\n".to_vec()))
    }
}

async fn panics() {
    panic!("somebody asked for it");
}

async fn connect(State((bus, live)): State<(Bus, Live)>, Path(key): Path<String>, mut request: Request) -> Answer {
    let app = bus.apps().find(AppBy::Key(&key)).filter(|app| check_served(app, NAME).is_ok());
    let Some(app) = app else { return (StatusCode::NOT_FOUND, "no such app\n").into_response() };
    let accept = match handshake::check(request.method(), request.headers()) {
        Ok(accept) => accept.accept,
        Err(refusal) => return (refusal.status(), refusal.to_string()).into_response(),
    };
    let (Some(on), Ok(permit)) = (upgrade::take(request.extensions_mut()), live.admit(&app, None)) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    tokio::spawn(async move {
        let (socket, early) = upgrade::upgraded(on).await.unwrap();
        live.attach(permit, app, socket, early, Box::new(LineSession));
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).unwrap()),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

static LINE: Encoding = Encoding { name: "line", encode };

fn encode(said: &ChannelMessage) -> Option<Bytes> {
    let ChannelMessage::Publication(publication) = said else { return None };
    let (channel, event) = (&publication.channel.name, &publication.event);
    let text = event.data.as_text();
    Some(ws::text(format!("{channel} {} {text}", event.name).as_bytes()))
}

#[derive(Debug)]
struct LineSession;

fn tell(cx: &mut Context<'_>, line: &str) {
    cx.write(ws::text(line.as_bytes()));
}

impl SessionProtocol for LineSession {
    fn opened(&mut self, cx: &mut Context<'_>) {
        tell(cx, "hello");
    }

    fn received(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let Message::Text(line) = message else { return cx.close(1003, "lines are text") };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest.split_once(' ')) {
            ("join", _) => {
                let (channel, mode) = (rest.into(), DeliveryMode::Shared(&LINE));
                let join = JoinRequest { channel, proof: Proof::None, member: None, since: None, mode };
                cx.request(SessionRequest::Join(join));
            }
            ("leave", _) => {
                cx.request(SessionRequest::Leave(rest.into()));
            }
            ("say", Some((channel, text))) => {
                let data = Data::json(serde_json::json!(text).to_string());
                let event = ClientEvent { channel: channel.into(), name: "said".to_owned(), data, user: None };
                cx.request(SessionRequest::Publish(event));
            }
            ("shout", _) => {
                let text = rest.to_uppercase();
                let answer = async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    text
                };
                cx.request(SessionRequest::Door(DoorRequest::new(answer)));
            }
            _ => tell(cx, "what?"),
        }
    }

    fn joined(&mut self, cx: &mut Context<'_>, _: u32, channel: &ChannelKey, outcome: Result<Welcome, JoinRefused>) {
        match outcome {
            Ok(_) => tell(cx, &format!("joined {}", channel.name)),
            Err(refused) => tell(cx, &format!("not joined {}: {refused}", channel.name)),
        }
    }

    fn left(&mut self, cx: &mut Context<'_>, _: u32, channel: &ChannelKey, _: Result<(), LeaveFailed>) {
        tell(cx, &format!("left {}", channel.name));
    }

    fn published(&mut self, cx: &mut Context<'_>, _: u32, outcome: Result<(), PublishRefused>) {
        if let Err(refused) = outcome {
            tell(cx, &format!("not said: {refused}"));
        }
    }

    fn answered(&mut self, cx: &mut Context<'_>, _: u32, answer: Result<DoorAnswer, NoDoorAnswer>) {
        match answer.map(|answer| *answer.downcast::<String>().unwrap()) {
            Ok(text) => tell(cx, &text),
            Err(none) => tell(cx, &none.to_string()),
        }
    }

    fn channel_message(&mut self, _: &mut Context<'_>, message: &Arc<EncodedMessage>) {
        panic!("nobody joined to hear {message:?} like this");
    }

    fn lost(&mut self, cx: &mut Context<'_>, lost: &Lost) {
        tell(cx, &format!("lost {}", lost.channel.name));
    }

    fn woken(&mut self, _: &mut Context<'_>) {}

    fn ordered(&mut self, cx: &mut Context<'_>, action: &Action) {
        match action {
            Action::Send(bytes) => cx.write(ws::text(bytes)),
            Action::Disconnect { code, reason } => cx.close(code.unwrap_or(1000), reason.clone().unwrap_or_default()),
            other => tell(cx, &format!("what is {other:?}?")),
        }
    }

    fn closing(&mut self, cx: &mut Context<'_>, _: CloseReason) {
        cx.close(1001, "bye");
    }
}

/// Webhooks of one line.
#[derive(Debug)]
struct LineWebhooks;

#[async_trait]
impl WebhookFormat for LineWebhooks {
    async fn render(
        &self,
        batch: &[Delivery],
        listener: &Listener,
        _: Millis,
        headers: &mut HeaderMap,
    ) -> Result<Option<Rendered>, StoreError> {
        let Some(delivery) = batch.first() else { return Ok(None) };
        let event = &delivery.payload.logged.event;
        headers.insert(HeaderName::from_static(HEADER), HeaderValue::try_from(&listener.id).unwrap());
        Ok(Some(Rendered { body: format!("{} {}\n", event.name, event.data.as_text()).into(), title_case: false }))
    }

    fn refusal(&self, answer: &Response) -> (String, Option<&'static str>) {
        (format!("said {}", answer.status), None)
    }

    fn timeout(&self, _: &Delivery, _: &Listener) -> Duration {
        Duration::from_secs(5)
    }

    fn delay_after(&self, _: &Delivery, _: &Listener, attempts: u32) -> Option<Duration> {
        (attempts < 3).then_some(Duration::from_millis(50) * attempts)
    }
}
