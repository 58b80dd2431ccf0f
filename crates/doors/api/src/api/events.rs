//! `/v1/events`: publishing events, and the event log.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidings_bus::Publication;
use tidings_model::id::EventNo;
use tidings_model::idempotency::IdempotencyKey;
use tidings_store::log::EventFilter;

use crate::auth::{Caller, Id};
use crate::body;
use crate::door::ApiDoor;
use crate::limits;
use crate::paging::{List, Paging};
use crate::problem::{Code, Problem};
use crate::query::{self, Query};
use crate::wire::event::{self, Published, Shown};

const DEGRADED: HeaderName = HeaderName::from_static("x-tidings-degraded");

pub(super) async fn publish(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, HeaderMap, Json<Published>), Problem> {
    door.may_publish(&app)?;
    let body = body::event(&app, &headers, body).await?;
    let idempotency = IdempotencyKey::of(&headers, &app.id, &body, &[])
        .map_err(|error| Problem::saying(Code::InvalidRequest, error).field("Idempotency-Key"))?;
    let (event, not_before) = event::read(&body, &app, door.bus().clock().wall_ms())?;
    let (name, channels) = (event.name.clone(), event.channels.clone());
    door.bus().check_hook(&app, &name, &channels).await?;
    let receipt = door.bus().publish(Publication { event, idempotency, not_before }).await?;
    let hint = door.bus().hint(&app, &name, &channels, &receipt);
    let mut response_headers = HeaderMap::new();
    if receipt.is_degraded() {
        // Sessions of other nodes have not received it.
        response_headers.insert(DEGRADED, HeaderValue::from_static("live"));
    }
    Ok((StatusCode::ACCEPTED, response_headers, Json(Published::of(receipt, channels, hint))))
}

pub(super) async fn list(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, Problem> {
    let query = Query::read(query.as_deref(), &["name", "channel", "since", "until"])?;
    let paging = Paging::<EventNo>::read(&query)?;
    let (name, channel) = (query.get("name"), query.get("channel"));
    if name.is_some() && channel.is_some() {
        return Err(
            query::wrong("channel", "events are listed by name or by channel, not both").remedy("leave one out")
        );
    }
    let filter = EventFilter {
        name: name.map(str::to_owned),
        channel: channel.map(str::to_owned),
        since: query.time("since")?,
        until: query.time("until")?,
        before: paging.after,
        limit: paging.limit,
        bytes: Some(limits::PAGE_BYTES),
    };
    let page = door.bus().events(&app.id, filter).await?;
    Ok(Json(paging.page(page.rows, page.more, |logged| logged.no, Shown::from)?))
}

pub(super) async fn one(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
) -> Result<Json<Shown>, Problem> {
    let logged = door.bus().event(&app.id, &id).await?.ok_or_else(|| {
        Problem::not_found("event", &id)
            .remedy("only events whose name is a hook, or that came with an idempotency key, are kept in the log")
    })?;
    Ok(Json(logged.into()))
}
