//! `/v1/events`: saying that something happened, and the log of it.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use tidings_bus::Publication;
use tidings_model::id::{AppId, EventNo};
use tidings_store::log::EventFilter;

use crate::auth::{Caller, Id};
use crate::body;
use crate::door::ApiDoor;
use crate::limits;
use crate::paging::{List, Paging};
use crate::problem::{Code, Problem};
use crate::query::{self, Query};
use crate::wire::event::{self, Published, Shown};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const DEGRADED: HeaderName = HeaderName::from_static("x-tidings-degraded");

pub(super) async fn publish(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, HeaderMap, Json<Published>), Problem> {
    door.may_publish(&app)?;
    let key = idempotency_key(&headers)?;
    let body = body::event(&app, &headers, body).await?;
    let (event, not_before) = event::read(&body, &app, door.bus().clock().wall_ms())?;
    let idempotency = key.map(|key| (key, digest(&app.id, &body)));
    let receipt = door.bus().publish(Publication { event, idempotency, not_before, only: None }).await?;
    let mut told = HeaderMap::new();
    if receipt.is_degraded() {
        // Sessions of other nodes have not heard it.
        told.insert(DEGRADED, HeaderValue::from_static("live"));
    }
    Ok((StatusCode::ACCEPTED, told, Json(receipt.into())))
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
    let page = door.bus().store().events(&app.id, filter).await?;
    Ok(Json(paging.page(page.rows, page.more, |logged| logged.no, Shown::from)?))
}

pub(super) async fn one(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(id): Id,
) -> Result<Json<Shown>, Problem> {
    let logged = door.bus().store().event(&app.id, &id).await?.ok_or_else(|| {
        Problem::not_found("event", &id)
            .remedy("only events whose name is a hook, or that came with an idempotency key, are kept in the log")
    })?;
    Ok(Json(logged.into()))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else { return Ok(None) };
    let fine = (1..=limits::IDEMPOTENCY_KEY).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    match key.to_str() {
        Ok(key) if fine && given.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(Code::InvalidRequest, "this idempotency key cannot be used")
            .field("Idempotency-Key")
            .remedy(format!("send one key of 1 to {} visible ASCII characters", limits::IDEMPOTENCY_KEY))),
    }
}

/// What a repeat has to agree with: the same bytes for the same app.
fn digest(app: &AppId, body: &[u8]) -> [u8; 32] {
    let app = app.as_str().as_bytes();
    Sha256::new().chain_update((app.len() as u64).to_be_bytes()).chain_update(app).chain_update(body).finalize().into()
}
