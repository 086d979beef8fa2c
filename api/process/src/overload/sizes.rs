//! The one table of windows and buffers: how large each is under a ceiling on memory, and what new work may cost with them.
//!
//! Without a ceiling they are as large as speed asks for. Under one they are parts of it, so that what nobody takes (a client
//! that sends and does not read, an endpoint that does not answer) stays within what was reckoned with when it was let in.

use super::Work;

/// The memory, in bytes, below which no proxy of ours is of use: two thirds of it are the program itself.
pub(super) const LEAST: u64 = 32 << 20;

/// Memory of one TLS connection with HTTP/2 on it, besides the buffers below: handshake, certificates, header tables.
const TUNNEL_STATE: usize = 128 << 10;

/// Memory of one connection besides its buffers: tasks, headers, records.
const CONNECTION_STATE: usize = 24 << 10;

/// What is kept of a request's body for another attempt, in bytes.
const REPLAYED: usize = 64 << 10;

/// Ceilings from which on one pair of pods gets several tunnels on one worker.
const ROOMY: u64 = 256 << 20;

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// What a peer may send on one stream before anybody has taken any of it.
    pub stream_window: u32,
    /// The same of all streams of one tunnel.
    pub tunnel_window: u32,
    /// The same of all streams of one HTTP/2 connection within a tunnel.
    pub http2_window: u32,
    /// The largest DATA frame we take.
    pub frame: u32,
    /// What of one stream may wait until the peer takes it.
    pub send_buffer: usize,
    /// What one read of a socket may bring.
    pub read_buffer: usize,
    /// What the kernel may keep for a socket, each way; `None`: as much as it finds fit.
    pub kernel_buffer: Option<usize>,
    /// What of one HTTP/1.1 message may wait to be sent, and the longest head that can be read.
    pub http1_buffer: usize,
    /// What small frames may cost beside their content, on one tunnel, before it is closed.
    pub small_frames: usize,
    /// Tunnels of one worker for one source and destination.
    pub tunnels_of_a_pair: usize,
    /// What pieces of bodies are.
    pub pieces: Pieces,
}

/// What a piece of a body is, on its way from one side to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// A part of the buffer that it was read into, all of which stays as long as the piece does.
    Shared,
    /// A copy of its own.
    Copied,
}

impl Sizes {
    /// The table, for a ceiling in bytes; `None`: there is none.
    pub fn within(ceiling: Option<u64>) -> Self {
        let Some(ceiling) = ceiling else { return Self::unbounded() };
        let most = Self::unbounded();
        let part = |of: u64, least: usize, most: usize| {
            usize::try_from(ceiling / of).unwrap_or(usize::MAX).clamp(least, most)
        };
        let window = |of: u64, least: u32, most: u32| {
            u32::try_from(ceiling / of).unwrap_or(u32::MAX).clamp(least, most)
        };
        let stream_window = window(8192, 64 << 10, most.stream_window);
        Self {
            stream_window,
            tunnel_window: window(32, 1 << 20, most.tunnel_window),
            http2_window: window(64, 512 << 10, most.http2_window),
            frame: window(32 << 10, 16 << 10, most.frame),
            send_buffer: most.send_buffer.min(stream_window as usize),
            read_buffer: part(8192, 64 << 10, most.read_buffer),
            kernel_buffer: Some(part(2048, 64 << 10, 4 << 20)),
            http1_buffer: part(8192, 64 << 10, most.http1_buffer),
            small_frames: part(8, 8 << 20, most.small_frames),
            tunnels_of_a_pair: if ceiling < ROOMY { 1 } else { 4 },
            pieces: Pieces::Copied,
        }
    }

    /// What speed asks for.
    fn unbounded() -> Self {
        Self {
            stream_window: 1 << 20,
            // Stalled streams keep their share, so it is many of theirs.
            tunnel_window: 128 << 20,
            http2_window: 16 << 20,
            frame: 256 << 10,
            send_buffer: 512 << 10,
            // Sixteen TLS records, so that one call to the kernel carries many.
            read_buffer: 256 << 10,
            kernel_buffer: None,
            http1_buffer: 408 << 10,
            // 280 000 frames, some tens of MB: several streams whose windows are full of 20-byte writes.
            small_frames: 64 << 20,
            tunnels_of_a_pair: 64,
            pieces: Pieces::Shared,
        }
    }

    /// Bytes that new work may come to hold at most.
    pub(super) fn cost(&self, work: Work) -> u64 {
        let window = self.stream_window as usize;
        // What passes one way: received, on its way, waiting to be sent.
        let body = window + self.http1_buffer + 4 * self.frame as usize;
        let bytes = match work {
            // What was read ahead, and ciphertext that waits for the socket.
            Work::Tunnel => TUNNEL_STATE + 3 * self.read_buffer,
            Work::Connection => CONNECTION_STATE + window + self.send_buffer + self.read_buffer,
            Work::Request => CONNECTION_STATE + body,
            Work::Upload => CONNECTION_STATE + REPLAYED + self.send_buffer + 2 * body,
        };
        bytes as u64
    }

    /// Bytes that the kernel may keep for a new connection. It may be several times as much if neither side takes
    /// anything, but the kernel gives way by itself when memory becomes short.
    pub(super) fn kernel_cost(&self) -> u64 {
        self.kernel_buffer.unwrap_or(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_with_the_ceiling_as_far_as_speed_asks() {
        // ceiling in MiB -> (stream window, tunnel window, frame, read buffer) in KiB
        let cases = [
            (32, (64, 1 << 10, 16, 64)),
            (64, (64, 2 << 10, 16, 64)),
            (512, (64, 16 << 10, 16, 64)),
            (1 << 10, (128, 32 << 10, 32, 128)),
            (8 << 10, (1 << 10, 128 << 10, 256, 256)),
        ];
        for (ceiling, expected) in cases {
            let sizes = Sizes::within(Some(ceiling << 20));
            let found = (
                sizes.stream_window >> 10,
                sizes.tunnel_window >> 10,
                sizes.frame >> 10,
                sizes.read_buffer >> 10,
            );
            assert_eq!(found, expected, "{ceiling} MiB");
        }
        let most = Sizes::within(Some(1 << 50));
        let unbounded = Sizes::within(None);
        let Sizes { tunnels_of_a_pair, kernel_buffer, pieces, .. } = unbounded;
        assert_eq!(Sizes { tunnels_of_a_pair, kernel_buffer, pieces, ..most }, unbounded);
    }

    #[test]
    fn what_may_come_at_once_grows_with_the_ceiling() {
        // ceiling in MiB -> new connections with a request and with an upload that half of it has room for
        let cases = [(32, (37, 21)), (64, (75, 43)), (1 << 10, (642, 376)), (8 << 10, (976, 572))];
        for (ceiling, expected) in cases {
            let sizes = Sizes::within(Some(ceiling << 20));
            let most = |work| (ceiling << 19) / (sizes.cost(Work::Connection) + sizes.cost(work));
            assert_eq!((most(Work::Request), most(Work::Upload)), expected, "{ceiling} MiB");
        }
    }
}
