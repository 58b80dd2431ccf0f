//! Authenticates requests by API key: an app's or the operator's, as a bearer token.
//!
//! The app is the one that the path names (`/a/{app id}/…`), else the one that lists the request's host, else the
//! key's; with the operator's key it is the default app. An app's key opens that app and no other. A request without a
//! valid key does not learn which apps exist.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use tidings_bus::{AppBy, CallerError, KeyHolder, NotServed, check_served};
use tidings_live::FailedProof;
use tidings_model::app::App;

use crate::door::ApiDoor;
use crate::name::NAME;
use crate::problem::{Code, Problem};

/// The authenticated caller of a request.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The app that the request is about.
    pub(crate) app: Arc<App>,
}

/// The name or id that ends a path.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) String);

impl FromRequestParts<ApiDoor> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &ApiDoor) -> Result<Self, Problem> {
        let named = named_app(parts).await?.or_else(|| app_of_host(door, parts).map(|app| app.id.as_str().to_owned()));
        let app = authenticate(door, bearer(parts)?, named.as_deref())?;
        served(&app)?;
        Ok(Self { app })
    }
}

/// Checks that the app is enabled and has this door.
pub(crate) fn served(app: &App) -> Result<(), Problem> {
    check_served(app, NAME).map_err(|why| match why {
        NotServed::DoorShut => Problem::new(Code::NotFound, "this app does not have the Tidings API")
            .remedy("list \"api\" in the app's `doors`"),
        NotServed::Disabled => Problem::new(Code::Forbidden, "this app is disabled")
            .remedy("have the operator set `enabled` of the app to true"),
    })
}

/// The operator, authenticated by the operator's key.
#[derive(Debug)]
pub(crate) struct Operator;

impl FromRequestParts<ApiDoor> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &ApiDoor) -> Result<Self, Problem> {
        let holder = door.apps().key_holder(bearer(parts)?, door.operator_key());
        let remedy = "use the operator's key: `admin.operator_key` of the config, or `operator_key` in \
            tidings-data/credentials.toml";
        match holder {
            Some(KeyHolder::Operator) => Ok(Self),
            Some(KeyHolder::App(_)) => {
                Err(Problem::new(Code::Forbidden, "only the operator may see and change apps").remedy(remedy))
            }
            None => {
                Err(Problem::new(Code::Unauthorized, "there is no such key").remedy(remedy).failed(FailedProof::ApiKey))
            }
        }
    }
}

impl FromRequestParts<ApiDoor> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiDoor) -> Result<Self, Problem> {
        Ok(Self(parameter(parts, "id").await?.unwrap_or_default()))
    }
}

/// The id of the app that the path names.
pub(crate) async fn named_app(parts: &mut Parts) -> Result<Option<String>, Problem> {
    parameter(parts, "app").await
}

/// The app that lists the host which the request was sent to.
pub(crate) fn app_of_host(door: &ApiDoor, parts: &Parts) -> Option<Arc<App>> {
    door.apps().find(AppBy::Host(parts.headers.get(HOST)?.to_str().ok()?))
}

async fn parameter(parts: &mut Parts, name: &str) -> Result<Option<String>, Problem> {
    let all = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| Problem::new(Code::InvalidRequest, "the path is not UTF-8").remedy("escape its bytes as UTF-8"))?;
    // No name contains a NUL or its replacement here, and PostgreSQL does not accept a NUL even in a query.
    Ok(all.iter().find(|(found, _)| *found == name).map(|(_, value)| value.replace('\0', "\u{fffd}")))
}

/// A request's bearer token.
pub(crate) fn bearer(parts: &Parts) -> Result<&str, Problem> {
    let how = "send `Authorization: Bearer API_KEY`, with a key of the app or the operator's";
    let given = parts
        .headers
        .get(AUTHORIZATION)
        .ok_or_else(|| Problem::new(Code::Unauthorized, "the request has no API key").remedy(how))?;
    given
        .to_str()
        .ok()
        .and_then(|text| text.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim())
        .ok_or_else(|| Problem::new(Code::Unauthorized, "the Authorization header has no bearer token").remedy(how))
}

/// The app that a key opens. `named` is the app that the request names, if it names one.
pub(crate) fn authenticate(door: &ApiDoor, key: &str, named: Option<&str>) -> Result<Arc<App>, Problem> {
    door.apps().opened_by(key, door.operator_key(), named).map_err(|why| match why {
        CallerError::UnknownKey => Problem::new(Code::Unauthorized, "there is no such key")
            .remedy("use one of the app's `api_keys`, or the operator's key")
            .failed(FailedProof::ApiKey),
        CallerError::UnknownApp => {
            let id = crate::problem::shown(named.unwrap_or_default());
            Problem::new(Code::UnknownApp, format!("there is no app {id:?}"))
                .remedy("name an app of the config in /a/{app id}/v1/…")
        }
        CallerError::OtherApp => {
            Problem::new(Code::Forbidden, "this key belongs to another app than the path or the host names")
                .remedy("use a key of that app; or leave /a/{app id} out, and use a host that no app lists")
        }
        CallerError::NoDefault => Problem::new(Code::UnknownApp, "no app is the default, and the request names none")
            .remedy("name one in the path: /a/{app id}/v1/…"),
    })
}
