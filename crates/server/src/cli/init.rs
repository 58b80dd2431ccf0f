//! `init`: writes a commented `tidings.toml` with the app of the first start, if there was one, or with fresh secrets.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;

use super::Outcome;
use crate::credentials::{self, Credentials};
use crate::{files, keys, output};

const TEMPLATE: &str = include_str!("init.toml");

/// The flags of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The file to write; an existing file is not changed
    #[arg(long, short = 'c', value_name = "FILE", default_value = "tidings.toml")]
    pub(crate) config: PathBuf,
    /// The credentials file whose app and keys it is to have, where there is one
    /// [default: tidings-data/credentials.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
}

pub(super) fn run(args: &InitArgs) -> Outcome {
    let path = &args.config;
    let name = path.display().to_string();
    let kept_at = args.credentials.as_deref().unwrap_or(Path::new(credentials::DEFAULT_PATH));
    let made = Credentials::load(kept_at)?;
    if made.is_none() && args.credentials.is_some() {
        return Err(anyhow!("there is no file {}", kept_at.display()).into());
    }
    let made = made.unwrap_or_default().made();
    files::create_private(path, text(&made)?.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            anyhow!("{name} is there already and was not changed; name another file with --config")
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {name}")),
    })?;
    output::line(format!("{name} is written; it holds secrets, so only you can read it"));
    if made.has_app() {
        output::line(format!(
            "the app {} of the first start is in it with the keys that it has; it can be changed there",
            made.app_id
        ));
    }
    output::line(format!(
        "check it with `tidings check --config {0}`, start with `tidings --config {0}`",
        output::shell_quoted(&name)
    ));
    Ok(())
}

/// The template, with each `{{…}}` replaced by the credential that was made before, or else by a fresh secret.
pub(crate) fn text(made: &Credentials) -> anyhow::Result<String> {
    let mut text = String::with_capacity(TEMPLATE.len() + 256);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, behind) = after.split_once("}}").context("the built-in template is damaged")?;
        text.push_str(before);
        let kept = match name {
            "app_id" if !made.has_app() => "1",
            "app_id" => &made.app_id,
            "key" => &made.key,
            "secret" => &made.secret,
            "api_key" => &made.api_key,
            "token_hmac_secret" => &made.token_hmac_secret,
            "operator_key" => &made.operator_key,
            _ => "",
        };
        match kept {
            "" => text.push_str(&keys::random_key()?),
            // The credentials file may have been edited by hand: these two characters would end the TOML string or
            // escape in it.
            kept => text.push_str(&kept.replace('\\', "\\\\").replace('"', "\\\"")),
        }
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}
