//! `doctor`: checks a server as its clients see it, and says which of their options is wrong.
//!
//! Each check reports its finding in a sentence and, if something is wrong, what to set and where. It needs no API key:
//! it uses the options that Pusher's client and server libraries have.

mod checks;
mod finding;
mod idle;
mod socket;

use std::time::Duration;

use clap::Args;
use serde_json::json;
use url::Url;

use super::connect::{Connection, parse, same_machine};
use super::{Failure, Outcome};
use crate::config::environment::Env;
use crate::credentials::{self, Credentials};
use crate::output;
use checks::{ClientOptions, Doctor};
use finding::{Finding, Verdict};

/// The flags of `doctor`: the options of the clients.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The app's public key [default: as tidings-data/credentials.toml says]
    #[arg(long, value_name = "KEY")]
    app_key: Option<String>,
    /// The app's id, for its servers [default: likewise]
    #[arg(long, value_name = "ID")]
    app_id: Option<String>,
    /// The app's secret, for its servers; or TIDINGS_APP_SECRET [default: likewise]
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// The origin of the web page that connects, such as https://example.com
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Also keep a connection idle for so many seconds, to see whether a proxy cuts it
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: DoctorArgs, outer: Connection, env: &dyn Env) -> Outcome {
    let connection = args.connection.over(outer);
    let json = connection.rest.json;
    let file = connection.rest.credentials.clone().unwrap_or_else(|| credentials::DEFAULT_PATH.into());
    let given = connection.server.or_else(|| env.get("TIDINGS_URL"));
    let kept = match Credentials::in_use(&file, env) {
        // With a URL and an app key, the credentials file is not needed, so an error in it does not matter.
        Err(_) if given.is_some() && args.app_key.is_some() => None,
        kept => kept?.filter(|kept| !kept.url.is_empty()),
    };
    let (url, kept) = server(given.as_deref(), kept)?;
    let or_kept =
        |given: Option<String>, kept: Option<&String>| given.or_else(|| kept.filter(|k| !k.is_empty()).cloned());
    // If the flags name an app, only that app's credentials are used.
    let kept = kept.filter(|kept| {
        args.app_key.as_ref().is_none_or(|key| *key == kept.key)
            && args.app_id.as_ref().is_none_or(|id| *id == kept.app_id)
    });
    let options = ClientOptions {
        key: or_kept(args.app_key, kept.as_ref().map(|kept| &kept.key)),
        id: or_kept(args.app_id, kept.as_ref().map(|kept| &kept.app_id)),
        secret: or_kept(args.secret.or_else(|| env.get("TIDINGS_APP_SECRET")), kept.as_ref().map(|kept| &kept.secret)),
        origin: args.origin,
    };
    let authorities = connection.rest.authorities(env);
    let doctor = Doctor::new(url.clone(), options, authorities.as_deref())?;
    let findings = doctor.run_checks(args.idle.map(Duration::from_secs)).await;
    if json {
        output::line(as_json(&url, &findings).to_string());
    } else {
        output::line(output::printable(&as_text(&url, &findings)));
    }
    let wrong = findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Wrong(_))).count();
    if wrong == 0 {
        return Ok(());
    }
    let checks = findings.len();
    Err(Failure::Failed(anyhow::anyhow!("{wrong} of {checks} checks found something wrong")))
}

/// The verdict of all checks, in a sentence.
fn conclusion(findings: &[Finding]) -> String {
    let names = |wanted: fn(&Verdict) -> bool| {
        findings
            .iter()
            .filter(|finding| wanted(&finding.verdict))
            .map(|finding| finding.what)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let wrong = names(|verdict| matches!(verdict, Verdict::Wrong(_)));
    let skipped = names(|verdict| matches!(verdict, Verdict::Skipped(_)));
    match (wrong.as_str(), skipped.as_str()) {
        ("", "") => "all checks passed".to_owned(),
        ("", skipped) => format!("the checks that ran passed; not checked: {skipped}"),
        (wrong, "") => format!("to be fixed: {wrong}"),
        (wrong, skipped) => format!("to be fixed: {wrong}; not checked: {skipped}"),
    }
}

/// The URL to check, and the kept credentials if they belong to that server.
fn server(given: Option<&str>, kept: Option<Credentials>) -> anyhow::Result<(Url, Option<Credentials>)> {
    match (given, kept) {
        (Some(given), kept) => {
            let url = parse(given)?;
            // Credentials of another server do not apply.
            let kept = kept.filter(|kept| parse(&kept.url).is_ok_and(|own| same_machine(&url, &own)));
            Ok((url, kept))
        }
        (None, Some(kept)) => Ok((parse(&kept.url)?, Some(kept))),
        (None, None) => anyhow::bail!(
            "no server is given; give the URL that clients connect to: `tidings doctor --url https://push.example.com \
            --app-key KEY`"
        ),
    }
}

fn as_text(url: &Url, findings: &[Finding]) -> String {
    let mut lines = vec![format!("{url} as its clients see it")];
    for Finding { what, verdict, found } in findings {
        let (word, remedy) = match verdict {
            Verdict::Fine => ("ok", None),
            Verdict::Noted(meaning) => ("note", Some(meaning)),
            Verdict::Wrong(remedy) => ("WRONG", Some(remedy)),
            Verdict::Skipped(remedy) => ("-", Some(remedy)),
        };
        lines.push(format!("  {word:<6} {what:<10} {found}"));
        lines.extend(remedy.map(|remedy| format!("                    → {remedy}")));
    }
    lines.push(format!("verdict: {}", conclusion(findings)));
    lines.join("\n")
}

fn as_json(url: &Url, findings: &[Finding]) -> serde_json::Value {
    let check = |Finding { what, verdict, found }: &Finding| {
        let (result, remedy) = match verdict {
            Verdict::Fine => ("ok", None),
            Verdict::Noted(meaning) => ("note", Some(meaning)),
            Verdict::Wrong(remedy) => ("wrong", Some(remedy)),
            Verdict::Skipped(remedy) => ("skipped", Some(remedy)),
        };
        json!({"check": what, "result": result, "found": found, "remedy": remedy})
    };
    let checks: Vec<_> = findings.iter().map(check).collect();
    json!({"url": url.as_str(), "checks": checks, "verdict": conclusion(findings)})
}
