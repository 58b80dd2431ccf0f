//! A minimal WebSocket client (RFC 6455): it receives text messages and sends short ones.

use std::time::Duration;

use anyhow::{anyhow, bail};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a server may take for its next message.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest message that is read, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// The bit for a masked frame, in the byte of its length. Clients have to mask.
const MASKED: u8 = 0x80;

/// A message of the server.
#[derive(Debug)]
pub(super) enum ServerMessage {
    /// A message of Pusher's protocol.
    Message {
        /// The event's name.
        event: String,
        /// The event's data. JSON inside a string is decoded.
        data: Value,
    },
    /// The server closes the connection.
    Closed {
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
}

pub(super) struct Socket(TokioIo<Upgraded>);

impl Socket {
    pub(super) fn new(upgraded: Upgraded) -> Self {
        Self(TokioIo::new(upgraded))
    }

    /// Receives the next message, within [`TIMEOUT`].
    pub(super) async fn receive_in_time(&mut self) -> anyhow::Result<ServerMessage> {
        let read = tokio::time::timeout(TIMEOUT, self.receive()).await;
        read.map_err(|_| anyhow!("nothing came within {} s", TIMEOUT.as_secs()))?
    }

    /// Receives the next message, however long it takes.
    pub(super) async fn receive(&mut self) -> anyhow::Result<ServerMessage> {
        loop {
            let kind = self.0.read_u8().await?;
            let length = match self.0.read_u8().await? & !MASKED {
                126 => usize::from(self.0.read_u16().await?),
                127 => usize::try_from(self.0.read_u64().await?).unwrap_or(usize::MAX),
                short => usize::from(short),
            };
            if length > MAX_MESSAGE {
                bail!("a message of {length} bytes came, which Pusher's protocol does not have");
            }
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await?;
            match kind {
                TEXT => return message(&payload),
                CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Ok(ServerMessage::Closed { code, reason });
                }
                // Pings and other control frames.
                _ => {}
            }
        }
    }

    /// Sends a text message.
    pub(super) async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let payload = message.to_string().into_bytes();
        let length = u16::try_from(payload.len()).map_err(|_| anyhow!("the message is too long"))?;
        // The mask is four zero bytes: valid, and it changes nothing.
        let mut frame = vec![TEXT];
        match u8::try_from(length) {
            Ok(short) if short < 126 => frame.push(MASKED | short),
            _ => {
                frame.push(MASKED | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).await?;
        Ok(self.0.flush().await?)
    }
}

fn message(payload: &[u8]) -> anyhow::Result<ServerMessage> {
    let message: Value =
        serde_json::from_slice(payload).map_err(|_| anyhow!("the message is not one of Pusher's protocol"))?;
    let event = message["event"].as_str().unwrap_or_default().to_owned();
    let data = match message["data"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        None => message["data"].clone(),
    };
    Ok(ServerMessage::Message { event, data })
}
