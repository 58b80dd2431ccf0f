//! `token`: makes a token, by which a client may join channels.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::connect::Connection;
use super::send::{self, Fields};
use super::{Failure, Outcome};
use crate::config::environment::Env;
use crate::output;

/// The claims of the token, as flags.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user whom it identifies
    #[arg(long, visible_alias = "user", value_name = "USER")]
    sub: Option<String>,
    /// A channel that its bearer may join; can be given several times
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
    /// How long it is valid, such as 10m, 1h or 30d [default: 1h]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    /// The user's info that others in a channel see: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", requires = "sub")]
    info: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl TokenArgs {
    fn body(&self) -> Result<Value, Failure> {
        let info = self.info.as_deref().map(|info| send::json_value("--info", info)).transpose()?;
        let channels = (!self.channels.is_empty()).then(|| self.channels.clone());
        Ok(Fields::default()
            .set("sub", self.sub.clone())
            .set("channels", channels)
            .set("expires_in", self.expires_in.clone())
            .set("info", info)
            .into_value())
    }
}

pub(super) async fn run(args: TokenArgs, outer: Connection, env: &dyn Env) -> Outcome {
    let body = args.body()?;
    if args.sub.is_none() && args.channels.is_empty() {
        output::stderr_line(
            "this token allows nothing that is not public anyway: give a --channel, or a user with --sub",
        );
    }
    let client = args.connection.over(outer).open(env)?;
    let answer = client.send(Method::POST, client.address(&["v1", "tokens"]), Some(body.to_string()), &[]).await?;
    if client.json() {
        output::line(answer.text.trim_end());
        return Ok(());
    }
    let text = |key: &str| answer.value.get(key).and_then(Value::as_str);
    let token = text("token").ok_or_else(|| anyhow::anyhow!("the server's answer has no token"))?;
    // Only the token goes to stdout, so that scripts can use it.
    output::line(output::printable(token));
    if let Some(expires_at) = text("expires_at") {
        output::stderr_line(output::printable(&format!("it expires at {expires_at}")));
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn body_of(args: &TokenArgs) -> Value {
    args.body().ok().unwrap_or_default()
}
