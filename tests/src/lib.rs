//! What tests of several folders share. The tests, which go through the real binary, are in the folders beside this one.
#![forbid(unsafe_code)]

mod cluster;

pub use cluster::Cluster;
