//! Listeners: reading them from requests, and showing them. Header values are never shown; the secret only where
//! `docs/api.md` says so.

use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tidings_model::clock::{Millis, rfc3339};
use tidings_model::id::{AppId, DestinationNo, new_id};
use tidings_model::listener::{
    Disabled, Format, Listener, MAX_CONCURRENCY, MAX_HEADERS, MAX_HOOKS, MAX_RATE, MAX_URL_LEN, Order, check_header,
};
use tidings_model::matcher::{Declared, Match};
use tidings_model::pattern::Pattern;
use tidings_model::schedule::{Schedule, format_duration};
use tidings_model::secret::SecretString;
use tidings_model::signature::{KeyRing, Secret};
use url::Url;

use super::{description, duration, schedule, timeout};
use crate::fields::{Fields, Setting, Value};
use crate::limits;
use crate::problem::{Code, Problem, shown, without_place};

const KNOWN: [&str; 13] = [
    "url",
    "hooks",
    "match",
    "secret",
    "headers",
    "rate",
    "concurrency",
    "order",
    "timeout",
    "schedule",
    "enabled",
    "owner",
    "description",
];
const SHOWN_ONLY: [&str; 9] = [
    "id",
    "format",
    "disabled_reason",
    "disabled_at",
    "failing_since",
    "created_at",
    "updated_at",
    "hints",
    "warnings",
];
/// Shown in place of a header's value.
const HIDDEN: &str = "***";
/// The reason of a listener that was disabled over the API.
const BY_REQUEST: &str = "by request";

type Headers = Vec<(String, SecretString)>;

/// A request's changes to a listener.
#[derive(Debug)]
pub(crate) struct Change {
    url: Option<Url>,
    hooks: Option<Vec<Pattern>>,
    filter: Setting<Match>,
    /// What is accepted but most likely a mistake.
    pub(crate) warnings: Vec<String>,
    headers: Setting<Headers>,
    rate: Setting<u32>,
    concurrency: Setting<u32>,
    order: Setting<Order>,
    timeout: Setting<Duration>,
    schedule: Setting<Schedule>,
    enabled: Setting<bool>,
    owner: Setting<String>,
    description: Setting<String>,
}

/// Looks up the fields that are declared by the hooks that match these names and patterns.
pub(crate) type DeclaredBy<'a> = dyn Fn(&[Pattern]) -> Declared + 'a;

/// Reads a new listener. Compiles its match, which may take long.
pub(crate) fn read_new(body: &[u8], app: &AppId, now: Millis, declared: &DeclaredBy<'_>) -> Result<Listener, Problem> {
    let fields = Fields::of_body(body, &KNOWN, &SHOWN_ONLY)?;
    let mut listener = Listener {
        app: app.clone(),
        id: new_id("lst"),
        no: DestinationNo(0),
        url: url(&fields.required("url")?)?,
        description: String::new(),
        hooks: hooks(&fields.required("hooks")?)?,
        filter: Match::all(),
        keys: KeyRing::new(secret(&fields)?),
        headers: Vec::new(),
        rate: None,
        concurrency: None,
        order: Order::default(),
        format: Format::default(),
        batch: 1,
        timeout: None,
        schedule: None,
        disabled: None,
        owner: None,
        version: 0,
        created_at: now,
        updated_at: now,
    };
    Change::of(&fields, &[], &listener.hooks, declared)?.apply(&mut listener, now);
    Ok(listener)
}

impl Change {
    /// Reads a change of a listener. Compiles a new match, which may take long.
    pub(crate) fn read(body: &[u8], before: &Listener, declared: &DeclaredBy<'_>) -> Result<Self, Problem> {
        let fields = Fields::of_body(body, &KNOWN, &SHOWN_ONLY)?;
        if let Some(value) = fields.sent("secret") {
            return Err(value
                .wrong("the secret cannot be changed here, because receivers need time to learn the new one")
                .remedy(format!("rotate it with `POST /v1/listeners/{}/rotate_secret`", before.id)));
        }
        for name in ["url", "hooks"] {
            if let Some(value) = fields.sent(name).filter(Value::is_null) {
                return Err(value.wrong("a listener needs this field").remedy("give a new value, or leave it out"));
            }
        }
        let mut change = Self::of(&fields, &before.headers, &before.hooks, declared)?;
        if let (Some(hooks), Setting::Kept) = (&change.hooks, &change.filter) {
            // The match stays, but it may require fields that the new hooks do not declare.
            let filter = Match::parse_for(before.filter.to_json().get(), &declared(hooks));
            change.warnings = filter.map_or_else(|_| Vec::new(), |filter| filter.warnings().to_vec());
        }
        Ok(change)
    }

    fn of(
        fields: &Fields<'_>,
        before: &[(String, SecretString)],
        hooks_before: &[Pattern],
        declared: &DeclaredBy<'_>,
    ) -> Result<Self, Problem> {
        let hooks = fields.get("hooks").map(|value| hooks(&value)).transpose()?;
        let declared = || declared(hooks.as_deref().unwrap_or(hooks_before));
        let filter = fields.setting("match", |value| filter(value, &declared()))?;
        let warnings = match &filter {
            Setting::To(filter) => filter.warnings().to_vec(),
            Setting::Kept | Setting::Reset => Vec::new(),
        };
        Ok(Self {
            url: fields.get("url").map(|value| url(&value)).transpose()?,
            hooks,
            filter,
            warnings,
            headers: fields.setting("headers", |value| headers(value, before))?,
            rate: fields.setting("rate", |value| value.whole(1..=MAX_RATE))?,
            concurrency: fields.setting("concurrency", |value| value.whole(1..=MAX_CONCURRENCY))?,
            order: fields.setting("order", order)?,
            timeout: fields.setting("timeout", timeout)?,
            schedule: fields.setting("schedule", schedule)?,
            enabled: fields.setting("enabled", Value::flag)?,
            owner: fields.setting("owner", |value| value.short_text(limits::SHORT_TEXT))?,
            description: fields.setting("description", description)?,
        })
    }

    /// The new URL, if there is one.
    pub(crate) fn url(&self) -> Option<&Url> {
        self.url.as_ref()
    }

    /// Applies the change.
    pub(crate) fn apply(&self, listener: &mut Listener, now: Millis) {
        if let Some(url) = &self.url {
            listener.url = url.clone();
        }
        if let Some(hooks) = &self.hooks {
            listener.hooks.clone_from(hooks);
        }
        self.filter.apply_or(&mut listener.filter, Match::all);
        self.headers.apply_or(&mut listener.headers, Vec::new);
        self.rate.apply(&mut listener.rate);
        self.concurrency.apply(&mut listener.concurrency);
        self.order.apply_or(&mut listener.order, Order::default);
        self.timeout.apply(&mut listener.timeout);
        self.schedule.apply(&mut listener.schedule);
        self.owner.apply(&mut listener.owner);
        self.description.apply_or(&mut listener.description, String::new);
        match self.enabled {
            Setting::Kept => {}
            Setting::Reset | Setting::To(true) => listener.disabled = None,
            // A listener that is already disabled by request keeps its `disabled_at`.
            Setting::To(false) if listener.disabled.as_ref().is_some_and(|d| d.reason == BY_REQUEST) => {}
            Setting::To(false) => listener.disabled = Some(Disabled { reason: BY_REQUEST.to_owned(), at: now }),
        }
    }
}

/// Reads a URL. Egress decides whether it may be called.
fn url(value: &Value<'_>) -> Result<Url, Problem> {
    let text = value.text()?;
    if text.len() > MAX_URL_LEN {
        return Err(value.too_long(text.len(), MAX_URL_LEN));
    }
    // The parser would silently remove them, and the server would call another URL than the one that was written.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(value.wrong("this URL contains white space or a control character").remedy("escape it with %"));
    }
    // The text is not repeated: it may hold a password.
    let mut url = Url::parse(&text).map_err(|error| {
        value.wrong(format!("this is not a URL: {error}")).remedy("write it in full, such as https://example.com/hook")
    })?;
    // A fragment is never sent (RFC 9110 § 7.1).
    url.set_fragment(None);
    if url.as_str().len() > MAX_URL_LEN {
        return Err(value.too_long(url.as_str().len(), MAX_URL_LEN));
    }
    Ok(url)
}

fn hooks(value: &Value<'_>) -> Result<Vec<Pattern>, Problem> {
    let entries = value.list()?;
    if entries.is_empty() || entries.len() > MAX_HOOKS {
        return Err(value
            .wrong(format!("{} names", entries.len()))
            .remedy(format!("name 1 to {MAX_HOOKS} hooks, or patterns such as person.*; * is all of them")));
    }
    let mut hooks: Vec<Pattern> = Vec::with_capacity(entries.len());
    for entry in &entries {
        let pattern = Pattern::parse(&entry.text()?).map_err(|error| entry.refused(error))?;
        if hooks.contains(&pattern) {
            return Err(entry.wrong(format!("{:?} is given twice", pattern.as_str())).remedy("keep one"));
        }
        hooks.push(pattern);
    }
    Ok(hooks)
}

fn filter(value: &Value<'_>, declared: &Declared) -> Result<Match, Problem> {
    Match::parse_for(value.raw.get(), declared).map_err(|error| {
        let text = error.to_string();
        let text = text.strip_prefix(error.path()).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
        // Some of these texts consist of a remedy only.
        let problem = if text.contains("; ") {
            value.refused(text)
        } else {
            value.wrong("this is not valid in a match").remedy(text)
        };
        problem.field(error.path())
    })
}

/// The secret of a new listener or of a rotation: the given one, else a generated one.
fn secret(fields: &Fields<'_>) -> Result<Secret, Problem> {
    let Some(value) = fields.get("secret") else {
        return Secret::generate().map_err(|error| {
            tracing::error!(%error, "generating a secret failed");
            Problem::saying(Code::Internal, without_place(&error.to_string()))
        });
    };
    Secret::parse(&value.text()?).map_err(|error| value.refused(without_place(&error.to_string())))
}

fn headers(value: &Value<'_>, before: &[(String, SecretString)]) -> Result<Headers, Problem> {
    let members = value.members()?;
    if members.len() > MAX_HEADERS {
        return Err(value.wrong(format!("{} headers", members.len())).remedy(format!("give at most {MAX_HEADERS}")));
    }
    let mut headers: Headers = Vec::with_capacity(members.len());
    for (name, raw) in members {
        let header = Value { path: format!("{}.{}", value.path, shown(&name)), raw };
        let text = header.text()?;
        let same = |other: &&(String, SecretString)| other.0.eq_ignore_ascii_case(&name);
        if headers.iter().any(|other| same(&other)) {
            return Err(header
                .wrong("this header is given twice; upper and lower case make no difference")
                .remedy("keep one"));
        }
        let token = match before.iter().find(same) {
            Some((_, kept)) if text == HIDDEN => kept.clone(),
            None if text == HIDDEN => {
                return Err(header
                    .wrong(format!("`{HIDDEN}` keeps a header's value, and there is no header of this name"))
                    .remedy("give the value itself"));
            }
            _ => SecretString::from(text),
        };
        check_header(&name, token.expose()).map_err(|error| {
            Problem::saying(Code::InvalidField, error)
                .field(&header.path)
                .or_remedy("change this header, or leave it out")
        })?;
        headers.push((name, token));
    }
    Ok(headers)
}

fn order(value: &Value<'_>) -> Result<Order, Problem> {
    match value.text()?.as_str() {
        "none" => Ok(Order::None),
        "fifo" => Ok(Order::Fifo),
        "key" => Ok(Order::Key),
        other => Err(value.wrong(format!("there is no order {:?}", shown(other))).remedy("write none, fifo or key")),
    }
}

/// A rotation of a listener's secret.
#[derive(Debug)]
pub(crate) struct Rotation {
    pub(crate) secret: Secret,
    /// How long the previous secret still signs too.
    pub(crate) grace: Duration,
}

impl Rotation {
    /// Reads the body of a rotation.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::of_body(body, &["secret", "grace"], &[])?;
        let grace = match fields.get("grace") {
            None => limits::GRACE_DEFAULT,
            Some(value) => {
                let grace = duration(&value)?;
                if grace > limits::GRACE_MAX {
                    let most = format_duration(limits::GRACE_MAX);
                    return Err(value
                        .wrong("the previous secret cannot stay valid this long")
                        .remedy(format!("write at most {most}")));
                }
                grace
            }
        };
        Ok(Self { secret: secret(&fields)?, grace })
    }
}

/// The response to a rotation.
#[derive(Serialize)]
pub(crate) struct Rotated {
    pub(crate) secret: String,
    pub(crate) previous_valid_until: String,
}

/// A listener as it is shown.
#[derive(Serialize)]
pub(crate) struct Shown<'l> {
    id: &'l str,
    url: &'l str,
    hooks: &'l [Pattern],
    #[serde(rename = "match")]
    filter: &'l RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    headers: HeaderNames<'l>,
    rate: Option<u32>,
    concurrency: Option<u32>,
    order: Order,
    #[serde(skip_serializing_if = "is_standard")]
    format: Format,
    timeout: Option<String>,
    schedule: Option<&'l Schedule>,
    enabled: bool,
    owner: Option<&'l str>,
    description: &'l str,
    disabled_reason: Option<&'l str>,
    disabled_at: Option<String>,
    failing_since: Option<String>,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'l [String],
}

fn is_standard(format: &Format) -> bool {
    *format == Format::STANDARD
}

struct HeaderNames<'l>(&'l [(String, SecretString)]);

impl Serialize for HeaderNames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, _) in self.0 {
            map.serialize_entry(name, HIDDEN)?;
        }
        map.end()
    }
}

impl<'l> Shown<'l> {
    /// A listener without its secret.
    pub(crate) fn of(listener: &'l Listener, failing_since: Option<Millis>) -> Self {
        Self {
            id: &listener.id,
            url: listener.url.as_str(),
            hooks: &listener.hooks,
            filter: listener.filter.to_json(),
            secret: None,
            headers: HeaderNames(&listener.headers),
            rate: listener.rate,
            concurrency: listener.concurrency,
            order: listener.order,
            format: listener.format.clone(),
            timeout: listener.timeout.map(format_duration),
            schedule: listener.schedule.as_ref(),
            enabled: listener.enabled(),
            owner: listener.owner.as_deref(),
            description: &listener.description,
            disabled_reason: listener.disabled.as_ref().map(|disabled| disabled.reason.as_str()),
            disabled_at: listener.disabled.as_ref().map(|disabled| rfc3339(disabled.at)),
            failing_since: failing_since.map(rfc3339),
            created_at: rfc3339(listener.created_at),
            updated_at: rfc3339(listener.updated_at),
            warnings: &[],
        }
    }

    /// A listener with its secret, for the response that creates it.
    pub(crate) fn with_secret(listener: &'l Listener) -> Self {
        Self { secret: Some(listener.keys.current.expose().to_string()), ..Self::of(listener, None) }
    }

    /// The same with warnings about the request's likely mistakes.
    pub(crate) fn with_warnings(self, warnings: &'l [String]) -> Self {
        Self { warnings, ..self }
    }
}
