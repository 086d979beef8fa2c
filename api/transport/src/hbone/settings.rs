//! HTTP/2 settings, each set on purpose.

use std::time::Duration;

use ambit_process::overload::Sizes;

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
    /// Streams we open on one tunnel even if the peer allows more (Istio's ztunnel allows 200, its waypoint 100).
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
    /// Overhead of small frames after which a tunnel is closed. They cost more memory than flow control counts, and h2
    /// counts that (256 bytes less the payload, per waiting frame); it must allow several streams whose windows are full
    /// of 20-byte writes.
    pub small_frame_budget: usize,
    /// Bytes waiting in a tunnel beyond which new streams go to another.
    pub queue_mark: usize,
    /// Tunnels of one worker for one source and destination.
    pub max_tunnels_per_key: usize,
    /// Tunnels of one worker.
    pub max_tunnels: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self::sized(&Sizes::within(None))
    }
}

/// Headers a server of ours may answer with.
const CLIENT_HEADER_LIST: u32 = 16 * 1024;

/// Headers a client may ask with: baggage and tracing.
const SERVER_HEADER_LIST: u32 = 64 * 1024;

/// Streams a peer may reset before we have even looked at them.
const PENDING_RESETS: usize = 20;

/// Stream errors of a peer after which it is told to calm down.
const ERROR_RESETS: usize = 1024;

/// Streams we dare to open before the peer's settings say how many it takes; every peer we know takes these.
const UNTOLD_STREAMS: usize = 100;

/// Memory of header compression.
const HEADER_TABLE: u32 = 4096;

impl Settings {
    /// The defaults, with windows and buffers of these sizes.
    pub fn sized(sizes: &Sizes) -> Self {
        Self {
            stream_window: sizes.stream_window,
            connection_window: sizes.tunnel_window,
            max_frame_size: sizes.frame,
            max_concurrent_streams: 1024,
            max_streams_per_tunnel: 1000,
            max_send_buffer: sizes.send_buffer,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            preface_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(300),
            small_frame_budget: sizes.small_frames,
            queue_mark: 2 * 1024 * 1024,
            max_tunnels_per_key: sizes.tunnels_of_a_pair,
            max_tunnels: 8192,
        }
    }

    /// Streams that fit on a tunnel whose peer has not told its settings yet.
    pub(super) fn untold_streams(&self) -> usize {
        self.max_streams_per_tunnel.min(UNTOLD_STREAMS)
    }

    pub(super) fn client(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.max_frame_size)
            .max_header_list_size(CLIENT_HEADER_LIST)
            .header_table_size(HEADER_TABLE)
            .initial_max_send_streams(self.untold_streams())
            .max_send_buffer_size(self.max_send_buffer)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(ERROR_RESETS))
            .data_frame_budget(self.small_frame_budget)
            .enable_push(false);
        builder
    }

    pub(super) fn server(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.max_frame_size)
            .max_header_list_size(SERVER_HEADER_LIST)
            .header_table_size(HEADER_TABLE)
            .max_concurrent_streams(self.max_concurrent_streams)
            .max_send_buffer_size(self.max_send_buffer)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(ERROR_RESETS))
            .data_frame_budget(self.small_frame_budget);
        builder
    }
}
