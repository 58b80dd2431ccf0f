//! The Pusher format of an app's webhooks.
//!
//! `{"time_ms","events"}`, signed with the app's secret for each attempt (Pusher Channels, "Webhooks"). Any 2xx is
//! success; everything else is tried again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use tidings_bus::Apps;
use tidings_courier::Delivery;
use tidings_courier::egress::Response;
use tidings_model::clock::Millis;
use tidings_model::event::Event;
use tidings_model::listener::Listener;
use tidings_model::signing::sign_hex;
use tidings_model::transition::Kind;
use tidings_model::webhook::kind_name;
use tidings_node::{Rendered, WebhookFormat, WebhookParts};
use tidings_store::StoreError;

use crate::channel;

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");

/// Renders deliveries to apps' webhooks.
#[derive(Debug)]
pub(crate) struct PusherWebhooks {
    apps: Arc<Apps>,
    timeout: Duration,
}

impl PusherWebhooks {
    /// The format for these apps' webhooks, which are listeners in the catalogue.
    pub(crate) fn new(parts: &WebhookParts<'_>) -> Self {
        Self { apps: Arc::clone(parts.apps), timeout: parts.settings.timeout }
    }
}

#[async_trait]
impl WebhookFormat for PusherWebhooks {
    fn batch(&self, listener: &Listener) -> usize {
        listener.batch as usize
    }

    async fn render(
        &self,
        batch: &[Delivery],
        listener: &Listener,
        wall: Millis,
        headers: &mut HeaderMap,
    ) -> Result<Option<Rendered>, StoreError> {
        let Some(app) = self.apps.by_id(listener.app.as_str()) else { return Ok(None) };
        let body = body(batch.iter().map(|delivery| &delivery.payload.logged.event), wall)?;
        let text = |value: &str| HeaderValue::try_from(value).map_err(|e| StoreError::Corrupt(e.to_string()));
        // Without a charset: Pusher's library for Node compares the header as it is.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(KEY, text(&app.key)?);
        headers.insert(SIGNATURE, text(&sign_hex(&app.secret, &body))?);
        // `X-Pusher-Key` as Pusher writes it: its library for PHP looks for just that spelling.
        Ok(Some(Rendered { body, title_case: true }))
    }

    fn refusal(&self, answer: &Response) -> (String, Option<&'static str>) {
        (format!("answered {}", answer.status), None)
    }

    fn timeout(&self, _: &Delivery, listener: &Listener) -> Duration {
        listener.timeout.unwrap_or(self.timeout)
    }

    fn delay_after(&self, _: &Delivery, listener: &Listener, attempts: u32) -> Option<Duration> {
        listener.schedule.as_ref()?.delay_after(attempts)
    }
}

/// The body of an attempt at `wall` time. Receivers check the time, and reject an old body as a replay.
fn body<'e>(events: impl Iterator<Item = &'e Event>, wall: Millis) -> Result<Bytes, StoreError> {
    let events = events.map(event_json).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"time_ms": wall, "events": events}).to_string().into())
}

/// A channel event in Pusher's form.
fn event_json(event: &Event) -> Result<Map<String, Value>, StoreError> {
    let broken = || StoreError::Corrupt("the event is not a channel event".to_owned());
    let kind = Kind::of_event(&event.name).ok_or_else(broken)?;
    let mut json: Map<String, Value> = serde_json::from_slice(&event.data.bytes)?;
    if let Some(Value::String(name)) = json.get_mut("channel") {
        *name = channel::shown(name).into_owned();
    }
    json.insert("name".to_owned(), kind_name(kind).into());
    Ok(json)
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
            json!({"time_ms": 1_700_000_000_000_i64,
                "events": [{"name": "channel_occupied", "channel": "#server-to-user-u1"}]})
        );
        assert_eq!(
            said("tidings.channel.member_removed", json!({"channel": "presence-c", "user_id": "u"}))["events"],
            json!([{"name": "member_removed", "channel": "presence-c", "user_id": "u"}])
        );
        let both = ["a", "b"].map(|channel| event("tidings.channel.vacated", &json!({"channel": channel})));
        let batch: Value = serde_json::from_slice(&body(both.iter(), 0).unwrap()).unwrap();
        assert_eq!((&batch["events"][0]["channel"], &batch["events"][1]["channel"]), (&json!("a"), &json!("b")));
        assert!(super::event_json(&event("person.created", &json!({}))).is_err());
        assert!(super::event_json(&event("tidings.channel.vacated", &json!([]))).is_err());
    }
}
