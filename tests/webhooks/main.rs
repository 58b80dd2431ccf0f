//! Webhooks end to end: the real server, the real command line, real receivers. One file per topic.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests fails as a test does")]

mod api;
mod bugs;
mod cli;
mod durian;
mod fanout;
mod gone;
mod hostile;
mod isolation;
mod kit;
mod limits;
mod logged;
mod matchers;
mod official;
mod pasted;
mod redirects;
mod refused;
mod repeats;
mod rotation;
mod schedule;
mod secrets;
mod shortage;
mod tenants;
mod upgrade;
