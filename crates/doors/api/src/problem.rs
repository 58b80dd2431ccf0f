//! Refusals: RFC 9457 problem details, with a code for programs, the invalid field, and a remedy.
//!
//! Texts never contain a secret or a header's value. Internal errors are logged here, once, and not shown to the
//! caller.

use std::fmt::Display;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use tidings_broker::BrokerError;
use tidings_bus::{ManageError, PublishError};
use tidings_live::FailedProof;
use tidings_model::excerpt;
use tidings_model::payload::FieldTypeError;
use tidings_store::StoreError;
use tidings_wire::{ProblemDetails, ProblemKind};

/// The error codes for programs. `docs/api.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidJson,
    InvalidRequest,
    Unauthorized,
    TokenExpired,
    Forbidden,
    NotFound,
    UnknownApp,
    MethodNotAllowed,
    UnsupportedMediaType,
    Exists,
    Conflict,
    InUse,
    IdTaken,
    IdempotencyKeyTaken,
    TooLarge,
    InvalidField,
    UnknownField,
    MissingField,
    UnknownHook,
    BlockedAddress,
    LimitReached,
    RateLimited,
    Internal,
    StoreFull,
    StoreLocked,
    StoreUnreachable,
    StoreUnusable,
    Overloaded,
    Closing,
}

impl Code {
    /// The code's text, with its status and title.
    fn kind(self) -> ProblemKind {
        let new = ProblemKind::new;
        match self {
            Self::InvalidJson => new("invalid_json", StatusCode::BAD_REQUEST, "Invalid JSON"),
            Self::InvalidRequest => ProblemKind::INVALID_REQUEST,
            Self::Unauthorized => new("unauthorized", StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::TokenExpired => new("token_expired", StatusCode::UNAUTHORIZED, "Token expired"),
            Self::Forbidden => new("forbidden", StatusCode::FORBIDDEN, "Forbidden"),
            Self::NotFound => ProblemKind::NOT_FOUND,
            Self::UnknownApp => new("unknown_app", StatusCode::NOT_FOUND, "Unknown app"),
            Self::MethodNotAllowed => new("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Self::UnsupportedMediaType => {
                new("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")
            }
            Self::Exists => new("exists", StatusCode::CONFLICT, "Exists already"),
            Self::Conflict => new("conflict", StatusCode::CONFLICT, "Conflict"),
            Self::InUse => new("in_use", StatusCode::CONFLICT, "In use"),
            Self::IdTaken => new("id_taken", StatusCode::CONFLICT, "Id taken"),
            Self::IdempotencyKeyTaken => new("idempotency_key_taken", StatusCode::CONFLICT, "Idempotency key taken"),
            Self::TooLarge => new("too_large", StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
            Self::InvalidField => new("invalid_field", StatusCode::UNPROCESSABLE_ENTITY, "Invalid field"),
            Self::UnknownField => new("unknown_field", StatusCode::UNPROCESSABLE_ENTITY, "Unknown field"),
            Self::MissingField => new("missing_field", StatusCode::UNPROCESSABLE_ENTITY, "Missing field"),
            Self::UnknownHook => new("unknown_hook", StatusCode::UNPROCESSABLE_ENTITY, "Unknown hook"),
            Self::BlockedAddress => new("blocked_address", StatusCode::UNPROCESSABLE_ENTITY, "Blocked address"),
            Self::LimitReached => new("limit_reached", StatusCode::UNPROCESSABLE_ENTITY, "Limit reached"),
            Self::RateLimited => ProblemKind::RATE_LIMITED,
            Self::Internal => new("internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
            Self::StoreFull => new("store_full", StatusCode::SERVICE_UNAVAILABLE, "Store full"),
            Self::StoreLocked => new("store_locked", StatusCode::SERVICE_UNAVAILABLE, "Store locked"),
            Self::StoreUnreachable => new("store_unreachable", StatusCode::SERVICE_UNAVAILABLE, "Store unreachable"),
            Self::StoreUnusable => new("store_unusable", StatusCode::SERVICE_UNAVAILABLE, "Store unusable"),
            Self::Overloaded => ProblemKind::OVERLOADED,
            Self::Closing => new("closing", StatusCode::SERVICE_UNAVAILABLE, "Closing"),
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    field: Option<String>,
    remedy: Option<String>,
    /// Seconds after which the same request may succeed.
    retry_after: Option<u64>,
    /// The wrong credential, for the accept loop, which slows down guessing.
    failed: Option<FailedProof>,
}

impl Problem {
    /// A refusal; `detail` says in one sentence what is wrong.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None, remedy: None, retry_after: None, failed: None }
    }

    /// A refusal with an error's text, which says what is wrong and, after its last semicolon, what to do.
    pub(crate) fn saying(code: Code, error: impl Display) -> Self {
        let text = error.to_string();
        match text.rsplit_once("; ") {
            Some((detail, remedy)) => Self::new(code, detail).remedy(remedy),
            None => Self::new(code, text),
        }
    }

    /// The part of the request that is wrong.
    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// What to do about it.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What to do about it, unless a remedy is already set.
    pub(crate) fn or_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy.get_or_insert_with(|| remedy.into());
        self
    }

    /// Notes which credential was wrong.
    pub(crate) fn failed(mut self, proof: FailedProof) -> Self {
        self.failed = Some(proof);
        self
    }

    /// After how many seconds to try again; at least one.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// A refusal because nothing has this name.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {:?}", shown(name)))
    }
}

/// The beginning of a caller's text, for errors that quote it.
pub(crate) fn shown(text: &str) -> String {
    excerpt(text).to_owned()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let details = ProblemDetails {
            kind: self.code.kind(),
            detail: &self.detail,
            field: self.field.as_deref(),
            remedy: self.remedy.as_deref(),
        };
        let mut response = details.response().map(Body::from);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self.code, Code::Unauthorized | Code::TokenExpired) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidings\""));
        }
        if let Some(proof) = self.failed {
            response.extensions_mut().insert(proof);
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let refused = |code| Self::saying(code, &error);
        match &error {
            StoreError::Full => refused(Code::StoreFull).retry_after(30),
            StoreError::Locked => refused(Code::StoreLocked).retry_after(5),
            StoreError::Overloaded => refused(Code::Overloaded).retry_after(1),
            StoreError::TooSlow => refused(Code::Overloaded).retry_after(5),
            StoreError::Unreachable(_) => {
                tracing::error!(%error, "the store failed a request");
                Self::new(Code::StoreUnreachable, "the database cannot be reached now")
                    .remedy("send it again after `Retry-After`; with the same Idempotency-Key it happens once")
                    .retry_after(2)
            }
            StoreError::Displaced(_) | StoreError::UnreadableCatalogue(_) => {
                tracing::error!(%error, "the store failed a request");
                Self::new(Code::StoreUnusable, "the store cannot be used until the operator has repaired it")
                    .remedy(
                        "the server's log shows what is wrong; send it again with the same Idempotency-Key when \
                        that is fixed",
                    )
                    .retry_after(30)
            }
            StoreError::Closed => Self::new(Code::Closing, "the server is stopping")
                .remedy("send it again shortly; with the same Idempotency-Key it happens once")
                .retry_after(1),
            StoreError::Exists => refused(Code::Exists),
            StoreError::Missing => refused(Code::NotFound),
            StoreError::Conflict => refused(Code::Conflict),
            StoreError::Text => refused(Code::InvalidField),
            StoreError::Corrupt(_)
            | StoreError::NewerSchema { .. }
            | StoreError::Sealed
            | StoreError::OtherMainKey(_)
            | StoreError::Taken { .. }
            | StoreError::HardLink(_)
            | StoreError::Fanout { .. }
            | StoreError::Panicked(_)
            | StoreError::Database(_) => {
                tracing::error!(%error, "the store failed a request");
                Self::new(Code::Internal, "the store failed").remedy("the server's log says why")
            }
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        Self::new(Code::Overloaded, error.to_string()).remedy("send it again after `Retry-After`").retry_after(1)
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::UnknownHook { name, nearest } => unknown_hook(&name, nearest).field("name"),
            PublishError::Name(error) => Self::saying(Code::InvalidField, error).field("name"),
            PublishError::Fields { hook, source } => {
                let field = match &source {
                    FieldTypeError::NotAnObject(_) => "data".to_owned(),
                    FieldTypeError::WrongType { field, .. } => format!("data.{}", shown(field)),
                };
                Self::saying(Code::InvalidField, without_place(&source.to_string()))
                    .field(field)
                    .or_remedy(format!("`GET /v1/hooks/{hook}` shows the fields that are declared"))
            }
            PublishError::IdTaken => Self::new(Code::IdTaken, error.to_string())
                .field("id")
                .remedy("take another id, or leave it out to have one made"),
            PublishError::KeyTaken => Self::new(Code::IdempotencyKeyTaken, error.to_string())
                .field("Idempotency-Key")
                .remedy("take a new key for each new request"),
            PublishError::Failed(_) => Self::new(Code::Closing, "the server has failed, and takes no more events")
                .remedy(
                    "send it again when the server has been restarted; with the same Idempotency-Key it happens once",
                )
                .retry_after(5),
            PublishError::Panicked { id, .. } => Self::new(Code::Internal, "a bug in the server: publishing panicked")
                .remedy(format!(
                    "the server's log shows it with {id}; `GET /v1/events/{id}` shows whether the event was stored"
                )),
            PublishError::Store(error) => error.into(),
            PublishError::Live(error) => error.into(),
        }
    }
}

impl From<ManageError> for Problem {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Exists(name) => Self::new(Code::Exists, format!("{:?} exists already", shown(&name)))
                .field("name")
                .remedy("take another name, or change that one with PATCH"),
            ManageError::Missing(name) => Self::new(Code::NotFound, format!("there is no {:?}", shown(&name))),
            ManageError::Conflict => Self::saying(Code::Conflict, error),
            ManageError::Fixed(id) => Self::new(
                Code::Conflict,
                format!("the app {:?} is not in the store, and is read-only here", shown(&id)),
            )
            .remedy(
                "change `[[apps]]` in the config file, and restart the server; without one, `tidings init` beside the \
                server writes one that holds the app of the first start",
            ),
            ManageError::WrongApp(problems) => {
                let first = problems.into_iter().next();
                let (field, message) = first.map_or_else(Default::default, |wrong| (wrong.field, wrong.message));
                let problem =
                    Self::new(Code::InvalidField, message).remedy("docs/configuration.md says what an app can have");
                if field.is_empty() { problem } else { problem.field(field) }
            }
            ManageError::Apps(error) => Self::new(Code::Exists, error.to_string())
                .remedy("ids, keys, API keys and hosts belong to one app each; take another, or change the other app"),
            ManageError::OfApp(id) => {
                Self::new(Code::Conflict, format!("the listener {:?} is one of the app's webhooks", shown(&id)))
                    .remedy("change `webhooks` of the app: in the config (`[[apps.webhooks]]`)")
            }
            ManageError::InUse { listeners } => {
                let who =
                    if listeners == 1 { "a listener names".to_owned() } else { format!("{listeners} listeners name") };
                Self::new(Code::InUse, format!("{who} this hook"))
                    .remedy("take it out of their hooks first; `GET /v1/listeners?hook=` lists them")
            }
            ManageError::UnknownHook { index, name, nearest } => {
                unknown_hook(&name, nearest).field(format!("hooks[{index}]"))
            }
            ManageError::Limit { what, limit } => {
                Self::new(Code::LimitReached, format!("the app is at its limit of {limit} {what}"))
                    .remedy(format!("delete some, or raise apps.limits.{what} in the config"))
            }
            ManageError::Budget { what, used, more, limit } => {
                let of = if what == "matches" { "matches" } else { "hooks and listeners" };
                let [used, more, limit] = [used, more, limit].map(size);
                let problem = Self::new(
                    Code::LimitReached,
                    format!("the app's {of} may take {limit} of memory; {used} are used, and this takes {more} more"),
                )
                .remedy(format!("delete or shorten some, or raise apps.limits.{what} in the config"));
                if what == "matches" { problem.field("match") } else { problem }
            }
            ManageError::Store(error) => error.into(),
        }
    }
}

/// The refusal of an unknown hook, with the name that was probably meant.
fn unknown_hook(name: &str, nearest: Option<String>) -> Problem {
    let all = "`GET /v1/hooks` lists them all";
    let remedy = nearest.map_or_else(
        || format!("make it with `POST /v1/hooks` first; {all}"),
        |nearest| format!("did you mean {nearest:?}? {all}"),
    );
    Problem::new(Code::UnknownHook, format!("there is no hook {:?}", shown(name))).remedy(remedy)
}

/// A number of bytes, for error texts.
fn size(bytes: usize) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=9_999_999 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// An error's text without the place that it begins with: the response has the place as its `field`.
pub(crate) fn without_place(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, rest)| rest)
}
