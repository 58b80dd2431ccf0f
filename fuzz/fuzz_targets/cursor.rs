//! Fuzzes the reader of cursors.
#![no_main]

#[path = "../bodies/cursor.rs"]
mod cursor;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cursor::run(data));
