//! `POST /pusher/auth` and `POST /pusher/user-auth`: auth strings for clients of apps that have no auth endpoint of
//! their own. The client sends a token of the app's, which states its user and the channels it may join.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tidings_bus::{AppBy, NotServed, check_served};
use tidings_live::FailedProof;
use tidings_model::app::App;
use tidings_model::channel::SessionId;
use tidings_model::policy::{canonical, is_encrypted};
use tidings_model::signed_query::{SignedQuery, first};
use tidings_model::signing;
use tidings_model::token::{Claims, TokenError};

use crate::channel::{is_presence, is_valid};
use crate::door::PusherDoor;
use crate::limits;
use crate::name::NAME;
use crate::wire::json::Object;

use super::cors;
use super::refusal::Refusal;
use super::signed::{self, json};

/// Auth strings for channels: for one channel, in the form of an app's own endpoint, or for several by name, in the
/// form of the plugin pusher-js-auth.
pub(super) async fn channels(State(door): State<PusherDoor>, request: Request) -> Response {
    answer(&door, request, |app, wanted, claims| {
        let proof = |channel: &str| channel_proof(app, wanted.session, channel, claims);
        if !wanted.is_list {
            let channel = wanted.channels.first().ok_or_else(|| Refusal::bad("Missing parameter: channel_name"))?;
            return proof(channel).map(|proof| json(StatusCode::OK, proof));
        }
        let mut all = Object::new();
        for channel in &wanted.channels {
            let mut one = Object::new();
            match proof(channel) {
                Ok(proof) => one.raw("status", "200").raw("data", &proof),
                Err(refusal) => one.raw("status", refusal.status().as_str()).text("error", refusal.text()),
            };
            all.raw(channel, &one.end());
        }
        Ok(json(StatusCode::OK, all.end()))
    })
    .await
}

/// The auth string for a sign-in.
pub(super) async fn user(State(door): State<PusherDoor>, request: Request) -> Response {
    answer(&door, request, |app, wanted, claims| {
        let mut data = Object::new();
        data.text("id", subject(claims)?);
        show(&mut data, claims);
        let data = data.end();
        let mut proof = Object::new();
        proof.text("auth", &auth(app, &signing::user_string(&wanted.session.to_string(), &data)));
        proof.text("user_data", &data);
        Ok(json(StatusCode::OK, proof.end()))
    })
    .await
}

async fn answer(
    door: &PusherDoor,
    request: Request,
    give: impl FnOnce(&App, &ProofRequest, &Claims) -> Result<Response, Refusal>,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let app = match app(door, &mut parts).await {
        Ok(app) => app,
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(refusal) = cors::check(&app, &parts.headers) {
        return refusal.into_response();
    }
    if parts.method == Method::OPTIONS {
        return cors::preflight(&app, &parts.headers);
    }
    let given = async {
        let body = signed::read(&parts.headers, body, limits::PROOFS_BODY).await?;
        let wanted = ProofRequest::read(&parts.headers, &body)?;
        let token = wanted.token.as_deref().or_else(|| bearer(&parts.headers)).ok_or_else(|| {
            Refusal::unauthorized("Missing token: send `Authorization: Bearer TOKEN`, or the field `token`")
        })?;
        let now = door.bus().clock().wall_ms();
        let claims = app.tokens.verify(token, now).map_err(|error| {
            let proof = match error {
                TokenError::Expired => FailedProof::ExpiredToken,
                _ => FailedProof::Token,
            };
            Refusal::unauthorized(error.to_string()).failed(proof)
        })?;
        give(&app, &wanted, &claims)
    };
    let mut response = given.await.unwrap_or_else(IntoResponse::into_response);
    cors::share(&app, &parts.headers, &mut response);
    response
}

/// A client's request for auth strings.
#[derive(Debug)]
struct ProofRequest {
    session: SessionId,
    channels: Vec<String>,
    /// The client asks for a list of channels, so the response is by name.
    is_list: bool,
    token: Option<String>,
}

impl ProofRequest {
    /// Reads a form, as pusher-js sends it, or JSON with the same field names.
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::bad("Invalid body: it is not UTF-8"))?;
        let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let (session, one, list, token) = if is_json { Self::of_json(text)? } else { Self::of_form(text)? };
        let is_list = one.is_none() && !list.is_empty();
        let channels: Vec<String> = one.into_iter().chain(list).collect();
        if channels.len() > limits::PROOFS {
            return Err(Refusal::bad(format!("Too many channels: at most {} at a time", limits::PROOFS)));
        }
        let session = session.ok_or_else(|| Refusal::bad("Missing parameter: socket_id"))?;
        let session = session.parse().map_err(|_| {
            Refusal::bad(format!("Invalid socket id: {:?}; send that of the connection", limits::echo(&session)))
        })?;
        Ok(Self { session, channels, is_list, token })
    }

    fn of_form(text: &str) -> Result<ProofFields, Refusal> {
        let form = SignedQuery::read(Some(text)).map_err(|error| Refusal::bad(error.to_string()))?;
        let field = |name| form.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let list = form.list("channel_name").into_iter().map(str::to_owned).collect();
        Ok((field("socket_id"), field("channel_name"), list, field("token")))
    }

    fn of_json(text: &str) -> Result<ProofFields, Refusal> {
        let wrong = |error: serde_json::Error| Refusal::bad(format!("Invalid body: {error}"));
        let body: Value = serde_json::from_str(text).map_err(wrong)?;
        let field = |name| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let names = body.get("channel_name").and_then(Value::as_array).into_iter().flatten();
        let list: Option<_> = names.map(|name| name.as_str().map(str::to_owned)).collect();
        let list = list.ok_or_else(|| Refusal::bad("Invalid channel_name: send a name, or a list of names"))?;
        Ok((field("socket_id"), field("channel_name"), list, field("token")))
    }
}

/// Socket id, one channel, several, token.
type ProofFields = (Option<String>, Option<String>, Vec<String>, Option<String>);

/// The auth string, and `channel_data` if needed, with which a client joins a channel. The token must name the channel.
fn channel_proof(app: &App, session: SessionId, channel: &str, claims: &Claims) -> Result<String, Refusal> {
    if !is_valid(channel) {
        return Err(Refusal::bad(format!("Invalid channel name: {:?}", limits::echo(channel))));
    }
    if !claims.names(&canonical(channel)) {
        return Err(Refusal::forbidden(format!("The token does not name the channel {:?}", limits::echo(channel))));
    }
    if is_encrypted(channel) {
        return Err(Refusal::forbidden(
            "Only the app's own server can let clients into encrypted channels: this one does not have their key",
        ));
    }
    let data = if is_presence(channel) {
        let mut data = Object::new();
        data.text("user_id", subject(claims)?);
        show(&mut data, claims);
        Some(data.end())
    } else {
        None
    };
    let mut proof = Object::new();
    proof.text("auth", &auth(app, &signing::channel_string(&session.to_string(), channel, data.as_deref())));
    if let Some(data) = &data {
        proof.text("channel_data", data);
    }
    Ok(proof.end())
}

fn auth(app: &App, text: &str) -> String {
    format!("{}:{}", app.key, signing::sign_hex(&app.secret, text))
}

fn subject(claims: &Claims) -> Result<&str, Refusal> {
    claims.sub.as_deref().ok_or_else(|| Refusal::forbidden("The token names no user: put their id into `sub`"))
}

fn show(data: &mut Object, claims: &Claims) {
    if let Some(info) = claims.info.as_deref().and_then(|info| std::str::from_utf8(info).ok()) {
        data.raw("user_info", info);
    }
}

/// The app of a request: by the path, else by the key in `?app=`, else by the host, else the default app.
async fn app(door: &PusherDoor, parts: &mut Parts) -> Result<Arc<App>, Refusal> {
    let path = RawPathParams::from_request_parts(parts, &()).await;
    let path = path.map_err(|_| Refusal::bad("The path is not UTF-8"))?;
    let tenant = path.iter().find(|(name, _)| *name == "app").map(|(_, id)| id);
    let host = || parts.headers.get(HOST)?.to_str().ok();
    let apps = door.apps();
    let found = match (tenant, first(parts.uri.query(), "app")) {
        (Some(id), _) => apps.find(AppBy::Id(id)),
        (None, Some(key)) => apps.find(AppBy::Key(&key)),
        (None, None) => host().and_then(|host| apps.find(AppBy::Host(host))).or_else(|| apps.find(AppBy::Default)),
    };
    let app = found.ok_or_else(signed::unknown_app)?;
    match check_served(&app, NAME) {
        Ok(()) => Ok(app),
        Err(NotServed::DoorShut) => Err(signed::unknown_app()),
        Err(NotServed::Disabled) => Err(Refusal::forbidden("The app is disabled")),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
