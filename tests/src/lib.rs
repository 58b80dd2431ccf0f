//! End-to-end tests, which go through the real binary, are in the folders beside this one.
#![forbid(unsafe_code)]
