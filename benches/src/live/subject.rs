//! The subject of a measurement: the server or the floor, alone on core 0.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use tidings_model::secret::SecretString;
use tidings_model::signing;
use tidings_testkit::{Server, server};

use super::handshake;
use crate::cpu::Cores;

const CONFIG: &str =
    "[[apps]]\nid = \"1\"\nkey = \"bench\"\nsecret = \"bench-secret\"\napi_keys = [\"bench-api-key\"]\n";
/// The app's key, and its secret.
pub(crate) const KEY: &str = "bench";
pub(crate) const SECRET: &str = "bench-secret";
/// The app's API key.
pub(crate) const API_KEY: &str = "bench-api-key";

/// A running server or floor.
pub(crate) enum Subject {
    /// The server: sessions by Pusher's protocol, publishes by its signed HTTP API.
    Server(Box<Server>),
    /// The floor.
    Floor(FloorProcess),
}

/// The floor's process; killed when it is dropped.
pub(crate) struct FloorProcess {
    child: Child,
    addr: SocketAddr,
}

impl Drop for FloorProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Subject {
    /// Starts the server on the measured core, maybe with TLS.
    pub(crate) async fn server(cores: Cores, tls: bool) -> anyhow::Result<Self> {
        let server = server().config(CONFIG).wrapper(cores.measured());
        let server = if tls { server.tls() } else { server };
        Ok(Self::Server(Box::new(server.try_start().await?)))
    }

    /// Starts a server with these config lines on the measured core.
    pub(crate) async fn node(cores: Cores, lines: &str) -> anyhow::Result<Self> {
        let server = server().config(format!("{lines}{CONFIG}")).wrapper(cores.measured());
        Ok(Self::Server(Box::new(server.try_start().await?)))
    }

    /// Starts the server on the measured core, with an app whose watchlists may have so many users.
    pub(crate) async fn watched(cores: Cores, users: u32) -> anyhow::Result<Self> {
        let config = format!("{CONFIG}[apps.limits]\nwatchlist = {users}\n");
        Ok(Self::Server(Box::new(server().config(config).wrapper(cores.measured()).try_start().await?)))
    }

    /// Starts the floor on the measured core.
    pub(crate) fn floor(cores: Cores) -> anyhow::Result<Self> {
        let mut words = cores.measured();
        words.push(std::env::current_exe()?.to_string_lossy().into_owned());
        let mut child = Command::new(&words[0]).args(&words[1..]).arg("live-floor").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the floor has no output")?).read_line(&mut line)?;
        let addr = line.trim().strip_prefix("listening on ").context("the floor did not start")?.parse()?;
        Ok(Self::Floor(FloorProcess { child, addr }))
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Server(server) => server.pid(),
            Self::Floor(floor) => floor.child.id(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Server(server) => server.addr,
            Self::Floor(floor) => floor.addr,
        }
    }

    /// The bytes that a subscriber sends: the upgrade request, and the subscription after it.
    pub(crate) fn subscription(&self, channel: &str) -> (String, Option<Vec<u8>>) {
        match self {
            Self::Floor(_) => (handshake::request(&format!("/sub/{channel}")), None),
            Self::Server(_) => {
                let subscribe = format!(r#"{{"event":"pusher:subscribe","data":{{"auth":"","channel":"{channel}"}}}}"#);
                let path = "/app/bench?protocol=7&client=bench&version=1.0.0";
                (handshake::request(path), Some(handshake::masked_text(&subscribe)))
            }
        }
    }

    /// How many frames a subscriber receives until it is subscribed.
    pub(crate) fn greeting(&self) -> usize {
        match self {
            Self::Floor(_) => 0,
            Self::Server(_) => 2,
        }
    }

    /// A complete request that publishes `payload` in a channel.
    pub(crate) fn publish(&self, channel: &str, payload: &str) -> Vec<u8> {
        let (target, body) = match self {
            Self::Floor(_) => (format!("/pub/{channel}"), payload.to_owned()),
            Self::Server(_) => {
                let body = format!(r#"{{"name":"bench","channels":["{channel}"],"data":"{payload}"}}"#);
                (signed("/apps/1/events", &body), body)
            }
        };
        format!(
            "POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n\
            {body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A request's target with the signature of Pusher's libraries.
fn signed(path: &str, body: &str) -> String {
    let seconds = jiff::Timestamp::now().as_second().to_string();
    let md5 = signing::body_md5(body.as_bytes());
    let mut params = vec![("auth_key", KEY), ("auth_timestamp", &seconds), ("auth_version", "1.0"), ("body_md5", &md5)];
    let text = signing::request_string_to_sign("POST", path, &params);
    let signature = signing::sign_hex(&SecretString::from(SECRET), text);
    params.push(("auth_signature", &signature));
    let query: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{path}?{}", query.join("&"))
}
