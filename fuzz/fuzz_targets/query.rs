//! Fuzzes the reader of queries of signed requests.
#![no_main]

#[path = "../bodies/query.rs"]
mod query;

libfuzzer_sys::fuzz_target!(|data: &[u8]| query::run(data));
