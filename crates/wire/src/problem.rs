//! HTTP error responses as problem details (RFC 9457), with a code for programs, the invalid field, and a remedy.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

/// A kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// A code for programs; the `type` ends with it as well.
    pub code: &'static str,
    /// The response's status.
    pub status: StatusCode,
    /// The same in every response of this kind (RFC 9457 § 3.1.3).
    pub title: &'static str,
}

impl ProblemKind {
    /// The request cannot be understood.
    pub const INVALID_REQUEST: Self = Self::new("invalid_request", StatusCode::BAD_REQUEST, "Invalid request");
    /// Nothing has this name or path.
    pub const NOT_FOUND: Self = Self::new("not_found", StatusCode::NOT_FOUND, "Not found");
    /// The client has sent too many requests.
    pub const RATE_LIMITED: Self = Self::new("rate_limited", StatusCode::TOO_MANY_REQUESTS, "Rate limited");
    /// The server is overloaded, or at a limit of connections.
    pub const OVERLOADED: Self = Self::new("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Overloaded");

    /// A kind of problem.
    pub const fn new(code: &'static str, status: StatusCode, title: &'static str) -> Self {
        Self { code, status, title }
    }
}

/// The details of one problem. No text of it may contain a secret.
#[derive(Debug, Clone, Copy)]
pub struct ProblemDetails<'a> {
    /// The kind of problem.
    pub kind: ProblemKind,
    /// What is wrong with this request.
    pub detail: &'a str,
    /// The part of the request that is wrong.
    pub field: Option<&'a str>,
    /// What the client, or the operator, can do about it.
    pub remedy: Option<&'a str>,
}

#[derive(Serialize)]
struct Json<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

impl ProblemDetails<'_> {
    /// The response, with `Content-Type` as its only header.
    pub fn response(&self) -> Response<Bytes> {
        let Self { kind: ProblemKind { code, status, title }, detail, field, remedy } = *self;
        let r#type = format!("urn:tidings:problem:{code}");
        let json = Json { r#type, title, status: status.as_u16(), detail, code, field, remedy };
        // Strings and numbers can always be serialized.
        let mut response = Response::new(serde_json::to_vec(&json).unwrap_or_default().into());
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_all_that_is_known() {
        let kind = ProblemKind::OVERLOADED;
        let problem = ProblemDetails { kind, detail: "it took \"long\"", field: None, remedy: Some("try again") };
        let answer = problem.response();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            answer.into_body(),
            r#"{"type":"urn:tidings:problem:overloaded","title":"Overloaded","status":503,"detail":"it took \"long\"","code":"overloaded","remedy":"try again"}"#
        );
        let problem = ProblemDetails { kind, detail: "", field: Some("Host"), remedy: None };
        assert_eq!(
            problem.response().into_body(),
            r#"{"type":"urn:tidings:problem:overloaded","title":"Overloaded","status":503,"detail":"","code":"overloaded","field":"Host"}"#
        );
    }
}
