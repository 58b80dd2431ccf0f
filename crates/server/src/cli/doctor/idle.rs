//! `doctor --idle`: checks whether idle connections last, or whether a proxy in between cuts them.
//!
//! It behaves like a client that only listens: it answers pings and sends nothing else.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::checks::{Checked, Doctor};
use super::socket::{ServerMessage, Socket};

/// The remedy.
const REMEDY: &str = "raise the idle timeout of the proxy in front (nginx: proxy_read_timeout; HAProxy: timeout \
    client, timeout server, timeout tunnel; load balancers: idle timeout) above a minute, or lower \
    live.activity_timeout below it";

impl Doctor {
    /// Keeps a WebSocket and an event stream idle for this time, both at once.
    pub(super) async fn check_idle(&mut self, key: &str, time: Duration) {
        let (socket, stream) = tokio::join!(self.idle_socket(key, time), self.idle_stream(key, time));
        self.note("idle", socket);
        match stream {
            Some(stream) => self.note("streams", stream),
            None => self.skip(
                "streams",
                "the app has no public channels to stream",
                "nothing is wrong if its clients use no event streams",
            ),
        }
    }

    async fn idle_socket(&self, key: &str, time: Duration) -> Checked {
        let (_, _, mut socket) = self.connect(key).await?;
        let since = Instant::now();
        let cut = |how: String| {
            Err((format!("an idle WebSocket was cut after {} s: {how}", since.elapsed().as_secs()), REMEDY.to_owned()))
        };
        loop {
            match timeout_at(since + time, socket.receive()).await {
                Err(_) => return Ok(lasted("a WebSocket", time)),
                Ok(Ok(ServerMessage::Message { event, .. })) if event == "pusher:ping" => {
                    if let Err(error) = pong(&mut socket).await {
                        return cut(error.to_string());
                    }
                }
                Ok(Ok(ServerMessage::Message { .. })) => {}
                Ok(Ok(ServerMessage::Closed { code, reason })) => return cut(format!("{code} {reason}")),
                Ok(Err(error)) => return cut(error.to_string()),
            }
        }
    }

    /// `None`: the app serves no event stream without a proof.
    async fn idle_stream(&self, key: &str, time: Duration) -> Option<Checked> {
        let query = format!("app={key}&channels=tidings-doctor");
        let origin: Vec<_> = self.origin().map(|origin| ("origin", origin.to_owned())).into_iter().collect();
        let answer = match self.get(&["v1", "stream"], &query, &origin).await {
            Ok(answer) => answer,
            Err(error) => return Some(Err(self.unreachable(&*error))),
        };
        if answer.status() != StatusCode::OK {
            return None;
        }
        let since = Instant::now();
        let mut body = answer.into_body();
        loop {
            let how = match timeout_at(since + time, body.frame()).await {
                Err(_) => return Some(Ok(lasted("an event stream", time))),
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "it ended".to_owned(),
            };
            let found = format!("an idle event stream was cut after {} s: {how}", since.elapsed().as_secs());
            return Some(Err((found, REMEDY.to_owned())));
        }
    }
}

fn lasted(what: &str, time: Duration) -> String {
    format!("{what} on which nothing happens lasted {} s", time.as_secs())
}

async fn pong(socket: &mut Socket) -> anyhow::Result<()> {
    socket.send(&json!({"event": "pusher:pong", "data": {}})).await
}
