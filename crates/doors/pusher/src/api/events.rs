//! `POST /events`, `POST /batch_events` and the deprecated `POST /channels/{name}/events`: publishing events.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_model::idempotency::{BadKey, IdempotencyKey};
use tidings_model::signed_query::SignedQuery;

use crate::door::PusherDoor;
use crate::wire::json::{Array, Object, Text, object};

use super::publish::{Checked, Content, EventParams, Published};
use super::refusal::Refusal;
use super::signed::{Signed, json};

const DEGRADED: HeaderName = HeaderName::from_static("x-tidings-degraded");

/// One event, in up to 100 channels.
pub(super) async fn one(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 1).await?;
    let query = signed.query();
    let is_in_query = signed.body.is_empty();
    let key = idempotency_key(&signed, if is_in_query { Some(&query) } else { None })?;
    let params = if is_in_query { in_query(&query) } else { read(text(&signed.body)?)? };
    let checked = params.check(&door, &signed.app, &signed.body)?;
    door.may_publish(&signed.app, 1)?;
    let Published { attributes, degraded } = checked.publish(&door, &signed.app, key).await?;
    let Some(attributes) = attributes else { return Ok(answered(StatusCode::OK, "{}", degraded)) };
    let mut channels = Object::new();
    for (name, json) in &attributes {
        channels.raw(name, json);
    }
    let mut answer = Object::new();
    answer.raw("channels", &channels.end());
    Ok(answered(StatusCode::OK, answer.end(), degraded))
}

/// Up to `limits.batch` events, each in one channel. They are checked before the first is published, and published in
/// their order.
pub(super) async fn batch(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        batch: Vec<&'a RawValue>,
    }
    let signed = Signed::take(&door, request, |limits| limits.batch).await?;
    let key = idempotency_key(&signed, None)?;
    let Batch { batch } = read(text(&signed.body)?)?;
    let limit = signed.app.limits.batch;
    if batch.len() > limit {
        return Err(Refusal::bad(format!("Batch too large (> {limit})")));
    }
    let check = |event: &RawValue| read::<EventParams<'_>>(event.get())?.check(&door, &signed.app, &signed.body);
    let checked: Vec<Checked> = batch.into_iter().map(check).collect::<Result<_, _>>()?;
    door.may_publish(&signed.app, checked.len())?;
    let any_info = checked.iter().any(Checked::wants_info);
    let (mut results, mut any_degraded) = (Array::new(), false);
    for (n, event) in checked.into_iter().enumerate() {
        // Each event has its own key, so that a repeat of a batch that failed halfway publishes only the rest.
        let key = key.as_ref().map(|key| key.nth(n));
        let Published { attributes, degraded } = event.publish(&door, &signed.app, key).await?;
        any_degraded |= degraded;
        results.raw(attributes.iter().flatten().next().map_or("{}", |(_, json)| json));
    }
    if !any_info {
        return Ok(answered(StatusCode::OK, "{}", any_degraded));
    }
    let mut answer = Object::new();
    answer.raw("batch", &results.end());
    Ok(answered(StatusCode::OK, answer.end(), any_degraded))
}

/// One event in the channel that the path names; the body is its data.
pub(super) async fn in_channel(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 1).await?;
    let query = signed.query();
    let key = idempotency_key(&signed, Some(&query))?;
    let owned = |text: &str| Some(Text(Cow::Owned(text.to_owned())));
    let data = text(&signed.body)?;
    let params = EventParams {
        name: query.get("name").and_then(owned),
        channel: owned(&signed.name),
        data: Some(Content::Text(Text(Cow::Borrowed(data)))),
        socket_id: query.get("socket_id").and_then(owned),
        ..EventParams::default()
    };
    let checked = params.check(&door, &signed.app, &signed.body)?;
    door.may_publish(&signed.app, 1)?;
    let published = checked.publish(&door, &signed.app, key).await?;
    Ok(answered(StatusCode::ACCEPTED, "{}", published.degraded))
}

/// A response, with a header when sessions of other nodes have not received the event.
fn answered(status: StatusCode, body: impl Into<Bytes>, degraded: bool) -> Response {
    let mut response = json(status, body);
    if degraded {
        response.headers_mut().insert(DEGRADED, HeaderValue::from_static("live"));
    }
    response
}

fn text(body: &Bytes) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|_| Refusal::bad("Invalid body: it is not UTF-8"))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    object(text).map_err(|error| Refusal::bad(format!("Invalid body: {error}")))
}

/// The event in a query's parameters ("HTTP API reference", note on POST parameters).
fn in_query(query: &SignedQuery<'_>) -> EventParams<'static> {
    let text = |text: &str| Text(Cow::Owned(text.to_owned()));
    let get = |name| query.get(name).map(text);
    EventParams {
        name: get("name"),
        channels: Some(query.list("channels").into_iter().map(text).collect()),
        channel: get("channel"),
        data: get("data").map(Content::Text),
        socket_id: get("socket_id"),
        info: get("info"),
    }
}

/// A request's idempotency key. The path and, if given, the query are part of what a repeat must match, because the
/// event also depends on them.
fn idempotency_key(signed: &Signed, query: Option<&SignedQuery<'_>>) -> Result<Option<IdempotencyKey>, Refusal> {
    let mut beside: Vec<(&str, &str)> = query.map(unsigned_params).unwrap_or_default();
    if !signed.name.is_empty() {
        beside.push(("", &signed.name));
    }
    IdempotencyKey::of(&signed.headers, &signed.app.id, &signed.body, &beside)
        .map_err(|error: BadKey| Refusal::bad(format!("Invalid Idempotency-Key: {error}")))
}

/// A query's parameters without the signature's, which differ in each repeat; sorted by name, as they are signed.
fn unsigned_params<'q>(query: &'q SignedQuery<'_>) -> Vec<(&'q str, &'q str)> {
    const PROOF: [&str; 5] = ["auth_key", "auth_signature", "auth_timestamp", "auth_version", "body_md5"];
    let is_proof = |name: &str| PROOF.iter().any(|part| part.eq_ignore_ascii_case(name));
    let all = query.all().iter().map(|(name, value)| (&**name, &**value));
    let mut params: Vec<_> = all.filter(|(name, _)| !is_proof(name)).collect();
    params.sort_by_key(|(name, _)| *name);
    params
}
