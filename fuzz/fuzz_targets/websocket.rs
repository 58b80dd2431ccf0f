//! Fuzzes the WebSocket decoder.
#![no_main]

#[path = "../bodies/websocket.rs"]
mod websocket;

libfuzzer_sys::fuzz_target!(|data: &[u8]| websocket::run(data));
