//! Fuzzes the reader of clients' tokens.
#![no_main]

#[path = "../bodies/token.rs"]
mod token;

libfuzzer_sys::fuzz_target!(|data: &[u8]| token::run(data));
