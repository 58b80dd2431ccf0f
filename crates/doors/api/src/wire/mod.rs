//! Request and response bodies as `docs/api.md` specifies them: JSON to the model's types and back, without I/O.

pub(crate) mod app;
pub(crate) mod channel;
pub(crate) mod delivery;
pub(crate) mod event;
pub(crate) mod hook;
pub(crate) mod listener;
pub(crate) mod stream;
pub(crate) mod token;

use std::time::Duration;

use tidings_model::hook::MAX_DESCRIPTION_LEN;
use tidings_model::schedule::{Schedule, ScheduleError, format_duration, parse_duration};

use crate::fields::Value;
use crate::limits;
use crate::problem::{Problem, without_place};

fn duration(value: &Value<'_>) -> Result<Duration, Problem> {
    parse_duration(&value.text()?).map_err(|error| value.refused(error))
}

/// The timeout of an attempt.
fn timeout(value: &Value<'_>) -> Result<Duration, Problem> {
    let timeout = duration(value)?;
    if timeout.is_zero() || timeout > limits::TIMEOUT {
        let most = format_duration(limits::TIMEOUT);
        return Err(value.wrong("this timeout is not allowed").remedy(format!("write 1ms to {most}")));
    }
    Ok(timeout)
}

fn schedule(value: &Value<'_>) -> Result<Schedule, Problem> {
    let entries: Vec<String> = value.list()?.iter().map(Value::text).collect::<Result<_, _>>()?;
    Schedule::parse(&entries).map_err(|error| {
        let text = error.to_string();
        let problem = value.refused(without_place(&text));
        match error {
            ScheduleError::NotATime { index, .. } | ScheduleError::TooLong { index, .. } => {
                problem.field(format!("{}[{index}]", value.path))
            }
            ScheduleError::Empty | ScheduleError::TooMany { .. } => problem,
        }
    })
}

/// A text for people, which may have several lines.
fn description(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    if text.len() > MAX_DESCRIPTION_LEN {
        return Err(value.too_long(text.len(), MAX_DESCRIPTION_LEN));
    }
    Ok(text)
}

/// Whether a media type (in lower case, without parameters) is JSON.
pub(crate) fn is_json(media: &str) -> bool {
    media == "application/json" || media.ends_with("+json")
}
