//! Requests through a gateway's plain listener to real sockets, with the configuration pushed by hand.
#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; clippy exempts only the test functions themselves"
)]

mod http;
mod report;
mod support;
