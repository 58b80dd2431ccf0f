//! `/v1/hooks`: the catalogue of event names.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use tidings_bus::ManageError;
use tidings_model::hook::Hook;

use crate::auth::{Caller, Id};
use crate::body;
use crate::door::ApiDoor;
use crate::paging::{HookName, Paging};
use crate::problem::Problem;
use crate::query::Query;
use crate::wire::hook::{self, Change, Shown};

pub(super) async fn create(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::other(&headers, body).await?;
    let hook = hook::read_new(&body, &app.id, door.bus().clock().wall_ms())?;
    let hook = door.bus().create_hook(hook).await?;
    Ok((StatusCode::CREATED, Json(Shown::from(&*hook))).into_response())
}

pub(super) async fn list(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let paging = Paging::<HookName>::read(&Query::read(query.as_deref(), &[])?)?;
    let after = paging.after.as_ref().map(|name| name.0.as_str());
    let page = door.bus().catalogue().hooks(&app.id, after, paging.limit);
    let (more, hooks) = (page.next.is_some(), page.data.iter());
    let list = paging.page(hooks, more, |hook| HookName(hook.name.clone()), |hook| Shown::from(&**hook))?;
    Ok(Json(list).into_response())
}

pub(super) async fn one(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(name): Id,
) -> Result<Response, Problem> {
    // Built-in hooks have version 0; they cannot be changed and are not listed.
    let hook = door.bus().catalogue().hook(&app.id, &name).filter(|hook| hook.version > 0);
    let hook: Arc<Hook> = hook.ok_or_else(|| missing(&door, &app.id, &name))?;
    Ok(Json(Shown::from(&*hook)).into_response())
}

pub(super) async fn change(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(name): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::other(&headers, body).await?;
    let change = Change::read(&body, &name)?;
    let apply = |hook: &mut Hook| {
        change.apply(hook);
        Ok(())
    };
    let changed = door.bus().change_hook(&app.id, &name, &apply).await;
    let hook = changed.map_err(|error| refused(&door, &app.id, &name, error))?;
    Ok(Json(Shown::from(&*hook)).into_response())
}

pub(super) async fn remove(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(name): Id,
) -> Result<StatusCode, Problem> {
    let removed = door.bus().delete_hook(&app.id, &name).await;
    removed.map_err(|error| refused(&door, &app.id, &name, error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn refused(door: &ApiDoor, app: &tidings_model::id::AppId, name: &str, error: ManageError) -> Problem {
    match error {
        ManageError::Missing(_) => missing(door, app, name),
        other => other.into(),
    }
}

fn missing(door: &ApiDoor, app: &tidings_model::id::AppId, name: &str) -> Problem {
    let problem = Problem::not_found("hook", name);
    match door.bus().catalogue().nearest_hook(app, name).filter(|nearest| nearest != name) {
        Some(nearest) => problem.remedy(format!("did you mean {nearest:?}? `GET /v1/hooks` lists them all")),
        None => problem.remedy("`GET /v1/hooks` lists them all"),
    }
}
