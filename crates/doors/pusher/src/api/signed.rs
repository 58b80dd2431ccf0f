//! A request that its app has signed.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tidings_bus::{AppBy, NotServed, check_served};
use tidings_live::{ClientAddr, FailedProof};
use tidings_model::app::{App, AppLimits};
use tidings_model::signed_query::{SignedQuery, decoded, first};

use crate::auth;
use crate::door::PusherDoor;
use crate::limits;
use crate::name::NAME;

use super::refusal::Refusal;

/// A request with a valid signature of the app that it is about.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) app: Arc<App>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The channel or user that the path names; empty where it names none.
    pub(super) name: String,
    uri: Uri,
}

impl Signed {
    /// Reads a request that carries at most `events` events. The signature is checked first: the body of an unsigned
    /// request is not read.
    pub(super) async fn take(
        door: &PusherDoor,
        request: Request,
        events: impl FnOnce(&AppLimits) -> usize,
    ) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let client = parts.extensions.get::<ClientAddr>().copied();
        let (app, name) = named_app(door, &mut parts).await?;
        let query = proven(door, &app, client, &parts)?;
        let body = read(&parts.headers, body, limits::body(app.limits.payload, events(&app.limits))).await?;
        auth::body(&query, &body)
            .inspect_err(|refusal| door.log_rejected(&app, client, refusal))
            .map_err(|refusal| refusal.failed(FailedProof::Signature))?;
        if check_served(&app, NAME).is_err() {
            return Err(Refusal::forbidden("The app is disabled"));
        }
        drop(query);
        Ok(Self { app, headers: parts.headers, body, name, uri: parts.uri })
    }

    /// The parameters of its query.
    pub(super) fn query(&self) -> SignedQuery<'_> {
        // `take` has read the same query, so this does not fail.
        SignedQuery::read(self.uri.query()).unwrap_or_default()
    }
}

/// The app that a request is about, and the channel or user that its path names.
async fn named_app(door: &PusherDoor, parts: &mut Parts) -> Result<(Arc<App>, String), Refusal> {
    let PathParams { tenant, app, name } = PathParams::read(parts).await?;
    let app = match app {
        Some(id) => by_id(door, &id)?,
        None => by_auth_key(door, &parts.uri)?,
    };
    // Below `/a/{app id}` only that app exists.
    let is_shut = check_served(&app, NAME) == Err(NotServed::DoorShut);
    if tenant.is_some_and(|tenant| tenant != app.id.as_str()) || is_shut {
        return Err(unknown_app());
    }
    Ok((app, name))
}

/// Checks a request's signature and returns its query.
fn proven<'p>(
    door: &PusherDoor,
    app: &App,
    client: Option<ClientAddr>,
    parts: &'p Parts,
) -> Result<SignedQuery<'p>, Refusal> {
    let query = SignedQuery::read(parts.uri.query()).map_err(|error| Refusal::bad(error.to_string()))?;
    let now = door.bus().clock().wall_ms();
    auth::request(app, parts.method.as_str(), &signed_paths(parts.uri.path()), &query, now)
        .inspect_err(|refusal| door.log_rejected(app, client, refusal))
        .map_err(|refusal| refusal.failed(FailedProof::Signature))?;
    Ok(query)
}

/// The parameters of a path.
#[derive(Debug, Default)]
struct PathParams {
    tenant: Option<String>,
    app: Option<String>,
    name: String,
}

impl PathParams {
    async fn read(parts: &mut Parts) -> Result<Self, Refusal> {
        let all =
            RawPathParams::from_request_parts(parts, &()).await.map_err(|_| Refusal::bad("The path is not UTF-8"))?;
        let mut named = Self::default();
        for (key, value) in &all {
            match key {
                "app" => named.tenant = Some(value.to_owned()),
                "id" => named.app = Some(value.to_owned()),
                _ => named.name = value.to_owned(),
            }
        }
        Ok(named)
    }
}

fn by_id(door: &PusherDoor, id: &str) -> Result<Arc<App>, Refusal> {
    door.apps().find(AppBy::Id(id)).ok_or_else(unknown_app)
}

/// The app by the query's `auth_key`: the Python library leaves the app out of the path when it ends a user's
/// connections.
fn by_auth_key(door: &PusherDoor, uri: &Uri) -> Result<Arc<App>, Refusal> {
    let key = first(uri.query(), "auth_key");
    let key = key.ok_or_else(|| Refusal::unauthorized("Missing required parameter: auth_key"))?;
    door.apps().find(AppBy::Key(&key)).ok_or_else(|| {
        Refusal::unauthorized(format!("Unknown auth_key: {}", limits::echo(&key))).failed(FailedProof::AppKey)
    })
}

pub(super) fn unknown_app() -> Refusal {
    Refusal::not_found("Unknown app: no app with this id accepts Pusher's API")
}

/// The paths that a client may have signed: the path as it was sent; the path with its escapes decoded, since HTTP
/// clients escape it after some libraries have signed it; and both without our prefix `/a/{app}`, since some libraries
/// do not sign a configured prefix.
fn signed_paths(path: &str) -> Vec<Cow<'_, str>> {
    let own = path.strip_prefix("/a/").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    let sent = std::iter::once(path).chain(own);
    sent.clone().map(Cow::Borrowed).chain(sent.map(decoded).filter(|path| matches!(path, Cow::Owned(_)))).collect()
}

pub(super) async fn read(headers: &HeaderMap, body: axum::body::Body, most: usize) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::too_large(format!("The body exceeds the allowed maximum ({most} bytes)"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > most as u64) {
        return Err(too_large());
    }
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Refusal::bad("The connection closed before the end of the body")),
    }
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    json_body(status, axum::body::Body::from(body.into()))
}

/// A JSON response whose body may be a stream.
pub(super) fn json_body(status: StatusCode, body: axum::body::Body) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
