//! `POST /events`, `POST /batch_events` and the deprecated `POST /channels/{name}/events`: saying that something happened.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tidings_model::id::AppId;

use crate::door::PusherDoor;
use crate::limits;
use crate::wire::json::{Array, Object, Text, object};

use super::publish::{Checked, Content, Given};
use super::query::Query;
use super::refusal::Refusal;
use super::signed::{Signed, json};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// One event, in up to 100 channels.
pub(super) async fn one(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, 1).await?;
    let key = idempotency_key(&signed.headers)?;
    let given = if signed.body.is_empty() { in_query(&signed.query()) } else { read(text(&signed.body)?)? };
    let checked = given.check(&door, &signed.app, &signed.body)?;
    door.may_publish(&signed.app, 1)?;
    let idempotency = key.map(|key| (key, digest(&signed.app.id, &signed.body)));
    let Some(told) = checked.publish(&door, &signed.app, idempotency).await? else {
        return Ok(json(StatusCode::OK, "{}"));
    };
    let mut channels = Object::new();
    for (name, attributes) in &told {
        channels.raw(name, attributes);
    }
    let mut answer = Object::new();
    answer.raw("channels", &channels.end());
    Ok(json(StatusCode::OK, answer.end()))
}

/// Up to ten events, each in one channel. They are checked before the first is published, and published in their order.
pub(super) async fn batch(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        batch: Vec<&'a RawValue>,
    }
    let signed = Signed::take(&door, request, limits::BATCH).await?;
    let key = idempotency_key(&signed.headers)?;
    let Batch { batch } = read(text(&signed.body)?)?;
    if batch.len() > limits::BATCH {
        return Err(Refusal::bad(format!("Batch too large (> {})", limits::BATCH)));
    }
    let check = |given: &RawValue| read::<Given<'_>>(given.get())?.check(&door, &signed.app, &signed.body);
    let checked: Vec<Checked> = batch.into_iter().map(check).collect::<Result<_, _>>()?;
    door.may_publish(&signed.app, checked.len())?;
    let any_info = checked.iter().any(Checked::wants_info);
    let digest = key.as_ref().map(|_| digest(&signed.app.id, &signed.body)).unwrap_or_default();
    let mut told = Array::new();
    for (n, event) in checked.into_iter().enumerate() {
        // Each has a key of its own, so that a repeat of a batch that broke off in the middle goes on where it did.
        let idempotency = key.as_ref().map(|key| (format!("{key}#{n}"), digest));
        let attributes = event.publish(&door, &signed.app, idempotency).await?;
        told.raw(attributes.iter().flatten().next().map_or("{}", |(_, attributes)| attributes));
    }
    if !any_info {
        return Ok(json(StatusCode::OK, "{}"));
    }
    let mut answer = Object::new();
    answer.raw("batch", &told.end());
    Ok(json(StatusCode::OK, answer.end()))
}

/// One event in the channel that the path names; the body is its data.
pub(super) async fn in_channel(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, 1).await?;
    let query = signed.query();
    let owned = |text: &str| Some(Text(Cow::Owned(text.to_owned())));
    let data = text(&signed.body)?;
    let given = Given {
        name: query.get("name").and_then(owned),
        channel: owned(&signed.name),
        data: Some(Content::Text(Text(Cow::Borrowed(data)))),
        socket_id: query.get("socket_id").and_then(owned),
        ..Given::default()
    };
    let checked = given.check(&door, &signed.app, &signed.body)?;
    door.may_publish(&signed.app, 1)?;
    checked.publish(&door, &signed.app, None).await?;
    Ok(json(StatusCode::ACCEPTED, "{}"))
}

fn text(body: &Bytes) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|_| Refusal::bad("Invalid body: it is not UTF-8"))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    object(text).map_err(|error| Refusal::bad(format!("Invalid body: {error}")))
}

/// The parameters of an event may also come in the query ("HTTP API reference", note on POST parameters).
fn in_query(query: &Query<'_>) -> Given<'static> {
    let text = |text: &str| Text(Cow::Owned(text.to_owned()));
    let get = |name| query.get(name).map(text);
    Given {
        name: get("name"),
        channels: Some(query.list("channels").into_iter().map(text).collect()),
        channel: get("channel"),
        data: get("data").map(Content::Text),
        socket_id: get("socket_id"),
        info: get("info"),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else { return Ok(None) };
    let fine = (1..=limits::IDEMPOTENCY_KEY).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    match key.to_str() {
        Ok(key) if fine && given.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Refusal::bad(format!(
            "Invalid Idempotency-Key: send one of 1 to {} visible ASCII characters",
            limits::IDEMPOTENCY_KEY
        ))),
    }
}

/// What a repeat has to agree with: the same bytes for the same app.
fn digest(app: &AppId, body: &[u8]) -> [u8; 32] {
    let app = app.as_str().as_bytes();
    Sha256::new().chain_update((app.len() as u64).to_be_bytes()).chain_update(app).chain_update(body).finalize().into()
}
