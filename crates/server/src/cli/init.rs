//! `init`: a commented `tidings.toml` with fresh secrets.

use std::io::ErrorKind;

use anyhow::{Context, anyhow};

use super::Outcome;
use super::args::InitArgs;
use crate::{files, keys, output};

const TEMPLATE: &str = include_str!("init.toml");

pub(super) fn run(args: &InitArgs) -> Outcome {
    let path = &args.config;
    let name = path.display().to_string();
    files::create_private(path, text()?.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            anyhow!("{name} is there already, and is left as it is; name another with --config")
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {name}")),
    })?;
    output::line(format!("{name} is written; it holds secrets, so only you can read it"));
    output::line(format!(
        "check it with `tidings check --config {0}`, start with `tidings --config {0}`",
        output::shell_quoted(&name)
    ));
    Ok(())
}

/// The template with a fresh secret in each `{{…}}`.
pub(crate) fn text() -> anyhow::Result<String> {
    let mut text = String::with_capacity(TEMPLATE.len() + 256);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (_, behind) = after.split_once("}}").context("the built-in template is damaged")?;
        text.push_str(before);
        text.push_str(&keys::random_key()?);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}
