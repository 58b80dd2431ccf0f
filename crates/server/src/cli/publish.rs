//! `publish`: publishes an event.

use clap::Args;
use http::Method;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::connect::Connection;
use super::{Failure, Outcome, send};
use crate::config::environment::Env;
use crate::output;

/// The event, as flags.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// Live channels to publish to
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,
    /// The event's name
    #[arg(long, short = 'e', alias = "name", value_name = "NAME")]
    event: String,
    /// The event's data: JSON, @FILE, or - for stdin
    #[arg(long, short = 'd', value_name = "JSON", allow_hyphen_values = true)]
    data: Option<String>,
    /// The event's id [default: made by the server]
    #[arg(long)]
    id: Option<String>,
    /// Events with the same one keep their order at listeners with order "key"
    #[arg(long, visible_alias = "event-key", value_name = "KEY")]
    order_key: Option<String>,
    /// The same key again within 24 h gets the same answer and no second event
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Nothing is delivered before this time, such as 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// A live session that does not receive it
    #[arg(long, value_name = "SESSION")]
    except: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Body<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    channels: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    except: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<&'a str>,
}

pub(super) async fn run(args: PublishArgs, outer: Connection, env: &dyn Env) -> Outcome {
    send::check_channels(&args.channels)?;
    let body = Body {
        name: &args.event,
        channels: &args.channels,
        data: args.data.as_deref().map(|data| send::json("--data", data)).transpose()?,
        id: args.id.as_deref(),
        key: args.order_key.as_deref(),
        except: args.except.as_deref(),
        not_before: args.not_before.as_deref(),
    };
    let body = serde_json::to_string(&body)?;
    let client = args.connection.over(outer).open(env)?;
    let headers: Vec<(&str, &str)> = args.idempotency_key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
    let answer = client.send(Method::POST, client.address(&["v1", "events"]), Some(body), &headers).await?;
    if client.json() {
        output::line(answer.text.trim_end());
    } else {
        output::line(output::printable(
            &summary(&answer.value, &args.event)
                .ok_or_else(|| Failure::Failed(anyhow::anyhow!("the server's answer has no id")))?,
        ));
        if let Some(hint) = answer.value.get("hint").and_then(Value::as_str) {
            output::stderr_line(output::printable(hint));
        }
    }
    Ok(())
}

/// The answer as a sentence: where the event went.
fn summary(answer: &Value, event: &str) -> Option<String> {
    let id = answer.get("id")?.as_str()?;
    let flag = |key: &str| answer.get(key).and_then(Value::as_bool).unwrap_or(false);
    let deliveries = answer.get("deliveries").and_then(Value::as_u64).unwrap_or(0);
    let channels = answer.get("channels").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut parts = Vec::new();
    match (flag("logged"), flag("durable")) {
        (true, true) => parts.push("on disk".to_owned()),
        (true, false) => parts.push("logged, but not synced to disk".to_owned()),
        (false, _) if channels.is_empty() => {
            return Some(format!(
                "published {id}, but nothing receives it: there is no hook \"{event}\", and no channel was named"
            ));
        }
        (false, _) => {}
    }
    if flag("logged") {
        parts.push(counted(deliveries, "delivery", "deliveries"));
    }
    parts.extend(channels.iter().filter_map(reached));
    Some(format!("published {id}: {}", parts.join("; ")))
}

/// How many sessions received it in a channel.
fn reached(channel: &Value) -> Option<String> {
    let name = channel.get("name")?.as_str()?;
    Some(match channel.get("sessions")?.as_u64()? {
        0 => format!("no session in {name}"),
        sessions => format!("{} in {name}", counted(sessions, "session", "sessions")),
    })
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // covers: G184
    #[test]
    fn the_answer_is_told_in_a_sentence() {
        let check = |answer: Value, expected: &str| assert_eq!(summary(&answer, "x").as_deref(), Some(expected));
        check(
            json!({"id": "evt_1", "logged": true, "durable": true, "deliveries": 1}),
            "published evt_1: on disk; 1 delivery",
        );
        check(
            json!({"id": "evt_1", "logged": false, "durable": false, "deliveries": 0}),
            "published evt_1, but nothing receives it: there is no hook \"x\", and no channel was named",
        );
        let channels = json!([{"name": "news", "sessions": 3}, {"name": "chat", "sessions": 0}]);
        check(
            json!({"id": "evt_1", "logged": false, "durable": false, "deliveries": 0, "channels": channels}),
            "published evt_1: 3 sessions in news; no session in chat",
        );
        let channels = json!([{"name": "news", "sessions": 1}]);
        check(
            json!({"id": "evt_1", "logged": true, "durable": true, "deliveries": 0, "channels": channels}),
            "published evt_1: on disk; 0 deliveries; 1 session in news",
        );
    }

    #[test]
    fn data_goes_out_byte_for_byte() {
        let data = send::json("--data", r#"{"b": 1.10, "a":123456789012345678901234567890}"#).ok();
        let body = Body { name: "n", channels: &[], data, id: None, key: None, except: None, not_before: None };
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"name":"n","data":{"b": 1.10, "a":123456789012345678901234567890}}"#
        );
    }
}
