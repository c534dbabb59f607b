//! The binary as its parent process runs it: plans, files, and what comes of them.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod brute;
mod cells;
mod faults;
mod point_in_time;
mod random;
mod stops;
mod support;
mod types;
