//! The gateway before a real tonic server, in the same process and over a socket.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod build;
mod errors;
mod forwarding;
mod pages;
mod remote;
mod requests;
mod shop;
mod streams;
