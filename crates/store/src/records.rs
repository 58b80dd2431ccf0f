//! The stored form of hooks, listeners and apps, shared by both stores. Parts that no query searches are JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_model::clock::{Millis, millis};
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook, Schema};
use tidings_model::id::DestinationNo;
use tidings_model::listener::{Disabled, Format, Listener, Order};
use tidings_model::matcher::{Match, upgrade};
use tidings_model::pattern::Pattern;
use tidings_model::schedule::Schedule;
use tidings_model::secret::SecretString;
use tidings_model::signature::{KeyRing, Secret};
use zeroize::Zeroizing;

use crate::catalogue::AppRecord;
use crate::error::StoreError;
use crate::rows::{self, Row};
use crate::seal::MainKey;

/// The stored form of [`DeliveryDefaults`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct DefaultsRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<Schedule>,
}

impl DefaultsRecord {
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()))
    }
}

impl From<&DeliveryDefaults> for DefaultsRecord {
    fn from(defaults: &DeliveryDefaults) -> Self {
        Self { timeout_ms: defaults.timeout.map(millis), schedule: defaults.schedule.clone() }
    }
}

impl From<DefaultsRecord> for DeliveryDefaults {
    fn from(record: DefaultsRecord) -> Self {
        Self { timeout: record.timeout(), schedule: record.schedule }
    }
}

/// A listener's settings without its secrets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListenerSpec {
    pub(crate) url: url::Url,
    pub(crate) description: String,
    pub(crate) hooks: Vec<Pattern>,
    #[serde(rename = "match")]
    pub(crate) filter: Match,
    pub(crate) rate: Option<u32>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) order: Order,
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default)]
    pub(crate) batch: u32,
    pub(crate) owner: Option<String>,
    #[serde(flatten)]
    pub(crate) delivery: DefaultsRecord,
}

impl From<&Listener> for ListenerSpec {
    fn from(listener: &Listener) -> Self {
        Self {
            url: listener.url.clone(),
            description: listener.description.clone(),
            hooks: listener.hooks.clone(),
            filter: listener.filter.clone(),
            rate: listener.rate,
            concurrency: listener.concurrency,
            order: listener.order,
            format: listener.format.clone(),
            batch: listener.batch,
            owner: listener.owner.clone(),
            delivery: DefaultsRecord { timeout_ms: listener.timeout.map(millis), schedule: listener.schedule.clone() },
        }
    }
}

/// A listener's secrets, as they are sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct ListenerSecrets {
    current: Zeroizing<String>,
    previous: Vec<(Zeroizing<String>, Millis)>,
    headers: Vec<(String, Zeroizing<String>)>,
}

impl ListenerSecrets {
    /// Seals the secrets of a listener.
    pub(crate) fn seal(key: &MainKey, listener: &Listener) -> Result<Vec<u8>, StoreError> {
        let secrets = Self {
            current: listener.keys.current.expose(),
            previous: listener.keys.previous.iter().map(|(secret, until)| (secret.expose(), *until)).collect(),
            headers: listener
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), Zeroizing::new(value.expose().to_owned())))
                .collect(),
        };
        let text = Zeroizing::new(serde_json::to_vec(&secrets)?);
        key.seal(&listener_name(listener.app.as_str(), &listener.id), &text)
    }

    /// Opens what [`ListenerSecrets::seal`] sealed.
    pub(crate) fn open(key: &MainKey, app: &str, listener: &str, sealed: &[u8]) -> Result<Self, StoreError> {
        let text = Zeroizing::new(key.open(&listener_name(app, listener), sealed)?);
        Ok(serde_json::from_slice(&text)?)
    }

    /// A substitute for the secrets of a deleted listener: a random key.
    pub(crate) fn erased() -> Result<Self, StoreError> {
        let unknown = Secret::generate().map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self { current: unknown.expose(), previous: Vec::new(), headers: Vec::new() })
    }

    /// The keys to sign with and the headers to send.
    pub(crate) fn into_parts(self) -> Result<(KeyRing, Vec<(String, SecretString)>), StoreError> {
        // The parser's error is dropped: it could reveal the secret's length, and would not help.
        let read = |text: &str| Secret::parse(text).map_err(|_| StoreError::Sealed);
        let mut keys = KeyRing::new(read(&self.current)?);
        for (secret, until) in &self.previous {
            keys.previous.push((read(secret)?, *until));
        }
        Ok((keys, self.headers.into_iter().map(|(name, value)| (name, SecretString::from(value.as_str()))).collect()))
    }
}

impl fmt::Debug for ListenerSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListenerSecrets(hidden)")
    }
}

/// The spec of an app, sealed: it holds secrets.
pub(crate) fn seal_app(key: &MainKey, app: &AppRecord) -> Result<Vec<u8>, StoreError> {
    key.seal(&app_name(&app.id), app.spec.as_bytes())
}

/// The spec of an app, opened.
fn open_app(key: &MainKey, id: &str, sealed: &[u8]) -> Result<String, StoreError> {
    let text = key.open(&app_name(id), sealed)?;
    String::from_utf8(text.to_vec()).map_err(|_| StoreError::Corrupt("an app's settings are not UTF-8".to_owned()))
}

/// A hook from its row.
pub(crate) fn hook(row: &impl Row) -> Result<Hook, StoreError> {
    let (app, name, version, description) =
        (rows::app(row)?, row.get("name")?, row.get("version")?, row.get("description")?);
    let (fields, schema): (Option<String>, Option<String>) = (row.get("fields")?, row.get("schema")?);
    let defaults: String = row.get("defaults")?;
    let (created_at, updated_at) = (row.get("created_at")?, row.get("updated_at")?);
    let fields_for = match row.get::<Option<String>>("fields_for")?.as_deref() {
        Some(word) => FieldsFor::ALL.into_iter().find(|known| known.as_str() == word),
        // Stored by 0.1.0, where declared fields applied to webhooks only. They still do.
        None if fields.is_some() => Some(FieldsFor::Webhooks),
        None => Some(FieldsFor::All),
    };
    Ok(Hook {
        fields_for: fields_for.ok_or_else(|| StoreError::Corrupt("a hook's fields_for".to_owned()))?,
        app,
        name,
        version,
        description,
        fields: fields.map(|text| serde_json::from_str(&text)).transpose()?,
        schema: schema.map(|text| RawValue::from_string(text).map(Schema::from)).transpose()?,
        defaults: serde_json::from_str::<DefaultsRecord>(&defaults)?.into(),
        created_at,
        updated_at,
    })
}

/// A listener from its row, with its secrets opened, and whether it is deleted.
pub(crate) fn listener(row: &impl Row, key: &MainKey) -> Result<(Listener, bool), StoreError> {
    let (no, app, id): (_, _, String) = (DestinationNo(row.get("no")?), rows::app(row)?, row.get("id")?);
    let version = row.get("version")?;
    let is_gone = is_gone(row)?;
    let spec: ListenerSpec = serde_json::from_str(&row.get::<String>("spec")?)?;
    let sealed: Vec<u8> = row.get("sealed")?;
    // A deleted listener's secrets are erased with it.
    let secrets =
        if is_gone { ListenerSecrets::erased()? } else { ListenerSecrets::open(key, app.as_str(), &id, &sealed)? };
    let (keys, headers) = secrets.into_parts()?;
    let disabled: (Option<String>, Option<Millis>) = (row.get("disabled_reason")?, row.get("disabled_at")?);
    let listener = Listener {
        app,
        id,
        no,
        url: spec.url,
        description: spec.description,
        hooks: spec.hooks,
        filter: spec.filter,
        keys,
        headers,
        rate: spec.rate,
        concurrency: spec.concurrency,
        order: spec.order,
        format: spec.format,
        batch: spec.batch,
        timeout: spec.delivery.timeout(),
        schedule: spec.delivery.schedule,
        disabled: disabled.0.zip(disabled.1).map(|(reason, at)| Disabled { reason, at }),
        owner: spec.owner,
        version,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    };
    Ok((listener, is_gone))
}

/// An app from its row, with its secrets opened, and whether it is deleted.
pub(crate) fn app(row: &impl Row, key: &MainKey) -> Result<(AppRecord, bool), StoreError> {
    let (id, version): (String, _) = (row.get("id")?, row.get("version")?);
    let is_gone = is_gone(row)?;
    let sealed: Vec<u8> = row.get("sealed")?;
    let spec = if is_gone { String::new() } else { open_app(key, &id, &sealed)? };
    let (created_at, updated_at) = (row.get("created_at")?, row.get("updated_at")?);
    Ok((AppRecord { id, spec, version, created_at, updated_at }, is_gone))
}

/// Whether a record is the tombstone of a deleted one.
pub(crate) fn is_gone(row: &impl Row) -> Result<bool, StoreError> {
    Ok(row.get::<i64>("deleted")? != 0)
}

/// A substitute for the settings of a deleted listener. Earlier versions, which may share the database, can read it.
pub(crate) const ERASED_SPEC: &str = r#"{"url":"about:blank","description":"","hooks":[],"match":{},"rate":null,"concurrency":null,"order":"none","owner":null}"#;

/// For how long (ms) after a hook's fields were replaced events may still be stored with the old ones: the clocks of
/// nodes differ, and publishes take a while.
pub(crate) const REPLACED_MARGIN: Millis = 3_600_000;

/// The stored form of a hook's fields.
pub(crate) fn fields_text(hook: &Hook) -> Result<Option<String>, StoreError> {
    Ok(hook.fields.as_ref().map(serde_json::to_string).transpose()?)
}

/// The stored form of a hook's schema.
pub(crate) fn schema_text(hook: &Hook) -> Option<String> {
    hook.schema.as_ref().map(|schema| schema.as_str().to_owned())
}

/// A listener's spec of version 0.1.0 as this version writes it; `None` if that is the same.
pub(crate) fn upgrade_spec(spec: &str) -> Result<Option<String>, StoreError> {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(spec)?;
    let Some(filter) = members.get("match") else { return Ok(None) };
    let Cow::Owned(now) = upgrade(filter.get()) else { return Ok(None) };
    members.insert("match".to_owned(), RawValue::from_string(now)?);
    Ok(Some(serde_json::to_string(&members)?))
}

/// The error of a replacement that found no record of the expected version. `exists`: there is one of another version.
pub(crate) fn conflict_or_missing(exists: bool) -> StoreError {
    if exists { StoreError::Conflict } else { StoreError::Missing }
}

/// A duration in microseconds, as it is stored.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The name for which a listener's secrets are sealed. A listener's id has no colon, so no two records share a name.
pub(crate) fn listener_name(app: &str, listener: &str) -> String {
    format!("listener:{app}:{listener}")
}

/// The name for which an app's secrets are sealed.
pub(crate) fn app_name(id: &str) -> String {
    format!("app:{id}")
}
