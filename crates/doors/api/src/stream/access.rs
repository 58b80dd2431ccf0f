//! Authorizes a stream's channels: a client with the app's public key may read the open channels, a client with a token
//! also those that the token allows, and the app's servers all of them.
//!
//! This verifies API keys and tokens; `bus` checks the channel policy again when the session joins.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use tidings_bus::AppBy;
use tidings_live::{FailedProof, Proof};
use tidings_model::app::App;
use tidings_model::channel::{Member, Position};
use tidings_model::policy::{Access, access};
use tidings_model::token::{Claims, TokenError};

use super::request::{self, Request};
use super::session::{AuthorizedChannel, AuthorizedRequest};
use crate::auth;
use crate::door::ApiDoor;
use crate::limits;
use crate::problem::{Code, Problem, shown};

/// The client that requests a stream.
#[derive(Debug)]
pub(super) struct Reader {
    /// The app whose channels it reads.
    pub(super) app: Arc<App>,
    /// It has authenticated as one of the app's servers.
    pub(super) is_server: bool,
}

impl Reader {
    /// Determines the app, and whether the client is one of the app's servers.
    pub(super) async fn of(door: &ApiDoor, parts: &mut Parts) -> Result<Self, Problem> {
        let key = request::app(parts);
        let named = auth::named_app(parts).await?;
        if parts.headers.contains_key(AUTHORIZATION) {
            let host = || auth::app_of_host(door, parts).map(|app| app.id.as_str().to_owned());
            let named = if key.is_some() { named } else { named.or_else(host) };
            let app = auth::authenticate(door, auth::bearer(parts)?, named.as_deref())?;
            if key.is_some_and(|key| key != app.key) {
                return Err(Problem::new(Code::Forbidden, "the API key belongs to another app than `app` names")
                    .field("app")
                    .remedy("leave `app` out: the API key says which app is meant"));
            }
            return Self { app, is_server: true }.with_door();
        }
        let Some(key) = key else {
            let by_host = auth::app_of_host(door, parts).filter(|_| named.is_none());
            let app = by_host.ok_or_else(|| {
                Problem::new(Code::Unauthorized, "the request names no app")
                    .field("app")
                    .remedy("add the app's public key, as in ?app=KEY; servers send `Authorization: Bearer API_KEY`")
            })?;
            return Self { app, is_server: false }.with_door();
        };
        let app =
            door.apps().find(AppBy::Key(&key)).filter(|app| named.as_deref().is_none_or(|id| id == app.id.as_str()));
        let app = app.ok_or_else(|| {
            Problem::new(Code::UnknownApp, format!("no app has the key {:?}", shown(&key)))
                .field("app")
                .remedy("use the app's `key`; it is public, unlike its secret and its API keys")
                .failed(FailedProof::AppKey)
        })?;
        Self { app, is_server: false }.with_door()
    }

    fn with_door(self) -> Result<Self, Problem> {
        auth::served(&self.app)?;
        Ok(self)
    }
}

/// Reads the request, and checks that the reader may have all of its channels.
pub(super) fn authorize(door: &ApiDoor, reader: &Reader, parts: &Parts) -> Result<AuthorizedRequest, Problem> {
    let app = &reader.app;
    let request = request::read(parts, app.limits.channels_per_session)?;
    let clock = door.bus().clock();
    let wall_now = clock.wall_ms();
    let claims = match &request.token {
        Some(token) => Some(app.tokens.verify(token, wall_now).map_err(invalid_token)?),
        None => None,
    };
    let claims = claims.unwrap_or_default();
    let channels = authorize_channels(reader, &request, &claims)?;
    // The token's expiry is in wall time, and the session's timer in steady time.
    let expires_at = claims.exp.map(|exp| clock.steady_ms().saturating_add(exp.saturating_sub(wall_now)));
    let user: Option<Arc<str>> = claims.sub.as_deref().map(Arc::from);
    let member = member(app, user.as_ref(), claims.info)?;
    Ok(AuthorizedRequest { channels, user, member, expires_at })
}

fn authorize_channels(reader: &Reader, request: &Request, claims: &Claims) -> Result<Vec<AuthorizedChannel>, Problem> {
    let app = &reader.app;
    let mut channels = Vec::with_capacity(request.channels.len());
    for (n, name) in request.channels.iter().enumerate() {
        let options = app.namespaces.options(name);
        let proof = if reader.is_server {
            Proof::Server
        } else {
            match access(name, options) {
                Access::Open => Proof::None,
                Access::Proof if claims.names(name) => Proof::Channel,
                Access::Users(users) if claims.sub.as_deref().is_some_and(|user| users.contains(&user)) => Proof::None,
                other => return Err(refused(name, &other, request.token.is_some())),
            }
        };
        let since: Option<Position> = request.since.get(n).cloned().flatten();
        channels.push(AuthorizedChannel {
            name: name.as_str().into(),
            proof,
            history: options.history_size > 0,
            since,
        });
    }
    let in_cursor = channels.iter().filter(|channel| channel.history).count();
    if in_cursor > limits::CURSOR_CHANNELS {
        return Err(Problem::new(Code::InvalidRequest, format!("{in_cursor} channels that keep history"))
            .field("channels")
            .remedy(format!("name at most {} of them, and open another stream for others", limits::CURSOR_CHANNELS)));
    }
    Ok(channels)
}

fn refused(name: &str, access: &Access<'_>, has_token: bool) -> Problem {
    let name = shown(name);
    let needed = match access {
        Access::Users(_) => format!("{name:?} is for certain users, and the token's `sub` is none of them"),
        _ => format!("{name:?} needs a token, and the token's `channels` do not name it"),
    };
    let remedy = "have the app make a token that does, with `POST /v1/tokens` or its own key, and pass it as `token`";
    if has_token {
        return Problem::new(Code::Forbidden, needed).field("channels").remedy(remedy);
    }
    Problem::new(Code::Unauthorized, format!("{name:?} needs a token, and the request has none")).field("token").remedy(
        "have the app make a token, with `POST /v1/tokens` or its own key; servers send `Authorization: Bearer \
            API_KEY`",
    )
}

fn invalid_token(error: TokenError) -> Problem {
    let (code, proof) = if error == TokenError::Expired {
        (Code::TokenExpired, FailedProof::ExpiredToken)
    } else {
        (Code::Unauthorized, FailedProof::Token)
    };
    Problem::saying(code, error).field("token").failed(proof)
}

/// The member that the reader joins with, if the token has a user and info.
fn member(app: &App, user: Option<&Arc<str>>, info: Option<bytes::Bytes>) -> Result<Option<Arc<Member>>, Problem> {
    let (Some(user), Some(info)) = (user, info) else { return Ok(None) };
    if info.len() > app.limits.member_info {
        return Err(Problem::new(Code::InvalidRequest, format!("the token's info has {} bytes", info.len()))
            .field("token")
            .remedy(format!("show at most {} bytes of a user", app.limits.member_info)));
    }
    Ok(Some(Arc::new(Member { user: Arc::clone(user).into(), info: Some(info) })))
}
