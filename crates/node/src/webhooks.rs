//! The courier's outlet to listeners: what webhooks of all formats have in common, and the trait for doors' formats.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use tidings_bus::{Apps, Catalogue};
use tidings_courier::egress::{Request, Response};
use tidings_courier::{Delivery, DestinationPolicy, Host, Outcome, Outlet, PreparedRequest, Settings};
use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::{Format, Listener, check_header};
use tidings_model::retry_after::retry_after;
use tidings_store::StoreError;

/// What doors build their [`WebhookFormat`]s from.
#[derive(Debug)]
pub struct WebhookParts<'p> {
    /// The apps (tenants).
    pub apps: &'p Arc<Apps>,
    /// Hooks and listeners.
    pub catalogue: &'p Arc<Catalogue>,
    /// Limits and timeouts of deliveries.
    pub settings: &'p Settings,
}

/// A request's body, and the spelling of its header names.
#[derive(Debug)]
pub struct Rendered {
    /// The body.
    pub body: Bytes,
    /// Whether header names are written `Like-This`, because some receivers require that spelling.
    pub title_case: bool,
}

/// A webhook format: how requests are written and signed, what responses mean, and when deliveries are retried.
#[async_trait]
pub trait WebhookFormat: Send + Sync {
    /// The largest number of deliveries in one request to the listener.
    fn batch(&self, _listener: &Listener) -> usize {
        1
    }

    /// Writes and signs a request for an attempt at `wall` time. `headers` has the listener's own headers; those of the
    /// format replace them. `None`: the listener is gone.
    ///
    /// # Errors
    /// When the store could not be read; the deliveries are put back.
    async fn render(
        &self,
        batch: &[Delivery],
        listener: &Listener,
        wall: Millis,
        headers: &mut HeaderMap,
    ) -> Result<Option<Rendered>, StoreError>;

    /// Describes a response that is not a success, for people, and says why the listener is to be disabled, if it is.
    fn refusal(&self, answer: &Response) -> (String, Option<&'static str>);

    /// The timeout of a whole attempt of this delivery.
    fn timeout(&self, delivery: &Delivery, listener: &Listener) -> Duration;

    /// The delay before the next attempt, after `attempts` that count; `None` when the schedule is exhausted.
    fn delay_after(&self, delivery: &Delivery, listener: &Listener, attempts: u32) -> Option<Duration>;
}

/// A format's name, as listeners have it, and the format.
pub type NamedFormat = (Format, Arc<dyn WebhookFormat>);

/// The outlet to all listeners.
pub(crate) struct Webhooks {
    catalogue: Arc<Catalogue>,
    formats: Vec<NamedFormat>,
}

impl Webhooks {
    pub(crate) fn new(catalogue: Arc<Catalogue>, formats: Vec<NamedFormat>) -> Self {
        Self { catalogue, formats }
    }

    /// The listener's format; `None` if no door has it, as after a downgrade.
    fn format(&self, listener: &Listener) -> Option<&dyn WebhookFormat> {
        let known = self.formats.iter().find(|(name, _)| *name == listener.format);
        known.map(|(_, format)| &**format)
    }

    fn find(&self, destination: DestinationNo) -> Option<(Arc<Listener>, &dyn WebhookFormat)> {
        let listener = self.catalogue.listener_by_no(destination)?;
        let format = self.format(&listener)?;
        Some((listener, format))
    }
}

#[async_trait]
impl Outlet for Webhooks {
    fn policy(&self, destination: DestinationNo) -> DestinationPolicy {
        match self.catalogue.listener_by_no(destination) {
            None => DestinationPolicy::Gone,
            // Without its format the listener counts as disabled: its deliveries wait until a door has the format.
            Some(listener) if !listener.enabled() || self.format(&listener).is_none() => DestinationPolicy::Disabled,
            Some(listener) => DestinationPolicy::Open {
                concurrency: listener.concurrency,
                rate: listener.rate,
                host: Some(Host::of(&listener.url)),
            },
        }
    }

    fn batch(&self, destination: DestinationNo) -> usize {
        self.find(destination).map_or(1, |(listener, format)| format.batch(&listener).max(1))
    }

    fn name(&self, destination: DestinationNo) -> Option<(AppId, String)> {
        self.catalogue.listener_by_no(destination).map(|listener| (listener.app.clone(), listener.id.clone()))
    }

    async fn prepare(&self, batch: &[Delivery], wall: Millis) -> Result<Option<PreparedRequest>, StoreError> {
        let Some(first) = batch.first() else { return Ok(None) };
        let destination = first.leased.key.destination;
        if self.catalogue.listener_by_no(destination).is_none() {
            // The listener may have been created on another node just now.
            self.catalogue.sync().await?;
        }
        let Some((listener, format)) = self.find(destination) else { return Ok(None) };
        let mut headers = own_headers(&listener);
        let Some(rendered) = format.render(batch, &listener, wall, &mut headers).await? else { return Ok(None) };
        let Rendered { body, title_case } = rendered;
        let (method, url) = (Method::POST, listener.url.clone());
        Ok(Some(PreparedRequest {
            request: Request { method, url, headers, body, title_case, fresh: false },
            timeout: format.timeout(first, &listener),
            delay: format.delay_after(first, &listener, 0).unwrap_or_default(),
        }))
    }

    fn judge(&self, delivery: &Delivery, answer: &Response, wall: Millis) -> Outcome {
        let status = answer.status;
        if status.is_success() {
            return Outcome::Delivered;
        }
        let asked = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let (error, disable) = match self.find(delivery.leased.key.destination) {
            Some((_, format)) => format.refusal(answer),
            // The listener was deleted while the request was in flight.
            None => (format!("answered {status}"), None),
        };
        Outcome::Refused {
            error,
            slow_down: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            retry_after: asked.and_then(|value| retry_after(value, wall.div_euclid(1_000))),
            disable,
        }
    }

    fn delay_after(&self, delivery: &Delivery, attempts: u32) -> Option<Duration> {
        let (listener, format) = self.find(delivery.leased.key.destination)?;
        format.delay_after(delivery, &listener, attempts)
    }
}

/// The listener's own headers.
fn own_headers(listener: &Listener) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8 + listener.headers.len());
    for (name, value) in &listener.headers {
        // Checked when the listener was stored, and again here, because stored headers may be older than the rules.
        if check_header(name, value.expose()).is_ok()
            && let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.expose()))
        {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    headers
}
