//! Reads the body of a request, within its limit.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tidings_model::app::App;

use crate::limits;
use crate::problem::{Code, Problem, shown};
use crate::wire::is_json;

/// The body of a request that carries an event of this app.
pub(crate) async fn event(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let payload = app.limits.payload;
    read(headers, body, limits::event_body(payload), || limits::data_remedy(payload)).await
}

/// The body of any other request.
pub(crate) async fn other(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    read(headers, body, limits::BODY, || "send less".to_owned()).await
}

/// Like [`other`]; an empty body counts as `{}`.
pub(crate) async fn optional(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    other(headers, body).await.map(or_empty)
}

fn or_empty(body: Bytes) -> Bytes {
    if body.is_empty() { Bytes::from_static(b"{}") } else { body }
}

/// Like [`event`]; an empty body counts as `{}`.
pub(crate) async fn optional_event(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    event(app, headers, body).await.map(or_empty)
}

async fn read(headers: &HeaderMap, body: Body, most: usize, remedy: impl Fn() -> String) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::TooLarge, format!("the body has more than {most} bytes")).remedy(remedy());
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > most as u64) {
        return Err(too_large());
    }
    let collected = Limited::new(body, most).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            Problem::new(Code::InvalidRequest, "the connection closed before the end of the body")
                .remedy("send it again")
        }
    })?;
    let bytes = collected.to_bytes();
    if !bytes.is_empty() {
        check_type(headers)?;
    }
    Ok(bytes)
}

/// Accepts JSON, and also the content type that `curl -d` sends by default, because its body is most likely JSON.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |what: String| {
        Err(Problem::new(Code::UnsupportedMediaType, what).remedy("send JSON with `Content-Type: application/json`"))
    };
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return refused("the body is encoded, and no encoding is supported".to_owned());
    }
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let given = String::from_utf8_lossy(given.as_bytes());
    let media = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if is_json(&media) || media == "application/x-www-form-urlencoded" || media.is_empty() {
        return Ok(());
    }
    refused(format!("the body is {:?}, not JSON", shown(&media)))
}
