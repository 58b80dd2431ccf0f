//! CORS: a page of another origin may read a response if the app lists its origin (Fetch standard, "CORS protocol").

use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use tidings_model::app::App;
use tidings_model::origin;

use super::refusal::Refusal;

/// The allowed headers for a page that does not ask for specific ones. A page may send any header: only the token
/// matters.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");

/// Refuses pages of origins that the app does not list. A request without an origin comes from no page.
pub(super) fn check(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(ORIGIN) {
        Some(given) if allowed(app, given).is_none() => {
            Err(Refusal::forbidden("This page's origin is not among the app's allowed_origins"))
        }
        _ => Ok(()),
    }
}

/// The response to a preflight request.
pub(super) fn preflight(app: &App, headers: &HeaderMap) -> Response {
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allows = [
        (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST")),
        (ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(HEADERS)),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200")),
    ];
    let mut response = (StatusCode::NO_CONTENT, allows).into_response();
    share(app, headers, &mut response);
    response
}

/// Lets the page read the response.
pub(super) fn share(app: &App, headers: &HeaderMap, response: &mut Response) {
    let to = response.headers_mut();
    to.insert(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = headers.get(ORIGIN).and_then(|given| allowed(app, given)) {
        to.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

fn allowed<'a>(app: &App, given: &'a HeaderValue) -> Option<&'a HeaderValue> {
    given.to_str().is_ok_and(|text| origin::is_allowed(&app.allowed_origins, text)).then_some(given)
}
