//! The JSON that a command sends: `--data JSON`, `--data @file`, `--data -`, and objects of the fields that were given.

use std::io::Read;
use std::str::FromStr;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Failure;
use crate::output;

/// The JSON text that a flag stands for, byte for byte: the value itself, `@file`, or `-` for stdin.
pub(super) fn json(flag: &str, given: &str) -> Result<Box<RawValue>, Failure> {
    let text = match given.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::Failed(anyhow::anyhow!("{flag} {given}: {file} cannot be read: {error}")))?,
        None if given == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::Failed(anyhow::anyhow!("{flag} -: stdin cannot be read: {error}")))?;
            text
        }
        None => given.to_owned(),
    };
    serde_json::from_str(text.trim()).map_err(|error| {
        Failure::Usage(format!(
            "{flag} is not JSON: {error}; a string needs quotes of its own, as in {flag} '\"hello\"'"
        ))
    })
}

/// The same, parsed.
pub(super) fn json_value(flag: &str, given: &str) -> Result<Value, Failure> {
    let raw = json(flag, given)?;
    serde_json::from_str(raw.get()).map_err(|error| Failure::Usage(format!("{flag} is not JSON: {error}")))
}

/// Refuses JSON in the place of a channel's name, and warns of several names in one word.
pub(super) fn check_channels(channels: &[String]) -> Result<(), Failure> {
    for channel in channels {
        let is_data = channel.starts_with(['{', '[', '"']) && serde_json::from_str::<Value>(channel).is_ok();
        if is_data {
            return Err(Failure::Usage(format!(
                "{} is JSON, not a channel's name; give data with --data",
                output::shell_quoted(channel)
            )));
        }
        // Behind a `#`, commas separate the users that a channel is for.
        if channel.contains(',') && !channel.contains('#') {
            let several = channel.split(',').map(str::trim).collect::<Vec<_>>().join(" ");
            output::stderr_line(output::printable(&format!(
                "{channel} is taken as one channel; to name several, put spaces between them: {several}"
            )));
        }
    }
    Ok(())
}

/// A flag's value, or the word `none`, which removes the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setting<T> {
    /// `none`
    Unset,
    /// Anything else.
    To(T),
}

impl<T: FromStr> FromStr for Setting<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self::Unset) } else { text.parse().map(Self::To) }
    }
}

/// The object that a create or update sends: only the fields that were given.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Sets a field, if it was given.
    pub(super) fn set(mut self, name: &str, given: Option<impl Into<Value>>) -> Self {
        if let Some(value) = given {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Sets a field, or removes it with `null`.
    pub(super) fn setting<T: Into<Value>>(self, name: &str, given: Option<Setting<T>>) -> Self {
        self.set(name, given.map(|given| if let Setting::To(value) = given { value.into() } else { Value::Null }))
    }

    /// The object.
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Splits `0s,5s,5m` into the array that the API takes.
pub(super) fn schedule(given: Option<Setting<String>>) -> Option<Setting<Vec<String>>> {
    given.map(|given| match given {
        Setting::Unset => Setting::Unset,
        Setting::To(text) => Setting::To(text.split(',').map(|entry| entry.trim().to_owned()).collect()),
    })
}
