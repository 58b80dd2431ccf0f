//! What the checks of all sections share: collecting problems and warnings, and reading values that several sections
//! have.

use std::path::Path;

use ipnet::IpNet;
use tidings_model::secret::SecretString;
use url::Url;

use super::loaded::Loaded;
use super::problem::{Problem, Problems};
use super::secret::RawSecret;
use super::source::Source;
use crate::files;
use crate::settings::Settings;

/// Collects problems and warnings while the sections are checked.
#[derive(Debug)]
pub(super) struct Check {
    source: Source,
    warnings: Vec<Problem>,
    /// The file itself holds a secret.
    holds_secrets: bool,
}

impl Check {
    pub(super) fn new(source: Source, warnings: Vec<Problem>) -> Self {
        Self { source, warnings, holds_secrets: false }
    }

    /// Adds a problem: the server cannot start with the value at `path`.
    pub(super) fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.source.wrong(path, message.into());
    }

    /// Adds a warning: the value at `path` works, but maybe not as its author expects.
    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>) {
        let problem = self.source.problem(path, message.into());
        self.warnings.push(problem);
    }

    /// The path of each key that file or environment set, and of each table and array around it.
    pub(super) fn set_paths(&self) -> Vec<String> {
        self.source.set_paths()
    }

    /// The problems, as pairs of path and message.
    pub(super) fn into_wrong(self) -> Vec<(String, String)> {
        self.source.into_wrong()
    }

    /// A secret's text; `None` when it is not set, or its file cannot be read.
    pub(super) fn secret(&mut self, path: &str, secret: Option<&RawSecret>) -> Option<SecretString> {
        match self.reveal(path, secret?) {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(SecretString::from(text)),
            Err(message) => {
                self.wrong(path, message);
                None
            }
        }
    }

    /// Reads a secret, and warns if its file is readable by every user of the machine.
    pub(super) fn reveal(&mut self, path: &str, secret: &RawSecret) -> Result<String, String> {
        match secret {
            RawSecret::Text(text) => self.holds_secrets |= !text.is_empty() && !self.source.is_variable(path),
            RawSecret::File(file) => self.exposed(path, file),
        }
        secret.reveal()
    }

    /// Warns if a file with secrets is readable by every user of the machine.
    pub(super) fn exposed(&mut self, path: &str, file: &Path) {
        if let Some(message) = files::exposed(file) {
            self.warn(path, message);
        }
    }

    /// The same for the config file, if it holds a secret itself.
    pub(super) fn exposed_config(&mut self, file: &Path) {
        if self.holds_secrets {
            self.exposed("", file);
        }
    }

    /// A number within bounds; the default if it is not set, or out of bounds, which is a problem.
    pub(super) fn bounded<T: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        path: &str,
        given: Option<T>,
        default: T,
        least: T,
        most: T,
    ) -> T {
        match given {
            Some(value) if value < least || value > most => {
                self.wrong(path, format!("{path} must be {least} to {most}, not {value}"));
                default
            }
            Some(value) => value,
            None => default,
        }
    }

    /// Reads networks such as `10.0.0.0/8`; a single address is a network of one.
    pub(super) fn networks(&mut self, path: &str, given: &[String]) -> Vec<IpNet> {
        let mut networks = Vec::with_capacity(given.len());
        for (n, text) in given.iter().enumerate() {
            match network(text) {
                Ok(network) => networks.push(network),
                Err(message) => self.wrong(&format!("{path}[{n}]"), message),
            }
        }
        networks
    }

    /// Reads an `http` or `https` URL; an empty string counts as not set.
    pub(super) fn http_url(&mut self, path: &str, given: Option<&str>) -> Option<Url> {
        let text = given.filter(|text| !text.is_empty())?;
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
            Ok(_) => {
                self.wrong(path, format!("{path} must begin with http:// or https://"));
                None
            }
            Err(error) => {
                self.wrong(path, format!("{path} is not a URL: {error}"));
                None
            }
        }
    }

    /// The settings with the warnings, or the problems if there are any.
    pub(super) fn finish(self, settings: Settings) -> Result<Loaded, Problems> {
        let mut warnings = self.warnings;
        warnings.sort_by_key(|warning| warning.offset);
        match self.source.into_problems() {
            problems if problems.is_empty() => Ok(Loaded { settings, warnings }),
            problems => Err(Problems(problems)),
        }
    }
}

/// Reads a network as config and `--egress-allow` write it.
///
/// # Errors
/// A sentence for the author of the value.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    if let Ok(network) = text.parse::<IpNet>() {
        return Ok(network.trunc());
    }
    text.parse::<std::net::IpAddr>()
        .map(IpNet::from)
        .map_err(|_| format!("{text:?} is not a network; write it as 10.0.0.0/8, or as fd00::/8"))
}
