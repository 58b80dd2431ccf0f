//! courier
pub mod egress;
