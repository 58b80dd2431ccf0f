//! Tests of README.md and docs/: every shell block is run, and every JSON and TOML block is parsed by the program that
//! it is for, so that the pages contain only what works.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod blocks;
mod limits;
mod names;
mod shell;
mod texts;
