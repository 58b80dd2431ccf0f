//! `subscribe`: prints the messages of channels as they are published, and resumes after a lost connection.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tidings_supervisor::Supervisor;
use tidings_wire::sse::{Event, Parser};
use url::Url;

use super::client::{Client, Refused};
use super::connect::Connection;
use super::{Outcome, send};
use crate::config::environment::Env;
use crate::{output, signals};

/// How long a server may be silent; it sends a comment every 25 s.
const SILENCE: Duration = Duration::from_secs(60);
/// The backoff between connections: the shortest pause and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// The flags of `subscribe`.
#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    /// The channels
    #[arg(value_name = "CHANNEL", required = true)]
    channels: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// The data of a `message` event of the stream.
#[derive(Deserialize)]
struct Message<'a> {
    channel: String,
    name: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

pub(super) async fn run(args: SubscribeArgs, outer: Connection, env: &dyn Env) -> Outcome {
    send::check_channels(&args.channels)?;
    let client = args.connection.over(outer).open(env)?;
    let json = client.json();
    let mut url = client.address(&["v1", "stream"]);
    url.query_pairs_mut().extend_pairs(args.channels.iter().map(|channel| ("channel", channel)));
    let mut print = |event: &Event| match render(event, json) {
        Printed::Line(line) => output::line(line),
        Printed::Remark(remark) => output::stderr_line(remark),
    };
    tokio::select! {
        followed = follow(&client, &url, &mut print) => Ok(followed?),
        // The command never ends by itself, so a stop signal is success.
        () = signals::stop(&Supervisor::default())? => Ok(()),
    }
}

/// Reads the stream, and reconnects when it breaks. Returns when the server refuses, or if the first connection fails.
async fn follow(client: &Client, url: &Url, on_event: &mut dyn FnMut(&Event)) -> anyhow::Result<()> {
    let mut at = String::new();
    let mut connected_once = false;
    let mut pause = PAUSES.0;
    loop {
        let headers: Vec<(&str, &str)> =
            Some(("last-event-id", at.as_str())).filter(|_| !at.is_empty()).into_iter().collect();
        match client.stream(url.clone(), &headers).await {
            Ok(body) => {
                connected_once = true;
                pause = PAUSES.0;
                let why = read(body, &mut at, on_event).await?;
                output::stderr_line(output::printable(&format!("{why}; connecting again")));
            }
            Err(error) => {
                let is_final = error.downcast_ref::<Refused>().is_some_and(|refused| !refused.may_pass());
                if is_final || !connected_once {
                    return Err(error);
                }
                output::stderr_line(output::printable(&format!("{error:#}; trying again")));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Reads one connection until it ends, and returns why it ended. `at` is the id of the last event, to resume from.
async fn read(mut body: Incoming, at: &mut String, on_event: &mut dyn FnMut(&Event)) -> anyhow::Result<String> {
    let mut parser = Parser::default();
    loop {
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Err(_) => return Ok(format!("the server was silent for {} s", SILENCE.as_secs())),
            Ok(None) => return Ok("the stream has ended".to_owned()),
            Ok(Some(Err(error))) => return Ok(format!("the connection broke: {error}")),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        let events = parser.feed(&bytes).map_err(|error| anyhow!("{error}"))?;
        events.iter().for_each(&mut *on_event);
        if !parser.last_id().is_empty() {
            parser.last_id().clone_into(at);
        }
    }
}

/// The text for an event, and where it is printed.
#[derive(Debug, PartialEq, Eq)]
enum Printed {
    /// On stdout.
    Line(String),
    /// On stderr.
    Remark(String),
}

fn render(event: &Event, json: bool) -> Printed {
    if event.name == "message" {
        let message: Option<Message<'_>> = serde_json::from_str(&event.data).ok();
        return Printed::Line(match message {
            Some(Message { channel, name, data }) if !json => one_line(&format!("{channel} {name} {}", data.get())),
            _ => event.data.clone(),
        });
    }
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let channels = || {
        let channels = data.get("channels").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        channels.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
    let remark = match event.name.as_str() {
        "tidings.open" => format!("listening as session {}", text("session")),
        "tidings.joined" => format!("joined {}", channels()),
        "tidings.lost" => format!("{}: some messages were missed and are no longer in the history", text("channel")),
        "tidings.refused" => format!("{}: {}", text("channel"), text("reason")),
        "tidings.close" => format!("the server ends the stream: {}", text("reason")),
        other => format!("{other}: {}", event.data),
    };
    Printed::Remark(one_line(&remark))
}

fn one_line(text: &str) -> String {
    output::printable(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { id: String::new(), name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn a_message_is_a_line_and_everything_else_a_remark() {
        let data = r#"{"id":"evt_1","channel":"a:b","name":"said","data":{"n": 1.50,"t":"x\ny"},"time":"2026-11-21T09:56:40.000Z"}"#;
        let line = r#"a:b said {"n": 1.50,"t":"x\ny"}"#;
        assert_eq!(render(&event("message", data), false), Printed::Line(line.to_owned()));
        assert_eq!(render(&event("message", data), true), Printed::Line(data.to_owned()));
        let hostile = "{\"channel\":\"a\",\"name\":\"\\u001b[2J\\n\",\"data\":1}";
        assert_eq!(render(&event("message", hostile), false), Printed::Line("a \\u{1b}[2J  1".to_owned()));
        let lost = render(&event("tidings.lost", r#"{"channel":"a"}"#), true);
        assert_eq!(lost, Printed::Remark("a: some messages were missed and are no longer in the history".to_owned()));
    }

    /// Answers one request, and returns it.
    async fn answer(listener: &TcpListener, text: &str) -> String {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(text.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap().to_ascii_lowercase()
    }

    #[tokio::test]
    async fn after_a_break_it_goes_on_where_it_was_until_it_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let client = Client::new(base, "the-key".to_owned(), false, None).unwrap();
        let url = client.address(&["v1", "stream"]);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let server = async {
            let stream = format!(
                "{head}event: tidings.open\ndata: {{}}\n\nid: e:1\ndata: one\n\nid: e:2\n\nid: e:3\ndata: cut o"
            );
            let requests = [
                answer(&listener, &stream).await,
                answer(&listener, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await,
                answer(&listener, &format!("{head}data: two\n\n")).await,
                answer(&listener, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await,
            ];
            requests.map(|request| {
                assert!(request.contains("authorization: bearer the-key"), "{request}");
                request.lines().find_map(|line| line.strip_prefix("last-event-id: ").map(str::to_owned))
            })
        };
        let mut received = Vec::new();
        let mut on_event = |event: &Event| received.push(event.data.clone());
        let (ended, at) = tokio::join!(follow(&client, &url, &mut on_event), server);
        assert!(ended.unwrap_err().to_string().contains("401"));
        assert_eq!(received, ["{}", "one", "two"]);
        assert_eq!(at, [None, Some("e:2".to_owned()), Some("e:2".to_owned()), Some("e:2".to_owned())]);
    }
}
