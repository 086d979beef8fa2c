//! One stream of a tunnel.

use http::HeaderMap;

/// One CONNECT stream, either end. Hand it to [`crate::relay::relay`]; dropping it resets it.
pub struct Stream {
    headers: HeaderMap,
}

impl Stream {
    /// The headers the peer's answer carried (client side); empty on the server side.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}
