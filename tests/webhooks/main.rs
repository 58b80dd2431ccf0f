//! Webhooks end to end: the real server, the real command line, real receivers. One file a theme.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests fails as a test does")]

mod bugs;
mod durian;
mod fanout;
mod gone;
mod hostile;
mod isolation;
mod kit;
mod limits;
mod matchers;
mod official;
mod redirects;
mod refused;
mod repeats;
mod rotation;
