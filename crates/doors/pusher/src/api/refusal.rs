//! A request that is refused: a status, and a text that says why. Pusher's libraries print the text.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use tidings_broker::BrokerError;
use tidings_bus::PublishError;
use tidings_live::FailedProof;
use tidings_model::pattern::NameError;
use tidings_store::StoreError;

use crate::limits;

/// Why, in words.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    retry_after: Option<HeaderValue>,
    /// For who slows down guessing.
    failed: Option<FailedProof>,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None, failed: None }
    }

    /// 400: the request says something that cannot be.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 401: the request isn't proven to be of the app.
    pub(crate) fn unauthorized(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// 403: it is proven whose the request is, and they may not.
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 404: there is no such app or path. Not for channels, which are all there.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 405.
    pub(crate) fn method(text: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, text)
    }

    /// 413.
    pub(crate) fn too_large(text: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// 429: the app publishes more than it may; it may again after so many seconds.
    pub(crate) fn too_many(text: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.into()), ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// 426: the path is for WebSockets.
    pub(crate) fn upgrade(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, text)
    }

    /// As what it is answered.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What it says. Never a secret.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Which proof did not hold.
    pub(crate) fn failed(self, proof: FailedProof) -> Self {
        Self { failed: Some(proof), ..self }
    }

    /// 503: the same may work in a moment.
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        let retry_after = Some(HeaderValue::from_static("1"));
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text) }
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// Why an event cannot be called so, in Pusher's words.
impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::bad(match error {
            NameError::TooLong { .. } => format!("Event name too long: at most {} bytes", limits::EVENT_NAME),
            NameError::Reserved { prefix } => format!("Invalid event name: {prefix:?} is reserved"),
            error => format!("Invalid event name: {error}"),
        })
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Name(error) => error.into(),
            PublishError::Fields { .. } | PublishError::UnknownHook { .. } | PublishError::Store(StoreError::Text) => {
                Self::bad(error.to_string())
            }
            PublishError::IdTaken | PublishError::KeyTaken => Self::new(StatusCode::CONFLICT, error.to_string()),
            PublishError::Live(error) => error.into(),
            PublishError::Failed(_) => Self::unavailable(format!("The event was not taken: {error}")),
            PublishError::Panicked { id, .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("The event could not be published: a bug in the server, which its log shows with {id}"),
            ),
            PublishError::Store(error) if error.is_temporary() || error == StoreError::Closed => {
                Self::unavailable(format!("The event could not be written: {error}"))
            }
            PublishError::Store(error) => {
                tracing::error!(%error, "an event could not be written");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The event could not be written; the server's log says why",
                )
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // Hosted Pusher ends its texts so, and clients' tests compare them whole.
        let mut response = (self.status, self.text + "\n").into_response();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if let Some(proof) = self.failed {
            response.extensions_mut().insert(proof);
        }
        response
    }
}
