//! HTTP/2 settings, each set on purpose.

use std::time::Duration;

/// The parameters of a tunnel; the defaults are the ones we ship.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes a peer may send on one stream before the far side has taken any: what a stalled stream can hold in memory.
    pub stream_window: u32,
    /// Bytes a peer may send on all streams together. Stalled streams keep their share, so it is many stream windows;
    /// it is also the bound on what one tunnel can hold in memory.
    pub connection_window: u32,
    /// Largest DATA frame we take.
    pub max_frame_size: u32,
    /// Streams a peer may have open at once on one tunnel of ours.
    pub max_concurrent_streams: u32,
    /// Streams we open on one tunnel even if the peer allows more.
    pub max_streams_per_tunnel: usize,
    /// Bytes of one stream that may wait for the tunnel.
    pub max_send_buffer: usize,
    /// Time between pings.
    pub ping_interval: Duration,
    /// How long a ping may stay unanswered.
    pub ping_timeout: Duration,
    /// Bound on the HTTP/2 preface and the first settings.
    pub preface_timeout: Duration,
    /// Bound on the answer to a CONNECT; it includes the peer's own dial.
    pub connect_timeout: Duration,
    /// How long a tunnel without streams stays open.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 1024 * 1024,
            connection_window: 64 * 1024 * 1024,
            max_frame_size: 256 * 1024,
            max_concurrent_streams: 256,
            max_streams_per_tunnel: 100,
            max_send_buffer: 512 * 1024,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            preface_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(300),
        }
    }
}
