//! `GET /v1/stream`: channel messages as Server-Sent Events, for browsers and for anything that reads lines.
//!
//! `request` reads the request, `access` authorizes it, `session` is the live session, `cursor` its progress. This file
//! is the HTTP around it, with CORS for pages of other origins (the Fetch standard, "CORS protocol").

mod access;
pub(crate) mod cursor;
mod request;
mod session;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, TRANSFER_ENCODING, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use tidings_live::{ClientAddr, ConnHandle, NotAdmitted, Refused};
use tidings_model::app::App;
use tidings_model::origin;
use tidings_supervisor::RequestId;

use crate::door::ApiDoor;
use crate::problem::{Code, Problem};
use crate::wire::stream::Framing;
use access::Reader;
use session::{RESTART_RETRY, StreamSession};

/// The request headers that a script of another origin may send.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, cache-control, last-event-id");
/// How long a browser caches the response to a preflight request, in seconds.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");
/// Tells nginx and similar proxies not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Responds with the stream.
pub(crate) async fn open(State(door): State<ApiDoor>, mut parts: Parts) -> Response {
    let reader = match Reader::of(&door, &mut parts).await {
        Ok(reader) => reader,
        Err(problem) => return problem.into_response(),
    };
    let client = parts.extensions.get::<ClientAddr>().copied();
    let refuse = |problem: Problem| {
        let mut answer = problem.into_response();
        share(&reader.app, &parts.headers, &mut answer);
        answer
    };
    let request = match allowed(&door, &reader, &parts).and_then(|()| access::authorize(&door, &reader, &parts)) {
        Ok(request) => request,
        Err(problem) => return refuse(problem),
    };
    let permit = match door.admit(&reader.app, client) {
        Ok(permit) => Some(permit),
        Err(NotAdmitted::Stopping) => None,
        Err(NotAdmitted::App | NotAdmitted::Node) => return refuse(full()),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    let mut answer = headers.into_response();
    share(&reader.app, &parts.headers, &mut answer);
    let Some(permit) = permit else {
        // A refusal would end an EventSource for good; after this response it reconnects by itself.
        *answer.body_mut() = Body::from(Framing::None.close("going_away", Some(RESTART_RETRY)));
        return answer;
    };
    // The session of a GET takes over its connection, and then takes as little memory as a WebSocket's.
    let handle = parts.extensions.remove::<ConnHandle>().filter(|_| parts.method == Method::GET);
    let app = Arc::clone(&reader.app);
    if let Some(socket) = handle.and_then(|handle| handle.take()) {
        let (mut head, _) = answer.into_parts();
        let framing = if parts.version < Version::HTTP_11 { Framing::None } else { Framing::Chunks };
        if framing == Framing::Chunks {
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        // This answer does not go back through who writes the id into all others.
        if let Some(id) = RequestId::current().and_then(|id| HeaderValue::try_from(id.as_str()).ok()) {
            head.headers.insert(RequestId::HEADER, id);
        }
        door.live().attach_stream(permit, app, socket, &head, Box::new(StreamSession::new(request, framing)));
        // This response is never sent: the connection is taken.
        return Response::default();
    }
    *answer.body_mut() =
        Body::new(door.live().open_stream(permit, app, Box::new(StreamSession::new(request, Framing::None))));
    answer
}

fn full() -> Problem {
    Problem::new(Code::Overloaded, "the limit of live sessions is reached")
        .remedy("try again after `Retry-After`, or raise `apps.limits.sessions` or `live.sessions` in the config")
        .retry_after(5)
}

/// Tells a browser what a script of another origin may request.
pub(crate) async fn preflight(State(door): State<ApiDoor>, mut parts: Parts) -> Response {
    let reader = match Reader::of(&door, &mut parts).await {
        Ok(reader) => reader,
        Err(problem) => return problem.into_response(),
    };
    if let Err(problem) = allowed(&door, &reader, &parts) {
        return problem.into_response();
    }
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET")),
        (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE),
    ];
    let mut answer = (StatusCode::NO_CONTENT, headers).into_response();
    share(&reader.app, &parts.headers, &mut answer);
    answer
}

/// Refuses pages of origins that the app does not list. A request without an origin comes from no page.
fn allowed(door: &ApiDoor, reader: &Reader, parts: &Parts) -> Result<(), Problem> {
    let Some(given) = parts.headers.get(ORIGIN).filter(|_| !reader.is_server) else { return Ok(()) };
    if given.to_str().is_ok_and(|given| origin::is_allowed(&reader.app.allowed_origins, given)) {
        return Ok(());
    }
    let client = parts.extensions.get().map(|ClientAddr(client)| *client);
    door.live().refused(Some(&reader.app.id), Refused::Origin, client);
    Err(Problem::new(Code::Forbidden, "pages of this origin may not connect")
        .field("Origin")
        .remedy("add it to the app's `allowed_origins` in the config"))
}

/// Lets the page read the response, if the app lists its origin. A page that uses `withCredentials` may read it too,
/// which is safe because cookies are ignored; for that the header must name the origin.
fn share(app: &Arc<App>, headers: &HeaderMap, answer: &mut Response) {
    let to = answer.headers_mut();
    to.insert(VARY, HeaderValue::from_static("origin"));
    if let Some(given) = headers.get(ORIGIN)
        && given.to_str().is_ok_and(|given| origin::is_allowed(&app.allowed_origins, given))
    {
        to.insert(ACCESS_CONTROL_ALLOW_ORIGIN, given.clone());
        to.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}
