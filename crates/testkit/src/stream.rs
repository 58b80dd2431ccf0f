//! A reader of Server-Sent Events (WHATWG HTML, "Server-sent events"): opened by a request, read only when asked.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::api::{Reply, Request};

/// One event as the stream dispatched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its type; `message` unless the stream named another.
    pub name: String,
    /// Its data, lines joined by `\n`.
    pub data: String,
    /// The last id of the stream, of this event or an earlier one; empty before the first.
    pub id: String,
}

impl StreamEvent {
    /// The data as JSON.
    ///
    /// # Panics
    /// When it isn't.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.data))
    }
}

/// An open stream. What is not read stays in the socket.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    parser: Parser,
    waiting: VecDeque<StreamEvent>,
    ended: bool,
}

impl Request {
    /// Sends the request and keeps the answer open as a stream of events.
    ///
    /// # Errors
    /// The whole answer, when it is not a 200 with events.
    ///
    /// # Panics
    /// When no answer came.
    pub async fn stream(self) -> Result<Stream, Reply> {
        let what = self.to_string();
        let patience = self.patience();
        let begun = tokio::time::timeout(patience, self.header("accept", "text/event-stream").begin());
        let response = begun
            .await
            .unwrap_or_else(|_| panic!("{what}: no answer within {patience:?}"))
            .unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let type_of = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if response.status() != 200 || !type_of.starts_with("text/event-stream") {
            return Err(Reply::read(response).await.unwrap_or_else(|e| panic!("{what}: {e:#}")));
        }
        Ok(Stream { body: response.into_body(), parser: Parser::default(), waiting: VecDeque::new(), ended: false })
    }
}

impl Stream {
    /// The next event; `None` when the stream has ended or nothing came within `deadline`: [`Stream::has_ended`] tells
    /// which.
    pub async fn next(&mut self, deadline: Duration) -> Option<StreamEvent> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match tokio::time::timeout_at(end, self.body.frame()).await {
                Err(_) => return None,
                Ok(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.waiting.extend(self.parser.take(bytes));
                    }
                }
                Ok(None | Some(Err(_))) => self.ended = true,
            }
        }
    }

    /// Whether the server has ended it, or the connection broke.
    pub fn has_ended(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// The next event with this name; others before it are dropped.
    ///
    /// # Panics
    /// With those others, when none came within `deadline`.
    pub async fn expect(&mut self, name: &str, deadline: Duration) -> StreamEvent {
        let end = Instant::now() + deadline;
        let mut others = Vec::new();
        while let Some(event) = self.next(end.saturating_duration_since(Instant::now())).await {
            if event.name == name {
                return event;
            }
            others.push(event);
        }
        panic!("no event {name:?} within {deadline:?} (ended: {}); others: {others:?}", self.ended)
    }
}

/// Parses lines into events.
#[derive(Debug, Default)]
struct Parser {
    rest: Vec<u8>,
    name: String,
    data: Option<String>,
    id: String,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) -> Vec<StreamEvent> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut done = 0;
        while let Some(len) = self.rest[done..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[done..done + len]).trim_end_matches('\r').to_owned();
            done += len + 1;
            events.extend(self.line(&line));
        }
        self.rest.drain(..done);
        events
    }

    fn line(&mut self, line: &str) -> Option<StreamEvent> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return Some(StreamEvent { name, data, id: self.id.clone() });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                none => *none = Some(value.to_owned()),
            },
            // Comments, and fields that the standard ignores.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Api, RawReceiver, read_request};
    use tokio::io::AsyncWriteExt;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn lines_become_events_wherever_they_are_cut() {
        let text =
            ": hello\r\nevent: a\r\nid: 7\r\ndata: {\"x\":\r\ndata: 1}\r\n\r\ndata:y\n\nevent: nothing\n\nretry: 5\n";
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let mut events = parser.take(&text.as_bytes()[..cut]);
            events.extend(parser.take(&text.as_bytes()[cut..]));
            let event = |name: &str, data: &str| StreamEvent { name: name.into(), data: data.into(), id: "7".into() };
            assert_eq!(events, [event("a", "{\"x\":\n1}"), event("message", "y")], "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_stream_is_read_to_its_end_and_a_refusal_is_whole() {
        let receiver = RawReceiver::start(|mut stream| async move {
            let request = String::from_utf8(read_request(&mut stream).await).unwrap();
            let answer = match request.starts_with("GET /v1/stream") {
                true => {
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: tidings.open\ndata: {}\n\n\
                    data: 1\n\n"
                }
                false => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let api = Api::new(&receiver.url(""), "");
        let mut stream = api.get("/v1/stream").stream().await.unwrap();
        stream.expect("tidings.open", SOON).await;
        assert_eq!(stream.next(SOON).await.unwrap().data, "1");
        assert_eq!(stream.next(SOON).await, None);
        assert!(stream.has_ended());
        let refusal = api.get("/other").stream().await.unwrap_err();
        assert_eq!((refusal.status, refusal.text().as_str()), (401, "no"));
    }
}
