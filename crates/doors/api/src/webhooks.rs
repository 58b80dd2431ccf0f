//! The Standard Webhooks 1.0 format, in which listeners get their events.
//!
//! Renders `{"type","timestamp","data"}`, signs it for each attempt with the time of that attempt, and judges the
//! response by the specification's recommendations: any 2xx is success, 410 disables the listener.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;
use tidings_bus::Catalogue;
use tidings_courier::Delivery;
use tidings_courier::egress::Response;
use tidings_model::clock::{Millis, rfc3339};
use tidings_model::event::Data;
use tidings_model::excerpt;
use tidings_model::hook::Hook;
use tidings_model::listener::Listener;
use tidings_model::payload;
use tidings_model::schedule::Schedule;
use tidings_model::signature::{self, ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use tidings_node::{Rendered, WebhookFormat, WebhookParts};
use tidings_store::StoreError;

/// Renders listeners' deliveries and judges their responses.
#[derive(Debug)]
pub(crate) struct StandardWebhooks {
    catalogue: Arc<Catalogue>,
    schedule: Schedule,
    timeout: Duration,
}

impl StandardWebhooks {
    /// The format with this catalogue, and with the configured schedule and timeout for listeners that have none.
    pub(crate) fn new(parts: &WebhookParts<'_>) -> Self {
        let (catalogue, schedule) = (Arc::clone(parts.catalogue), parts.settings.schedule.clone());
        Self { catalogue, schedule, timeout: parts.settings.timeout }
    }

    fn hook_of(&self, delivery: &Delivery) -> Option<Arc<Hook>> {
        let event = &delivery.payload.logged.event;
        self.catalogue.hook(&event.app, &event.name)
    }

    /// The body for every listener: only with the fields that the hook's version at the time of publishing lets out.
    async fn body(&self, delivery: &Delivery) -> Result<Bytes, StoreError> {
        if let Some(body) = delivery.payload.rendered() {
            return Ok(body.clone());
        }
        let logged = &delivery.payload.logged;
        let event = &logged.event;
        let fields = match logged.hook_version {
            // A built-in hook has no versions and lets all data out. Encrypted data has no fields to select.
            None | Some(0) => None,
            Some(_) if event.is_encrypted() => None,
            Some(version) => self.catalogue.fields_at(&event.app, &event.name, version).await?,
        };
        let selected = fields.map(|fields| select(&event.data, &fields)).transpose()?.flatten();
        let body = payload::render_body(
            &event.name,
            &rfc3339(event.time),
            event.op.as_deref(),
            selected.as_ref().unwrap_or(&event.data),
        );
        Ok(delivery.payload.keep_rendered(body))
    }
}

/// The declared fields of the data; `None` when that is all of it.
fn select(data: &Data, fields: &[payload::Field]) -> Result<Option<Data>, StoreError> {
    // The data was checked against the fields when it was published.
    let unreadable = || StoreError::Corrupt("an event's data no longer fits the fields of its hook".to_owned());
    let raw: &RawValue = data.as_json().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(unreadable)?;
    payload::select_fields(raw, fields).map_err(|_| unreadable())
}

#[async_trait]
impl WebhookFormat for StandardWebhooks {
    async fn render(
        &self,
        batch: &[Delivery],
        listener: &Listener,
        wall: Millis,
        headers: &mut HeaderMap,
    ) -> Result<Option<Rendered>, StoreError> {
        // Standard Webhooks has one event per request.
        let Some(delivery) = batch.first() else { return Ok(None) };
        let body = self.body(delivery).await?;
        let event = &delivery.payload.logged.event;
        let seconds = wall.div_euclid(1_000);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signature = signature::sign(&event.id, seconds, &body, &listener.keys.signing_keys(wall));
        let text = |value: String| HeaderValue::try_from(value).map_err(|e| StoreError::Corrupt(e.to_string()));
        headers.insert(HeaderName::from_static(ID_HEADER), text(event.id.clone())?);
        headers.insert(HeaderName::from_static(TIMESTAMP_HEADER), HeaderValue::from(seconds));
        headers.insert(HeaderName::from_static(SIGNATURE_HEADER), text(signature)?);
        // Standard Webhooks writes `webhook-id` and the other header names in lower case.
        Ok(Some(Rendered { body, title_case: false }))
    }

    fn refusal(&self, answer: &Response) -> (String, Option<&'static str>) {
        (refusal(answer), (answer.status == StatusCode::GONE).then_some("gone"))
    }

    fn timeout(&self, delivery: &Delivery, listener: &Listener) -> Duration {
        let hook = self.hook_of(delivery);
        listener.timeout(hook.as_deref().map(|hook| &hook.defaults), self.timeout)
    }

    fn delay_after(&self, delivery: &Delivery, listener: &Listener, attempts: u32) -> Option<Duration> {
        let hook = self.hook_of(delivery);
        listener.schedule(hook.as_deref().map(|hook| &hook.defaults), &self.schedule).delay_after(attempts)
    }
}

fn refusal(answer: &Response) -> String {
    let status = answer.status;
    match answer.headers.get(LOCATION).filter(|_| status.is_redirection()) {
        Some(location) => {
            let target = String::from_utf8_lossy(location.as_bytes());
            let target = excerpt(&target);
            format!("answered {status} to {target}; redirects are not followed: give the final URL to the listener")
        }
        None if status == StatusCode::GONE => format!("answered {status}: the listener has been disabled"),
        None => format!("answered {status}"),
    }
}
