//! The tests that go through the real binary live in the folders beside this one.
#![forbid(unsafe_code)]
