//! A secret in the config: the value itself, or a file that holds it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The largest file of a secret, in bytes: a mistyped path should not read a disk into memory.
const MAX_FILE: u64 = 64 * 1024;

/// A secret as it is written in the config; `Debug` does not show its value.
#[derive(Clone)]
pub(super) enum RawSecret {
    Text(String),
    File(PathBuf),
}

impl RawSecret {
    /// The secret's value. One newline at the end of a file is not part of it: editors and `echo` add one.
    pub(super) fn reveal(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => read(path),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |why: &dyn fmt::Display| format!("the secret's file {} cannot be read: {why}", path.display());
    let length = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if length > MAX_FILE {
        return Err(cannot(&format_args!("it holds {length} bytes, a secret at most {MAX_FILE}")));
    }
    let mut text = std::fs::read_to_string(path).map_err(|error| cannot(&error))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(cannot(&"it is empty")) } else { Ok(text) }
}

impl fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(hidden)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrFile)
    }
}

struct TextOrFile;

impl<'de> Visitor<'de> for TextOrFile {
    type Value = RawSecret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or { file = \"…\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawSecret, E> {
        Ok(RawSecret::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSecret, A::Error> {
        let mut file = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "file" {
                return Err(de::Error::unknown_field(&key, &["file"]));
            }
            file = Some(map.next_value::<PathBuf>()?);
        }
        file.map(RawSecret::File).ok_or_else(|| de::Error::custom("must be a string or { file = \"…\" }"))
    }
}
