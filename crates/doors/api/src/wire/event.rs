//! Events: reading them from `POST /v1/events`, and showing them from the log.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_broker::PublishOutcome;
use tidings_bus::{Receipt, TEST_EVENT};
use tidings_model::app::App;
use tidings_model::clock::{Millis, millis, parse_rfc3339, rfc3339};
use tidings_model::event::{Data, Event, MAX_CHANNEL_LEN, MAX_CHANNELS, MAX_KEY_LEN};
use tidings_model::id::{check_id, new_id};
use tidings_model::pattern::check_own_name;
use tidings_model::payload;
use tidings_store::log::Logged;

use super::is_json;
use crate::fields::{Fields, Value};
use crate::limits;
use crate::problem::{Code, Problem, shown};

const KNOWN: [&str; 11] =
    ["name", "data", "data_base64", "content_type", "channels", "key", "op", "except", "time", "id", "not_before"];
const OPERATIONS: [&str; 3] = ["create", "update", "delete"];
/// The remedy for an invalid channel name.
pub(crate) const CHANNEL_REMEDY: &str = "write 1 to 200 characters of printable ASCII";
/// The default content type of `data_base64`.
const ANY_BYTES: &str = "application/octet-stream";

/// Base64 with or without padding, because clients often omit it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads an event to publish, and the time before which no delivery is attempted.
pub(crate) fn read(body: &[u8], app: &App, now: Millis) -> Result<(Event, Option<Millis>), Problem> {
    let fields = Fields::of_body(body, &KNOWN, &[])?;
    let not_before = fields.get("not_before").map(|value| not_before(&value, now)).transpose()?;
    let event = Event {
        name: name(&fields.required("name")?)?,
        app: app.id.clone(),
        channels: fields.get("channels").map_or(Ok(Vec::new()), |value| channels(&value))?,
        data: data(&fields, app)?,
        time: fields.get("time").map_or(Ok(now), |value| time(&value))?,
        op: fields.get("op").map(|value| operation(&value)).transpose()?,
        key: fields.get("key").map(|value| value.short_text(MAX_KEY_LEN)).transpose()?,
        except: fields.get("except").map(|value| value.short_text(limits::SHORT_TEXT)).transpose()?,
        id: fields.get("id").map_or_else(|| Ok(new_id("evt")), |value| id(&value))?,
    };
    Ok((event, not_before))
}

/// Reads a test event for a listener.
pub(crate) fn read_test(body: &[u8], app: &App, listener: &str, now: Millis) -> Result<Event, Problem> {
    let fields = Fields::of_body(body, &["name", "data"], &[])?;
    let name = match fields.get("name") {
        Some(value) if value.text()? != TEST_EVENT => name(&value)?,
        _ => TEST_EVENT.to_owned(),
    };
    let data = match fields.sent("data") {
        Some(value) => json_data(&value, app)?,
        None => Data::json(serde_json::json!({"listener": listener, "message": "a test"}).to_string()),
    };
    Ok(Event {
        id: new_id("evt"),
        app: app.id.clone(),
        name,
        channels: Vec::new(),
        data,
        time: now,
        op: None,
        key: None,
        except: None,
    })
}

/// The name of an event or hook.
pub(super) fn name(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    check_own_name(&text).map_err(|error| value.refused(error))?;
    Ok(text)
}

fn id(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    check_id(&text)
        .map_err(|error| value.refused(error).remedy("write such an id, or leave it out to have one made"))?;
    Ok(text)
}

fn time(value: &Value<'_>) -> Result<Millis, Problem> {
    parse_rfc3339(&value.text()?)
        .ok_or_else(|| value.wrong("this is not a time").remedy("write RFC 3339, such as 2026-11-21T09:56:00.000Z"))
}

fn not_before(value: &Value<'_>, now: Millis) -> Result<Millis, Problem> {
    let time = time(value)?;
    if time - now > millis(limits::NOT_BEFORE) {
        return Err(value.wrong("this is too far ahead").remedy("name a time within 30 days"));
    }
    Ok(time)
}

fn operation(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    if OPERATIONS.contains(&text.as_str()) {
        return Ok(text);
    }
    Err(value.wrong("there is no such operation").remedy(format!("write {}", OPERATIONS.join(", "))))
}

/// The channels without repeats.
fn channels(value: &Value<'_>) -> Result<Vec<String>, Problem> {
    let entries = value.list()?;
    if entries.len() > MAX_CHANNELS {
        return Err(value
            .wrong(format!("{} channels", entries.len()))
            .remedy(format!("name at most {MAX_CHANNELS}; send the event again to others")));
    }
    let mut channels: Vec<String> = Vec::with_capacity(entries.len());
    for entry in &entries {
        let name = channel(entry)?;
        if !channels.contains(&name) {
            channels.push(name);
        }
    }
    Ok(channels)
}

/// The name of a channel.
pub(super) fn channel(value: &Value<'_>) -> Result<String, Problem> {
    let name = value.text()?;
    if !can_be_a_channel(&name) {
        return Err(value.wrong("this cannot be the name of a channel").remedy(CHANNEL_REMEDY));
    }
    Ok(name)
}

/// Whether this is a valid channel name.
pub(crate) fn can_be_a_channel(name: &str) -> bool {
    (1..=MAX_CHANNEL_LEN).contains(&name.len()) && name.bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn data(fields: &Fields<'_>, app: &App) -> Result<Data, Problem> {
    let Some(encoded) = fields.get("data_base64") else {
        if let Some(value) = fields.get("content_type") {
            return Err(value
                .wrong("`data` is JSON, so its content type is known")
                .remedy("leave `content_type` out, or send `data_base64`"));
        }
        return fields.sent("data").map_or_else(|| Ok(Data::json("null")), |value| json_data(&value, app));
    };
    if fields.get("data").is_some() {
        return Err(encoded.wrong("`data` is given too").remedy("send `data` or `data_base64`, not both"));
    }
    let content_type = fields.get("content_type").map_or(Ok(ANY_BYTES.to_owned()), |value| content_type(&value))?;
    let bytes = LENIENT.decode(encoded.text()?).map_err(|error| {
        encoded.wrong(format!("this is not base64: {error}")).remedy("write base64 with the characters + and /")
    })?;
    fits(&encoded, bytes.len(), app)?;
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !is_json(&media) {
        return Ok(Data { bytes: Bytes::from(bytes), content_type: Some(content_type) });
    }
    let raw: &RawValue = serde_json::from_slice(&bytes).map_err(|error| {
        encoded.wrong(format!("this is not JSON: {error}")).remedy("fix it, or name another `content_type`")
    })?;
    if !payload::depth_at_most(raw, limits::JSON_DEPTH) {
        return Err(encoded
            .wrong(format!("nested more than {} deep", limits::JSON_DEPTH))
            .remedy("nest it less, or send it as a string"));
    }
    // The value without the white space around it, as in `data`.
    Ok(Data::json(raw.get().to_owned()))
}

/// JSON data, byte for byte.
fn json_data(value: &Value<'_>, app: &App) -> Result<Data, Problem> {
    fits(value, value.raw.get().len(), app)?;
    Ok(Data::json(value.raw.get().to_owned()))
}

fn fits(value: &Value<'_>, len: usize, app: &App) -> Result<(), Problem> {
    let most = app.limits.payload;
    if len <= most {
        return Ok(());
    }
    Err(Problem::new(Code::TooLarge, format!("the data has {len} bytes, more than {most}"))
        .field(&value.path)
        .remedy(limits::data_remedy(most)))
}

fn content_type(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.short_text(limits::CONTENT_TYPE)?;
    let media = text.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| http::HeaderName::from_bytes(part.as_bytes()).is_ok();
    if text.is_ascii() && media.split_once('/').is_some_and(|(kind, rest)| token(kind) && token(rest)) {
        return Ok(text);
    }
    Err(value.wrong(format!("{:?} is not a content type", shown(&text))).remedy("write one such as image/png"))
}

/// The response to a publish.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    id: String,
    logged: bool,
    durable: bool,
    deliveries: u64,
    /// In the event's order. Left out where the event has no channels, and for a repeat, which is not sent to sessions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<ShownChannel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A channel that an event was published in.
#[derive(Debug, Serialize)]
struct ShownChannel {
    name: String,
    /// How many sessions were in it.
    sessions: u64,
}

impl Published {
    /// The response for an event with these channels.
    pub(crate) fn of(receipt: Receipt, channels: Vec<String>, hint: Option<String>) -> Self {
        let Receipt { id, logged, durable, deliveries, channels: outcomes, repeated: _ } = receipt;
        let show = |(name, outcome): (String, PublishOutcome)| ShownChannel {
            name,
            sessions: outcome.occupancy.subscriptions,
        };
        Self { id, logged, durable, deliveries, channels: channels.into_iter().zip(outcomes).map(show).collect(), hint }
    }
}

/// The response to a test.
#[derive(Debug, Serialize)]
pub(crate) struct Tested {
    pub(crate) id: String,
    pub(crate) delivery: String,
}

/// An event of the log.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    id: String,
    name: String,
    channels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    key: Option<String>,
    op: Option<String>,
    time: String,
    received_at: String,
    deliveries: u64,
}

impl From<Logged> for Shown {
    fn from(logged: Logged) -> Self {
        let Logged { event, received_at, deliveries, .. } = logged;
        let data = event.data.as_json().and_then(|text| RawValue::from_string(text.to_owned()).ok());
        let data_base64 = data.is_none().then(|| STANDARD.encode(&event.data.bytes));
        Self {
            id: event.id,
            name: event.name,
            channels: event.channels,
            data,
            data_base64,
            content_type: event.data.content_type,
            key: event.key,
            op: event.op,
            time: rfc3339(event.time),
            received_at: rfc3339(received_at),
            deliveries,
        }
    }
}
