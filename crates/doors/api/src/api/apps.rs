//! `/v1/apps`: the tenants, for the operator. Those of the config file are read-only.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use tidings_bus::ManageError;

use super::destination;
use crate::auth::{Id, Operator};
use crate::body;
use crate::door::ApiDoor;
use crate::paging::{AppName, List, Paging};
use crate::problem::{Code, Problem};
use crate::query::Query;
use crate::wire::app::{self, Shown};

/// Keeps caches from storing a response that contains a secret.
const NO_STORE: [(http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

pub(super) async fn create(
    State(door): State<ApiDoor>,
    _: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut spec = app::read(&body::other(&headers, body).await?)?;
    app::complete(&mut spec)?;
    destination::check_webhooks(&door, &spec)?;
    let made = door.bus().create_app(spec).await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(Shown::with_secrets(&made))).into_response())
}

pub(super) async fn list(
    State(door): State<ApiDoor>,
    _: Operator,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, Problem> {
    let paging = Paging::<AppName>::read(&Query::read(query.as_deref(), &[])?)?;
    let mut all = door.apps().all();
    all.retain(|app| paging.after.as_ref().is_none_or(|after| app.id.as_str() > after.0.as_str()));
    all.truncate(paging.limit + 1);
    let show = |app: std::sync::Arc<tidings_model::app::App>| {
        let stored = door.apps().stored(app.id.as_str());
        Shown::of(&app, stored.as_deref())
    };
    Ok(Json(paging.page(all, false, |app| AppName(app.id.as_str().to_owned()), show)?))
}

pub(super) async fn one(State(door): State<ApiDoor>, _: Operator, Id(id): Id) -> Result<Json<Shown>, Problem> {
    let app = door.apps().by_id(&id).ok_or_else(|| missing(&id))?;
    Ok(Json(Shown::of(&app, door.apps().stored(&id).as_deref())))
}

pub(super) async fn change(
    State(door): State<ApiDoor>,
    _: Operator,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Shown>, Problem> {
    let change = app::read(&body::other(&headers, body).await?)?;
    if change.get("id").is_some_and(|given| given.as_str() != Some(&id)) {
        return Err(Problem::new(
            Code::InvalidField,
            "an app's id cannot change: everything that belongs to the app refers to it",
        )
        .field("id")
        .remedy("leave it out, or make another app"));
    }
    destination::check_webhooks(&door, &change)?;
    let changed = door.bus().change_app(&id, &change).await.map_err(|error| refused(&id, error))?;
    Ok(Json(Shown::of(&changed.app, Some(&changed))))
}

pub(super) async fn remove(State(door): State<ApiDoor>, _: Operator, Id(id): Id) -> Result<StatusCode, Problem> {
    door.bus().delete_app(&id).await.map_err(|error| refused(&id, error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn refused(id: &str, error: ManageError) -> Problem {
    match error {
        ManageError::Missing(_) => missing(id),
        other => other.into(),
    }
}

fn missing(id: &str) -> Problem {
    Problem::not_found("app", id).remedy("`GET /v1/apps` lists them all")
}
