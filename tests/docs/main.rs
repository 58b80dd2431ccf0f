//! What README and docs/ tell people to type, write and expect: every shell, JSON and TOML block is run or parsed by
//! what it is meant for, so that a page cannot say what does not work.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod blocks;
mod limits;
mod names;
mod shell;
mod texts;
