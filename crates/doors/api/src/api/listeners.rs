//! `/v1/listeners`: the URLs that receive events.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use tidings_bus::ManageError;
use tidings_model::app::App;
use tidings_model::clock::{Millis, millis, rfc3339};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo};
use tidings_model::listener::Listener;
use tidings_model::pattern::is_reserved;
use tidings_store::StoreError;

use super::destination;
use crate::auth::{Caller, Id};
use crate::body;
use crate::door::ApiDoor;
use crate::paging::{ListenerId, Paging};
use crate::problem::{Code, Problem};
use crate::query::Query;
use crate::wire::event::{self, Tested};
use crate::wire::listener::{self, Change, DeclaredBy, Rotated, Rotation, Shown};

/// Keeps caches from storing a response that contains a secret.
const NO_STORE: [(http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

pub(super) async fn create(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::other(&headers, body).await?;
    let now = door.bus().clock().wall_ms();
    let listener =
        compiling(&door, &app.id, move |app, declared| listener::read_new(&body, app, now, declared)).await?;
    destination::check(&door, &listener.url, "url")?;
    let warnings = listener.filter.warnings().to_vec();
    let listener = door.bus().create_listener(listener).await?;
    let shown = Shown::with_secret(&listener).with_warnings(&warnings);
    Ok((StatusCode::CREATED, NO_STORE, Json(shown)).into_response())
}

pub(super) async fn list(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::read(query.as_deref(), &["hook", "owner", "enabled"])?;
    let paging = Paging::<ListenerId>::read(&query)?;
    let (hook, owner, enabled) = (query.get("hook"), query.get("owner"), query.flag("enabled")?);
    let wanted = |listener: &Listener| {
        hook.is_none_or(|hook| wants(listener, hook))
            && owner.is_none_or(|owner| listener.owner.as_deref() == Some(owner))
            && enabled.is_none_or(|enabled| listener.enabled() == enabled)
    };
    let after = paging.after.as_ref().map(|id| id.0.as_str());
    let page = door.bus().catalogue().listeners(&app.id, after, paging.limit, wanted);
    let failing = failing(&door, &page.data).await?;
    let (more, listeners) = (page.next.is_some(), page.data.iter());
    let list = paging.page(
        listeners,
        more,
        |listener| ListenerId(listener.id.clone()),
        |listener| Shown::of(listener, failing.get(&listener.no).copied()),
    )?;
    Ok(Json(list).into_response())
}

pub(super) async fn one(State(door): State<ApiDoor>, Caller { app }: Caller, Id(id): Id) -> Result<Response, Problem> {
    let listener = find(&door, &app, &id)?;
    let failing = failing(&door, [&listener]).await?;
    Ok(Json(Shown::of(&listener, failing.get(&listener.no).copied())).into_response())
}

pub(super) async fn change(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::other(&headers, body).await?;
    let before = find(&door, &app, &id)?;
    let change = compiling(&door, &app.id, move |_, declared| Change::read(&body, &before, declared)).await?;
    if let Some(url) = change.url() {
        destination::check(&door, url, "url")?;
    }
    let now = door.bus().clock().wall_ms();
    let apply = |listener: &mut Listener| {
        change.apply(listener, now);
        Ok(())
    };
    let changed = door.bus().change_listener(&app.id, &id, &apply).await;
    let listener = changed.map_err(|error| refused(&id, error))?;
    let failing = failing(&door, [&listener]).await?;
    let shown = Shown::of(&listener, failing.get(&listener.no).copied()).with_warnings(&change.warnings);
    Ok(Json(shown).into_response())
}

pub(super) async fn remove(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    door.bus().delete_listener(&app.id, &id).await.map_err(|error| refused(&id, error))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rotate_secret(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    find(&door, &app, &id)?;
    let body = body::optional(&headers, body).await?;
    let Rotation { secret, grace } = Rotation::read(&body)?;
    // Signatures and their receivers use the wall clock.
    let now = door.bus().clock().wall_ms();
    let rotate = |listener: &mut Listener| {
        listener.keys.rotate(secret.clone(), now, millis(grace));
        Ok(())
    };
    let changed = door.bus().change_listener(&app.id, &id, &rotate).await;
    changed.map_err(|error| refused(&id, error))?;
    let previous_valid_until = rfc3339(now.saturating_add(millis(grace)));
    Ok((NO_STORE, Json(Rotated { secret: secret.expose().to_string(), previous_valid_until })).into_response())
}

pub(super) async fn test(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Tested>), Problem> {
    let listener = find(&door, &app, &id)?;
    let body = body::optional_event(&app, &headers, body).await?;
    let event = event::read_test(&body, &app, &listener.id, door.bus().clock().wall_ms())?;
    if !listener.enabled() {
        return Err(disabled(&listener));
    }
    door.may_test(&listener)?;
    let destination = listener.no;
    let receipt = door.bus().test(listener, event).await?;
    let logged = door.bus().event(&app.id, &receipt.id).await?.ok_or(StoreError::Missing)?;
    let key = DeliveryKey { app: app.id.clone(), event: logged.no, destination };
    Ok((StatusCode::ACCEPTED, Json(Tested { id: receipt.id, delivery: key.id() })))
}

/// The refusal of a request that would send something to a disabled listener.
pub(super) fn disabled(listener: &Listener) -> Problem {
    Problem::new(Code::Conflict, format!("the listener {:?} is disabled", listener.id))
        .remedy(format!("enable it first: `PATCH /v1/listeners/{}` with {{\"enabled\":true}}", listener.id))
}

/// Reads a body that may contain a match, on a blocking thread and few at a time: compiling a regular expression can
/// cost a hundred times as much as sending it.
async fn compiling<T: Send + 'static>(
    door: &ApiDoor,
    app: &AppId,
    read: impl FnOnce(&AppId, &DeclaredBy<'_>) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let _few_at_a_time = door.compiling().await?;
    let (catalogue, app) = (Arc::clone(door.bus().catalogue()), app.clone());
    let work = move || read(&app, &|hooks| catalogue.declared(&app, hooks));
    tokio::task::spawn_blocking(work).await.map_err(|_| Problem::from(StoreError::Closed))?
}

fn find(door: &ApiDoor, app: &App, id: &str) -> Result<Arc<Listener>, Problem> {
    door.bus().catalogue().listener(&app.id, id).ok_or_else(|| missing(id))
}

fn missing(id: &str) -> Problem {
    Problem::not_found("listener", id).remedy("`GET /v1/listeners` lists them all")
}

fn refused(id: &str, error: ManageError) -> Problem {
    match error {
        ManageError::Missing(_) => missing(id),
        other => other.into(),
    }
}

/// Whether a listener names the hook or has a pattern that matches it, by the same rules as in the bus.
fn wants(listener: &Listener, hook: &str) -> bool {
    let asked = |pattern: &str| !is_reserved(hook) || is_reserved(pattern);
    listener.hooks.iter().any(|p| p.as_str() == hook || (asked(p.as_str()) && p.matches(hook)))
}

/// Since when listeners have only failed: one query for all listeners of a response.
async fn failing<'l>(
    door: &ApiDoor,
    listeners: impl IntoIterator<Item = &'l Arc<Listener>>,
) -> Result<HashMap<DestinationNo, Millis>, Problem> {
    let shown = listeners.into_iter().map(|listener| listener.no).collect();
    Ok(door.bus().failing_of(shown).await?.into_iter().collect())
}
