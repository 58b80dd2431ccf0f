//! The publisher: one keep-alive connection per message in flight, in a closed loop or at a constant rate.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::crowd::{DIGITS, MARK, Tally, channel, dial_from_anywhere};
use super::subject::Subject;
use crate::clock::now_ns;
use crate::http1::{content_length, head_len};

/// Publishes to a crowd.
pub(crate) struct Speaker<'a> {
    subject: &'a Subject,
    tally: &'a Tally,
    /// The connections, each with whether it awaits an answer.
    streams: Vec<(TcpStream, bool)>,
    channels: usize,
    /// How many frames the subscribers receive per message.
    per_message: u64,
    size: usize,
    said: u64,
}

impl<'a> Speaker<'a> {
    /// Publishes in `channels` channels with `per_message` subscribers each, `size` bytes per message, over so many
    /// connections.
    pub(crate) fn new(
        subject: &'a Subject,
        tally: &'a Tally,
        channels: usize,
        per_message: u64,
        size: usize,
        connections: u64,
    ) -> anyhow::Result<Self> {
        let streams = (0..connections)
            .map(|_| Ok((dial_from_anywhere(subject.addr())?, false)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { subject, tally, streams, channels, per_message, size, said: 0 })
    }

    /// Publishes `messages`, at most `window` of them in flight, and waits until all have arrived.
    pub(crate) fn closed(&mut self, messages: u64, window: u64) -> anyhow::Result<()> {
        for _ in 0..messages {
            let due = (self.said + 1).saturating_sub(window) * self.per_message;
            self.wait_for(due)?;
            self.say(now_ns())?;
        }
        self.settle()
    }

    /// Publishes `messages`, one per `every`, whatever the server does. Each carries the time at which it was due.
    pub(crate) fn open(&mut self, messages: u64, every: Duration) -> anyhow::Result<()> {
        let start = now_ns();
        let every = u64::try_from(every.as_nanos())?;
        for n in 0..messages {
            let due = start + n * every;
            std::thread::sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
            self.say(due)?;
        }
        self.settle()
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        for at in 0..self.streams.len() {
            self.hear_answer(at)?;
        }
        self.wait_for(self.said * self.per_message)
    }

    fn wait_for(&self, due: u64) -> anyhow::Result<()> {
        let (tally, said) = (self.tally, self.said);
        ensure!(
            tally.wait_for(due),
            "{} of {due} have arrived of {said} messages, and {} sessions were closed",
            tally.delivered(),
            tally.closed()
        );
        Ok(())
    }

    fn say(&mut self, due: u64) -> anyhow::Result<()> {
        let mut payload = format!("{}{due:0DIGITS$}", char::from(MARK));
        payload.extend(std::iter::repeat_n('x', self.size.saturating_sub(payload.len())));
        let name = channel((self.said % self.channels as u64) as usize);
        let at = (self.said % self.streams.len() as u64) as usize;
        self.hear_answer(at)?;
        self.streams[at].0.write_all(&self.subject.publish(&name, &payload))?;
        self.streams[at].1 = true;
        self.said += 1;
        if self.streams.len() == 1 { self.hear_answer(at) } else { Ok(()) }
    }

    /// Reads the answer to the last publish of a connection, if it is still awaited.
    fn hear_answer(&mut self, at: usize) -> anyhow::Result<()> {
        let (stream, awaited) = &mut self.streams[at];
        if !std::mem::take(awaited) {
            return Ok(());
        }
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        loop {
            let len = stream.read(&mut piece).context("no answer to a publish")?;
            ensure!(len > 0, "the server closed the publisher's connection");
            answer.extend_from_slice(&piece[..len]);
            if let Some(head) = head_len(&answer)
                && answer.len() >= head + content_length(&answer[..head])
            {
                ensure!(answer.starts_with(b"HTTP/1.1 200"), "refused: {}", String::from_utf8_lossy(&answer));
                return Ok(());
            }
        }
    }
}
