//! Error answers over HTTP as problem details (RFC 9457), with a code for programs, the field that is wrong, and what
//! to do.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// For programs; the `type` ends with it as well.
    pub code: &'static str,
    /// The answer's status.
    pub status: StatusCode,
    /// The same in every answer of this kind (RFC 9457 § 3.1.3).
    pub title: &'static str,
}

impl ProblemKind {
    /// The request cannot be understood.
    pub const INVALID_REQUEST: Self = Self::new("invalid_request", StatusCode::BAD_REQUEST, "Invalid request");
    /// There is nothing of this name.
    pub const NOT_FOUND: Self = Self::new("not_found", StatusCode::NOT_FOUND, "Not found");
    /// The same client has asked too often.
    pub const RATE_LIMITED: Self = Self::new("rate_limited", StatusCode::TOO_MANY_REQUESTS, "Rate limited");
    /// The server has too much to do, or too many are there.
    pub const OVERLOADED: Self = Self::new("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Overloaded");

    /// A kind of problem.
    pub const fn new(code: &'static str, status: StatusCode, title: &'static str) -> Self {
        Self { code, status, title }
    }
}

/// One problem. None of its texts may hold a secret.
#[derive(Debug, Clone, Copy)]
pub struct ProblemDetails<'a> {
    /// Its kind.
    pub kind: ProblemKind,
    /// What is wrong this time.
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
    /// The answer, with no other header than that of its type.
    pub fn response(&self) -> Response<Bytes> {
        let Self { kind: ProblemKind { code, status, title }, detail, field, remedy } = *self;
        let r#type = format!("urn:tidings:problem:{code}");
        let json = Json { r#type, title, status: status.as_u16(), detail, code, field, remedy };
        // Texts and numbers always can be written.
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
