//! The answers of a scripted receiver, including broken ones.

use std::time::Duration;

use bytes::Bytes;

/// How an answer breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ending {
    /// It does not.
    #[default]
    Whole,
    /// The request is read and never answered.
    Hang,
    /// The request is read, then the connection is reset.
    Reset,
    /// The head and this many bytes of the body are sent, then the connection is closed.
    CutBody(usize),
}

/// An answer to one request; by default 204 without a body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// How long to wait before answering.
    pub delay: Duration,
    pub(crate) ending: Ending,
    pub(crate) drip: Option<(usize, Duration)>,
}

impl Default for Answer {
    fn default() -> Self {
        Self::status(204)
    }
}

impl Answer {
    /// An empty answer with that status.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
            ending: Ending::Whole,
            drip: None,
        }
    }

    /// Reads the request and never answers.
    pub fn hang() -> Self {
        Self { ending: Ending::Hang, ..Self::status(200) }
    }

    /// Reads the request and resets the connection (RST).
    pub fn reset() -> Self {
        Self { ending: Ending::Reset, ..Self::status(200) }
    }

    /// With a header; a second one of the same name is added.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a wait before the answer.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Announces the whole body, sends `len` bytes of it and closes the connection.
    #[must_use]
    pub fn cut_body_after(mut self, len: usize) -> Self {
        self.ending = Ending::CutBody(len);
        self
    }

    /// Sends the body `len` bytes at a time, with a wait of `every` before each but the first.
    #[must_use]
    pub fn drip(mut self, len: usize, every: Duration) -> Self {
        self.drip = Some((len.max(1), every));
        self
    }
}
