//! The guarded HTTP client against real sockets: what it refuses to dial, and what hostile receivers cannot do to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod egress {
    mod kit;
    mod receiver;

    mod addresses;
    mod bodies;
    mod hostile;
    mod names;
    mod pool;
    mod proxy;
    mod responses;
    mod tls;
    mod urls;
}
