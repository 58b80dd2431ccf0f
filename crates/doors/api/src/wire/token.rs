//! Tokens: reading the claims of a new one, and the response.

use std::time::Duration;

use serde::Serialize;
use tidings_model::app::App;
use tidings_model::clock::{Millis, millis};
use tidings_model::schedule::format_duration;
use tidings_model::token::Claims;

use super::{duration, event};
use crate::fields::{Fields, Value};
use crate::limits;
use crate::problem::{Problem, shown};

/// Reads the claims of a new token; `now` is the wall time.
pub(crate) fn read(body: &[u8], app: &App, now: Millis) -> Result<Claims, Problem> {
    let fields = Fields::of_body(body, &["sub", "channels", "expires_in", "info"], &[])?;
    let expires_in = fields.get("expires_in").map_or(Ok(limits::TOKEN_DEFAULT), |value| expires_in(&value))?;
    let channels = fields.get("channels").map_or(Ok(Vec::new()), |value| channels(&value, app))?;
    let info = fields.get("info").map(|value| info(&value, app)).transpose()?;
    let sub = fields.get("sub").map(|value| sub(&value)).transpose()?;
    if info.is_some() && sub.is_none() {
        return Err(fields_wrong("info", "`info` describes a user, and `sub` names none")
            .remedy("give `sub`, or leave info out"));
    }
    // A token's expiry is in whole seconds; rounded up, so that the token does not expire early.
    let exp = (now + millis(expires_in) + 999).div_euclid(1_000) * 1_000;
    Ok(Claims { sub, channels, channel: None, exp: Some(exp), info })
}

fn fields_wrong(field: &str, detail: &str) -> Problem {
    Problem::new(crate::problem::Code::InvalidField, detail).field(field)
}

fn sub(value: &Value<'_>) -> Result<String, Problem> {
    let sub = value.short_text(limits::SHORT_TEXT)?;
    if sub.is_empty() {
        return Err(value.wrong("the user id is empty").remedy("write a user's id, or leave it out"));
    }
    Ok(sub)
}

fn channels(value: &Value<'_>, app: &App) -> Result<Vec<String>, Problem> {
    let entries = value.list()?;
    let most = app.limits.channels_per_session;
    if entries.len() > most {
        return Err(value.wrong(format!("{} channels", entries.len())).remedy(format!("name at most {most}")));
    }
    entries.iter().map(event::channel).collect()
}

fn info(value: &Value<'_>, app: &App) -> Result<bytes::Bytes, Problem> {
    let (text, most) = (value.raw.get(), app.limits.member_info);
    if text.len() > most {
        return Err(value.too_long(text.len(), most));
    }
    Ok(text.to_owned().into())
}

/// How long the token is valid: a duration (`"1h"`), or a number of seconds.
fn expires_in(value: &Value<'_>) -> Result<Duration, Problem> {
    let seconds = value.raw.get().parse::<u64>().ok();
    let duration = seconds.map_or_else(|| duration(value), |seconds| Ok(Duration::from_secs(seconds)))?;
    if duration.is_zero() || duration > limits::TOKEN_MAX {
        let most = format_duration(limits::TOKEN_MAX);
        return Err(value
            .wrong(format!("a token cannot be valid for {:?}", shown(value.raw.get())))
            .remedy(format!("write 1s to {most}; clients get a new one when theirs has expired")));
    }
    Ok(duration)
}

/// The response with a new token.
#[derive(Debug, Serialize)]
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) expires_at: String,
}
