//! The bus on a node without doors: the memory broker, SQLite, and sessions without connections.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod apps;
mod kit;
mod matching;
mod presence;
mod publishing;
mod reconciliation;
mod session;
