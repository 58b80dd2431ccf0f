//! Hooks: reading them from requests, and showing them.

use serde::Serialize;
use serde_json::value::RawValue;
use tidings_model::clock::{Millis, rfc3339};
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook, MAX_FIELDS, Schema};
use tidings_model::id::AppId;
use tidings_model::payload::{Field, FieldKind};
use tidings_model::schedule::{Schedule, format_duration};

use super::{description, event, schedule, timeout};
use crate::fields::{Fields, Setting, Value};
use crate::limits;
use crate::problem::{Problem, shown};

const KNOWN: [&str; 6] = ["name", "description", "fields", "fields_for", "schema", "defaults"];
const SHOWN_ONLY: [&str; 2] = ["created_at", "updated_at"];

/// A request's changes to a hook.
#[derive(Debug)]
pub(crate) struct Change {
    description: Setting<String>,
    fields: Setting<Vec<Field>>,
    fields_for: Setting<FieldsFor>,
    schema: Setting<Schema>,
    defaults: Setting<DeliveryDefaults>,
}

/// Reads a new hook.
pub(crate) fn read_new(body: &[u8], app: &AppId, now: Millis) -> Result<Hook, Problem> {
    let fields = Fields::of_body(body, &KNOWN, &SHOWN_ONLY)?;
    let mut hook = Hook {
        app: app.clone(),
        name: event::name(&fields.required("name")?)?,
        description: String::new(),
        fields: None,
        fields_for: FieldsFor::default(),
        schema: None,
        defaults: DeliveryDefaults::default(),
        version: 0,
        created_at: now,
        updated_at: now,
    };
    Change::of(&fields)?.apply(&mut hook);
    Ok(hook)
}

impl Change {
    /// Reads a change of the hook `name`.
    pub(crate) fn read(body: &[u8], name: &str) -> Result<Self, Problem> {
        let fields = Fields::of_body(body, &KNOWN, &SHOWN_ONLY)?;
        if let Some(value) = fields.sent("name")
            && value.text()? != name
        {
            return Err(value
                .wrong("a hook's name cannot change: events and listeners refer to it")
                .remedy("create another hook, and delete this one when no listener names it any more"));
        }
        Self::of(&fields)
    }

    fn of(fields: &Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            description: fields.setting("description", description)?,
            fields: fields.setting("fields", declared)?,
            fields_for: fields.setting("fields_for", fields_for)?,
            schema: fields.setting("schema", schema)?,
            defaults: fields.setting("defaults", defaults)?,
        })
    }

    /// Applies the change.
    pub(crate) fn apply(&self, hook: &mut Hook) {
        self.description.apply_or(&mut hook.description, String::new);
        self.fields.apply(&mut hook.fields);
        self.fields_for.apply_or(&mut hook.fields_for, FieldsFor::default);
        self.schema.apply(&mut hook.schema);
        self.defaults.apply_or(&mut hook.defaults, DeliveryDefaults::default);
    }
}

fn declared(value: &Value<'_>) -> Result<Vec<Field>, Problem> {
    let entries = value.list()?;
    if entries.len() > MAX_FIELDS {
        return Err(value.wrong(format!("{} fields", entries.len())).remedy(format!("declare at most {MAX_FIELDS}")));
    }
    let mut fields: Vec<Field> = Vec::with_capacity(entries.len());
    for entry in &entries {
        let field = if entry.raw.get().starts_with('{') {
            let parts = entry.object(&["name", "type"])?;
            let name = field_name(&parts.required("name")?)?;
            Field { name, kind: parts.get("type").map(|value| field_kind(&value)).transpose()? }
        } else {
            Field::named(field_name(entry)?)
        };
        if fields.iter().any(|before| before.name == field.name) {
            return Err(entry.wrong(format!("{:?} is declared twice", shown(&field.name))).remedy("keep one"));
        }
        fields.push(field);
    }
    Ok(fields)
}

fn field_name(value: &Value<'_>) -> Result<String, Problem> {
    let name =
        value.text().map_err(|problem| problem.remedy("write the name of a field, or {\"name\":…,\"type\":…}"))?;
    if name.len() > limits::FIELD_NAME {
        return Err(value.too_long(name.len(), limits::FIELD_NAME));
    }
    Ok(name)
}

fn field_kind(value: &Value<'_>) -> Result<FieldKind, Problem> {
    let word = value.text()?;
    FieldKind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let all = FieldKind::ALL.map(FieldKind::as_str).join(", ");
        value.wrong(format!("there is no type {:?}", shown(&word))).remedy(format!("write one of {all}"))
    })
}

fn fields_for(value: &Value<'_>) -> Result<FieldsFor, Problem> {
    let word = value.text()?;
    FieldsFor::ALL.into_iter().find(|known| known.as_str() == word).ok_or_else(|| {
        value.wrong(format!("fields cannot apply to {:?}", shown(&word))).remedy("write \"all\" or \"webhooks\"")
    })
}

fn schema(value: &Value<'_>) -> Result<Schema, Problem> {
    let text = value.raw.get();
    if text.len() > limits::SCHEMA {
        return Err(value.too_long(text.len(), limits::SCHEMA));
    }
    if text.starts_with('{') || matches!(text, "true" | "false") {
        return Ok(RawValue::to_owned(value.raw).into());
    }
    Err(value.wrong("a JSON Schema is an object").remedy("write one such as {\"type\":\"object\"}"))
}

fn defaults(value: &Value<'_>) -> Result<DeliveryDefaults, Problem> {
    let fields = value.object(&["timeout", "schedule"])?;
    Ok(DeliveryDefaults {
        timeout: fields.get("timeout").map(|value| timeout(&value)).transpose()?,
        schedule: fields.get("schedule").map(|value| schedule(&value)).transpose()?,
    })
}

/// A hook as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'h> {
    name: &'h str,
    description: &'h str,
    fields: Option<&'h [Field]>,
    fields_for: FieldsFor,
    schema: Option<&'h Schema>,
    defaults: ShownDefaults<'h>,
    created_at: String,
    updated_at: String,
}

#[derive(Debug, Serialize)]
struct ShownDefaults<'h> {
    timeout: Option<String>,
    schedule: Option<&'h Schedule>,
}

impl<'h> From<&'h Hook> for Shown<'h> {
    fn from(hook: &'h Hook) -> Self {
        Self {
            name: &hook.name,
            description: &hook.description,
            fields: hook.fields.as_deref(),
            fields_for: hook.fields_for,
            schema: hook.schema.as_ref(),
            defaults: ShownDefaults {
                timeout: hook.defaults.timeout.map(format_duration),
                schedule: hook.defaults.schedule.as_ref(),
            },
            created_at: rfc3339(hook.created_at),
            updated_at: rfc3339(hook.updated_at),
        }
    }
}
