//! The response to a refused request: a status, and a text with the reason. Pusher's libraries print the text.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use tidings_broker::BrokerError;
use tidings_bus::PublishError;
use tidings_live::FailedProof;
use tidings_model::pattern::NameError;
use tidings_store::StoreError;

use crate::limits;

/// The response to a refused request.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    retry_after: Option<HeaderValue>,
    /// The wrong credential, for the accept loop, which slows down guessing.
    failed: Option<FailedProof>,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None, failed: None }
    }

    /// 400: the request is invalid.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 401: the request has no valid signature or token of the app.
    pub(crate) fn unauthorized(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// 403: the request is authenticated, but not allowed.
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 404: there is no such app or path. Not for channels: every channel exists.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 405: the path does not allow the method.
    pub(crate) fn method(text: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, text)
    }

    /// 413: the body or the event's data is too large.
    pub(crate) fn too_large(text: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// 429: the app is over its publish rate; it may publish again after this many seconds.
    pub(crate) fn too_many(text: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.into()), ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// 426: the path is for WebSockets.
    pub(crate) fn upgrade(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, text)
    }

    /// The response's status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The response's text. It never contains a secret.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Notes which credential was wrong.
    pub(crate) fn failed(self, proof: FailedProof) -> Self {
        Self { failed: Some(proof), ..self }
    }

    /// 503: a retry may succeed.
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

/// An invalid event name, in Pusher's words.
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
            PublishError::Failed(_) => Self::unavailable(format!("The event was not accepted: {error}")),
            PublishError::Panicked { id, .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("The event could not be published: a bug in the server, which its log shows with {id}"),
            ),
            PublishError::Store(error) if error.is_temporary() || error == StoreError::Closed => {
                Self::unavailable(format!("The event could not be written: {error}"))
            }
            PublishError::Store(error) => {
                tracing::error!(%error, "writing an event to the store failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The event could not be written; the server's log shows why",
                )
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // Hosted Pusher ends its texts with a newline, and clients' tests compare them whole.
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
