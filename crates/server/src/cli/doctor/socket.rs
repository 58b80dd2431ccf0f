//! As much of a WebSocket as it takes to hear a server's first words, and to ask to join a channel (RFC 6455).

use std::time::Duration;

use anyhow::{anyhow, bail};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a server may take for its next words.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest message that is read.
const MAX_MESSAGE: usize = 64 << 10;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// Set in the length of a frame that is masked, as clients' are.
const MASKED: u8 = 0x80;

/// What a server says.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message of Pusher's protocol.
    Message {
        /// Its event.
        event: String,
        /// Its data, read if it is JSON in a text.
        data: Value,
    },
    /// It ends the connection.
    Closed {
        /// With this code.
        code: u16,
        /// And these words.
        reason: String,
    },
}

pub(super) struct Socket(TokioIo<Upgraded>);

impl Socket {
    pub(super) fn new(upgraded: Upgraded) -> Self {
        Self(TokioIo::new(upgraded))
    }

    /// The next words.
    pub(super) async fn next(&mut self) -> anyhow::Result<Heard> {
        let read = tokio::time::timeout(PATIENCE, self.heard()).await;
        read.map_err(|_| anyhow!("nothing came within {} s", PATIENCE.as_secs()))?
    }

    /// The next words, however long they take.
    pub(super) async fn heard(&mut self) -> anyhow::Result<Heard> {
        loop {
            let kind = self.0.read_u8().await?;
            let length = match self.0.read_u8().await? & !MASKED {
                126 => usize::from(self.0.read_u16().await?),
                127 => usize::try_from(self.0.read_u64().await?).unwrap_or(usize::MAX),
                short => usize::from(short),
            };
            if length > MAX_MESSAGE {
                bail!("a message of {length} bytes came, which is none of the protocol");
            }
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await?;
            match kind {
                TEXT => return message(&payload),
                CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Ok(Heard::Closed { code, reason });
                }
                // Pings and their like.
                _ => {}
            }
        }
    }

    /// Says something.
    pub(super) async fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        let payload = message.to_string().into_bytes();
        let length = u16::try_from(payload.len()).map_err(|_| anyhow!("too long a message"))?;
        // A mask of zeros masks nothing, and is one.
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

fn message(payload: &[u8]) -> anyhow::Result<Heard> {
    let message: Value = serde_json::from_slice(payload).map_err(|_| anyhow!("what came is no message of Pusher's"))?;
    let event = message["event"].as_str().unwrap_or_default().to_owned();
    let data = match message["data"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        None => message["data"].clone(),
    };
    Ok(Heard::Message { event, data })
}
