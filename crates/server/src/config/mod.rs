//! The config file: text → `RawConfig` (what was written) → [`Settings`] (what it means).
//!
//! Each section has a file, with its keys as they are written and the function that checks them. All problems are
//! reported at once: a key that cannot be read is recorded and removed, and the rest is checked.
//!
//! Precedence, the last wins: defaults, the file, `TIDINGS__SECTION__KEY` variables, flags.

mod admin;
mod apps;
mod broker;
mod channels;
mod check;
mod courier;
mod doors;
mod egress;
pub(crate) mod environment;
mod limits;
mod live;
mod loaded;
mod machines;
mod origins;
mod problem;
mod raw;
mod read_raw;
mod retention;
mod secret;
mod secrets;
mod serde_message;
mod source;
pub(crate) mod spec_parser;
mod store;
mod tls;
mod tokens;
mod top;
mod unbuilt;
mod value;
mod webhooks;

use std::path::Path;

use check::Check;
pub(crate) use check::network;
use environment::Env;
pub(crate) use loaded::Loaded;
pub(crate) use problem::Problems;
use read_raw::read_raw;
pub(crate) use top::address;
pub(crate) use webhooks::unreachable as unreachable_webhooks;

/// Reads the config at `path` and the environment.
///
/// # Errors
/// [`Problems`]: everything that is wrong, each with its position.
pub(crate) fn load(path: &Path, env: &dyn Env) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Problems::one(&name, unreadable(&error)))?;
    read(&name, &text, env, Some(path))
}

/// The config of a server that was started without a file: defaults and the environment.
///
/// # Errors
/// [`Problems`] as [`load`] has them.
pub(crate) fn without_file(env: &dyn Env) -> Result<Loaded, Problems> {
    parse("", "", env)
}

/// Reads `text` as the config file `name`.
///
/// # Errors
/// [`Problems`] as [`load`] has them.
pub(crate) fn parse(name: &str, text: &str, env: &dyn Env) -> Result<Loaded, Problems> {
    read(name, text, env, None)
}

fn read(name: &str, text: &str, env: &dyn Env, file: Option<&Path>) -> Result<Loaded, Problems> {
    let (source, raw) = read_raw(name, text, env)?;
    let mut check = Check::new(source, environment::misspelt(env));
    let settings = raw.resolve(&mut check);
    if let Some(file) = file {
        check.exposed_config(file);
    }
    check.finish(settings)
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; `tidings init` writes one".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests;
