//! `token`: what a client shows to join channels.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::connect::Connection;
use super::send::{self, Fields};
use super::{Failure, Outcome};
use crate::config::environment::Strings;
use crate::output;

/// What the token is to say.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user that its bearer is
    #[arg(long, visible_alias = "user", value_name = "USER")]
    sub: Option<String>,
    /// A channel that its bearer may join; can be given several times
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
    /// For how long it holds, such as 10m, 1h or 30d [default: 1h]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    /// What the user shows of itself to others: JSON, @FILE, or - for stdin
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

pub(super) async fn run(args: TokenArgs, outer: Connection, env: &dyn Strings) -> Outcome {
    let body = args.body()?;
    if args.sub.is_none() && args.channels.is_empty() {
        output::complain(
            "this token opens nothing that is not open to everybody: name a --channel, or a user with --sub",
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
    // The token alone, so that it can be passed on as it is.
    output::line(output::printable(token));
    if let Some(expires_at) = text("expires_at") {
        output::complain(output::printable(&format!("it expires at {expires_at}")));
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn body_of(args: &TokenArgs) -> Value {
    args.body().ok().unwrap_or_default()
}
