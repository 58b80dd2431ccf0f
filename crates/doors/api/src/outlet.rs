//! The outlet to listeners: Standard Webhooks 1.0.
//!
//! Renders `{"type","timestamp","data"}`, signs it for each attempt with the time of that attempt, and judges the answer by
//! the specification's recommendations: any 2xx is success, 410 ends the subscription, 429, 502, 503 and 504 ask for less.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use serde_json::value::RawValue;
use tidings_bus::Catalogue;
use tidings_courier::egress::{Request, Response};
use tidings_courier::{Delivery, DestinationPolicy, Host, Outcome, Outlet, PreparedRequest, Settings};
use tidings_model::clock::{Millis, rfc3339};
use tidings_model::event::Data;
use tidings_model::excerpt;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::check_header;
use tidings_model::payload;
use tidings_model::retry_after::retry_after;
use tidings_model::schedule::Schedule;
use tidings_model::signature::{self, ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use tidings_store::StoreError;

/// Renders and judges listeners' deliveries.
#[derive(Debug)]
pub struct StandardWebhooks {
    catalogue: Arc<Catalogue>,
    schedule: Schedule,
    timeout: Duration,
}

impl StandardWebhooks {
    /// An outlet to the catalogue's listeners, with the configured schedule and timeout for those that have none.
    pub fn new(catalogue: Arc<Catalogue>, settings: &Settings) -> Self {
        Self { catalogue, schedule: settings.schedule.clone(), timeout: settings.timeout }
    }

    /// The event as every listener gets it: with the fields only that its hook let out when it was published.
    async fn body(&self, delivery: &Delivery) -> Result<Bytes, StoreError> {
        if let Some(body) = delivery.payload.rendered() {
            return Ok(body.clone());
        }
        let logged = &delivery.payload.logged;
        let event = &logged.event;
        let fields = match logged.hook_version {
            // A built-in hook has no versions and lets everything out; what clients alone can read has no fields.
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

/// What is sent of the data; `None` when that is all of it.
fn select(data: &Data, fields: &[payload::Field]) -> Result<Option<Data>, StoreError> {
    // It was checked when it was published.
    let unreadable = || StoreError::Corrupt("an event's data no longer fits the fields of its hook".to_owned());
    let raw: &RawValue = data.as_json().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(unreadable)?;
    payload::select_fields(raw, fields).map_err(|_| unreadable())
}

#[async_trait]
impl Outlet for StandardWebhooks {
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

    fn name(&self, destination: DestinationNo) -> Option<(AppId, String)> {
        self.catalogue.listener_by_no(destination).map(|listener| (listener.app.clone(), listener.id.clone()))
    }

    async fn prepare(&self, batch: &[Delivery], wall: Millis) -> Result<Option<PreparedRequest>, StoreError> {
        // Standard Webhooks knows one event in a request.
        let Some(delivery) = batch.first() else { return Ok(None) };
        let Some(listener) = self.catalogue.listener_by_no(delivery.leased.key.destination) else { return Ok(None) };
        let body = self.body(delivery).await?;
        let event = &delivery.payload.logged.event;
        let seconds = wall.div_euclid(1_000);
        let mut headers = HeaderMap::with_capacity(8 + listener.headers.len());
        for (name, value) in &listener.headers {
            // Checked when it was stored, and again here: what is stored may be older than the rule.
            if check_header(name, value.expose()).is_ok()
                && let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.expose()))
            {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signature = signature::sign(&event.id, seconds, &body, &listener.keys.signing_keys(wall));
        let text = |value: String| HeaderValue::try_from(value).map_err(|e| StoreError::Corrupt(e.to_string()));
        headers.insert(HeaderName::from_static(ID_HEADER), text(event.id.clone())?);
        headers.insert(HeaderName::from_static(TIMESTAMP_HEADER), HeaderValue::from(seconds));
        headers.insert(HeaderName::from_static(SIGNATURE_HEADER), text(signature)?);
        let hook = self.catalogue.hook(&event.app, &event.name);
        let defaults = hook.as_deref().map(|hook| &hook.defaults);
        let timeout = listener.timeout(defaults, self.timeout);
        let delay = listener.schedule(defaults, &self.schedule).delay_after(0).unwrap_or_default();
        Ok(Some(PreparedRequest {
            request: Request {
                method: Method::POST,
                url: listener.url.clone(),
                headers,
                body,
                // Standard Webhooks writes `webhook-id` and its like so.
                title_case: false,
                fresh: false,
            },
            timeout,
            delay,
        }))
    }

    fn judge(&self, _: &Delivery, answer: &Response, wall: Millis) -> Outcome {
        let status = answer.status;
        if status.is_success() {
            return Outcome::Delivered;
        }
        let asked = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Outcome::Refused {
            error: refusal(answer),
            slow_down: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            retry_after: asked.and_then(|value| retry_after(value, wall.div_euclid(1_000))),
            disable: (status == StatusCode::GONE).then_some("gone"),
        }
    }

    fn delay_after(&self, delivery: &Delivery, attempts: u32) -> Option<Duration> {
        let listener = self.catalogue.listener_by_no(delivery.leased.key.destination)?;
        let event = &delivery.payload.logged.event;
        let hook = self.catalogue.hook(&event.app, &event.name);
        let defaults = hook.as_deref().map(|hook| &hook.defaults);
        listener.schedule(defaults, &self.schedule).delay_after(attempts)
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
