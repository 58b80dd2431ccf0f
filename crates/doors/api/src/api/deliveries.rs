//! `/v1/deliveries`: deliveries, their attempts, and manual retries.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use http::{HeaderMap, StatusCode};
use tidings_model::app::App;
use tidings_model::clock::{Millis, millis};
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{DeliveryKey, DestinationNo, EventNo};
use tidings_store::StoreError;
use tidings_store::queue::{AttemptRange, DeliveryFilter, DeliveryRow};

use super::listeners;
use crate::auth::{Caller, Id};
use crate::body;
use crate::door::ApiDoor;
use crate::fields::Fields;
use crate::limits;
use crate::paging::{AttemptNo, List, Paging};
use crate::problem::{Code, Problem, shown};
use crate::query::{self, Query};
use crate::wire::delivery::{Shown, ShownAttempt};

pub(super) async fn list(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, Problem> {
    let query = Query::read(query.as_deref(), &["state", "listener", "event"])?;
    let paging = Paging::<(EventNo, DestinationNo)>::read(&query)?;
    let state = query.get("state").map(state).transpose()?;
    let destination = match query.get("listener") {
        None => None,
        Some(id) => {
            Some(door.bus().catalogue().listener(&app.id, id).map(|listener| listener.no).ok_or_else(|| {
                Problem::new(Code::InvalidField, format!("there is no listener {:?}", shown(id)))
                    .field("listener")
                    .remedy("`GET /v1/listeners` lists them all")
            })?)
        }
    };
    let event = match query.get("event") {
        None => None,
        Some(id) => match door.bus().event(&app.id, id).await? {
            Some(logged) => Some(logged.no),
            // An event that was never logged, or is deleted, has no deliveries.
            None => return Ok(Json(List::default())),
        },
    };
    let filter = DeliveryFilter { state, destination, event, before: paging.after, limit: paging.limit + 1 };
    let rows = door.bus().deliveries(&app.id, filter).await?;
    Ok(Json(paging.page(rows, false, |row| (row.key.event, row.key.destination), |row| show(&door, row))?))
}

pub(super) async fn one(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
) -> Result<Json<Shown>, Problem> {
    let (_, row) = find(&door, &app, &id).await?;
    Ok(Json(show(&door, row)))
}

pub(super) async fn attempts(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, Problem> {
    let paging = Paging::<AttemptNo>::read(&Query::read(query.as_deref(), &[])?)?;
    let (key, _) = find(&door, &app, &id).await?;
    let after = paging.after.as_ref().map_or(0, |last| last.0);
    let range = AttemptRange { after, limit: paging.limit, bytes: limits::PAGE_BYTES };
    let page = door.bus().attempts(&key, range).await.map_err(|error| refused(&id, error))?;
    Ok(Json(paging.page(page.rows, page.more, |attempt| AttemptNo(attempt.n), ShownAttempt::from)?))
}

pub(super) async fn retry(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Shown>), Problem> {
    let (key, row) = find(&door, &app, &id).await?;
    Fields::of_body(&body::optional(&headers, body).await?, &[], &[])?;
    match door.bus().catalogue().listener_by_no(key.destination) {
        None => {
            return Err(Problem::new(Code::NotFound, "the listener of this delivery was deleted")
                .remedy("create a listener, and publish the event again under a new id"));
        }
        Some(listener) if !listener.enabled() => return Err(listeners::disabled(&listener)),
        Some(_) if failed_long_ago(&row, door.bus().clock().wall_ms()) => door.may_publish(&app)?,
        Some(listener) => door.may_test(&listener)?,
    }
    door.bus().retry_delivery(&key).await.map_err(|error| refused(&id, error))?;
    let (_, row) = find(&door, &app, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(show(&door, row))))
}

/// Whether a delivery became undelivered some time ago. Its retry counts as a publish, so that many deliveries can be
/// retried after an outage. Any other retry counts as a test, so that a loop of retries cannot flood a URL.
fn failed_long_ago(row: &DeliveryRow, wall: Millis) -> bool {
    row.state == DeliveryState::Undelivered
        && row.closed_at.is_some_and(|at| wall - at >= millis(limits::FAILED_LONG_AGO))
}

/// A delivery of this app; those of other apps are not found.
async fn find(door: &ApiDoor, app: &App, id: &str) -> Result<(DeliveryKey, DeliveryRow), Problem> {
    let key = DeliveryKey::parse(&app.id, id).ok_or_else(|| missing(id))?;
    let row = door.bus().delivery(&key).await?.ok_or_else(|| missing(id))?;
    Ok((key, row))
}

fn show(door: &ApiDoor, row: DeliveryRow) -> Shown {
    let listener = door.bus().catalogue().listener_by_no(row.key.destination);
    let paused = listener.is_some_and(|listener| !listener.enabled());
    Shown::of(row, &**door.bus().clock(), paused)
}

fn state(word: &str) -> Result<DeliveryState, Problem> {
    DeliveryState::parse(word).ok_or_else(|| {
        let all = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
        query::wrong("state", format!("there is no state {:?}", shown(word))).remedy(format!("write one of {all}"))
    })
}

fn refused(id: &str, error: StoreError) -> Problem {
    if error == StoreError::Missing { missing(id) } else { error.into() }
}

fn missing(id: &str) -> Problem {
    Problem::not_found("delivery", id)
        .remedy("`GET /v1/deliveries` lists them all; closed ones are deleted after a while")
}
