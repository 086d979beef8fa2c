//! Requests through a gateway's plain listener to real sockets, with the configuration pushed by hand.

mod http;
mod support;
