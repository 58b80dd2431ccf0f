//! The outlet to an app's webhooks: Pusher's.
//!
//! `{"time_ms","events"}`, signed with the app's secret for each attempt (Pusher Channels, "Webhooks"). Any 2xx is success;
//! everything else is tried again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};
use tidings_bus::{Apps, Catalogue};
use tidings_courier::egress::{Request, Response};
use tidings_courier::{Delivery, DestinationPolicy, Host, Outcome, Outlet, PreparedRequest, Settings};
use tidings_model::clock::Millis;
use tidings_model::event::Event;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::check_header;
use tidings_model::retry_after::retry_after;
use tidings_model::signing::sign_hex;
use tidings_model::transition::Kind;
use tidings_model::webhook::kind_name;
use tidings_store::StoreError;

use crate::channel;

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");

/// Renders and judges deliveries to apps' webhooks.
#[derive(Debug)]
pub struct PusherWebhooks {
    apps: Arc<Apps>,
    catalogue: Arc<Catalogue>,
    timeout: Duration,
}

impl PusherWebhooks {
    /// An outlet to the webhooks of these apps, which the catalogue has as listeners.
    pub fn new(apps: Arc<Apps>, catalogue: Arc<Catalogue>, settings: &Settings) -> Self {
        Self { apps, catalogue, timeout: settings.timeout }
    }
}

#[async_trait]
impl Outlet for PusherWebhooks {
    fn policy(&self, destination: DestinationNo) -> DestinationPolicy {
        match self.catalogue.listener_by_no(destination) {
            None => DestinationPolicy::Gone,
            Some(listener) if !listener.enabled() => DestinationPolicy::Disabled,
            Some(listener) => DestinationPolicy::Open {
                concurrency: listener.concurrency,
                rate: listener.rate,
                host: Some(Host::of(&listener.url)),
            },
        }
    }

    fn batch(&self, destination: DestinationNo) -> usize {
        self.catalogue.listener_by_no(destination).map_or(1, |listener| listener.batch.max(1) as usize)
    }

    fn name(&self, destination: DestinationNo) -> Option<(AppId, String)> {
        self.catalogue.listener_by_no(destination).map(|listener| (listener.app.clone(), listener.id.clone()))
    }

    async fn prepare(&self, batch: &[Delivery], wall: Millis) -> Result<Option<PreparedRequest>, StoreError> {
        let destination = batch.first().map(|delivery| delivery.leased.key.destination);
        let Some(listener) = destination.and_then(|no| self.catalogue.listener_by_no(no)) else { return Ok(None) };
        let Some(app) = self.apps.by_id(listener.app.as_str()) else { return Ok(None) };
        let body = body(batch.iter().map(|delivery| &delivery.payload.logged.event), wall)?;
        let mut headers = HeaderMap::with_capacity(4 + listener.headers.len());
        for (name, value) in &listener.headers {
            if check_header(name, value.expose()).is_ok()
                && let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.expose()))
            {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        let text = |value: &str| HeaderValue::try_from(value).map_err(|e| StoreError::Corrupt(e.to_string()));
        // Without a charset: Pusher's library for Node compares the header as it is.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(KEY, text(&app.key)?);
        headers.insert(SIGNATURE, text(&sign_hex(&app.secret, &body))?);
        let (method, url) = (Method::POST, listener.url.clone());
        // `X-Pusher-Key` as Pusher writes it: its library for PHP looks for just that spelling.
        let request = Request { method, url, headers, body, title_case: true, fresh: false };
        Ok(Some(PreparedRequest { request, timeout: listener.timeout.unwrap_or(self.timeout), delay: Duration::ZERO }))
    }

    fn judge(&self, _: &Delivery, answer: &Response, wall: Millis) -> Outcome {
        let status = answer.status;
        if status.is_success() {
            return Outcome::Delivered;
        }
        let asked = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Outcome::Refused {
            error: format!("answered {status}"),
            slow_down: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            retry_after: asked.and_then(|value| retry_after(value, wall.div_euclid(1_000))),
            disable: None,
        }
    }

    fn delay_after(&self, delivery: &Delivery, attempts: u32) -> Option<Duration> {
        self.catalogue.listener_by_no(delivery.leased.key.destination)?.schedule.as_ref()?.delay_after(attempts)
    }
}

/// What is sent at `wall` time. Receivers go by it: an old one is taken for a replay.
fn body<'e>(events: impl Iterator<Item = &'e Event>, wall: Millis) -> Result<Bytes, StoreError> {
    let said = events.map(said).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"time_ms": wall, "events": said}).to_string().into())
}

/// An event about a channel as Pusher says it.
fn said(event: &Event) -> Result<Map<String, Value>, StoreError> {
    let broken = || StoreError::Corrupt("an event about a channel says something else".to_owned());
    let kind = Kind::of_event(&event.name).ok_or_else(broken)?;
    let mut said: Map<String, Value> = serde_json::from_slice(&event.data.bytes)?;
    if let Some(Value::String(name)) = said.get_mut("channel") {
        *name = channel::shown(name).into_owned();
    }
    said.insert("name".to_owned(), kind_name(kind).into());
    Ok(said)
}

#[cfg(test)]
mod tests {
    use tidings_model::event::Data;

    use super::*;

    fn event(name: &str, data: &Value) -> Event {
        Event {
            id: "tidings_1".to_owned(),
            app: "1".into(),
            name: name.to_owned(),
            channels: Vec::new(),
            data: Data::json(data.to_string()),
            time: 5,
            op: None,
            key: None,
            except: None,
        }
    }

    #[test]
    fn a_body_says_what_pushers_does() {
        let said = |name: &str, data: Value| -> Value {
            serde_json::from_slice(&body(std::iter::once(&event(name, &data)), 1_700_000_000_000).unwrap()).unwrap()
        };
        assert_eq!(
            said("tidings.channel.occupied", json!({"channel": "#u1"})),
            json!({"time_ms": 1_700_000_000_000_i64, "events": [{"name": "channel_occupied", "channel": "#server-to-user-u1"}]})
        );
        assert_eq!(
            said("tidings.channel.member_removed", json!({"channel": "presence-c", "user_id": "u"}))["events"],
            json!([{"name": "member_removed", "channel": "presence-c", "user_id": "u"}])
        );
        let both = ["a", "b"].map(|channel| event("tidings.channel.vacated", &json!({"channel": channel})));
        let batch: Value = serde_json::from_slice(&body(both.iter(), 0).unwrap()).unwrap();
        assert_eq!((&batch["events"][0]["channel"], &batch["events"][1]["channel"]), (&json!("a"), &json!("b")));
        assert!(super::said(&event("person.created", &json!({}))).is_err());
        assert!(super::said(&event("tidings.channel.vacated", &json!([]))).is_err());
    }
}
