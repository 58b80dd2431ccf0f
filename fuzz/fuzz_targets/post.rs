//! Fuzzes the reader of plain `POST` requests.
#![no_main]

#[path = "../bodies/post.rs"]
mod post;

libfuzzer_sys::fuzz_target!(|data: &[u8]| post::run(data));
