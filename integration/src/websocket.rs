//! As much of WebSocket (RFC 6455) as an echo and its client need: the handshake's answer, and frames without extensions.

use std::io::{Error, ErrorKind};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame taken.
const LARGEST: u64 = 16 << 20;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// More of a message that has begun.
    Continued,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) last: bool,
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

/// Which end writes; clients mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Kind {
    const ALL: [(Kind, u8); 6] = [
        (Kind::Continued, 0),
        (Kind::Text, 1),
        (Kind::Binary, 2),
        (Kind::Close, 8),
        (Kind::Ping, 9),
        (Kind::Pong, 10),
    ];

    fn of(code: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_kind, number)| *number == code).map(|(kind, _number)| *kind)
    }

    fn code(self) -> u8 {
        Self::ALL.iter().find(|(kind, _number)| *kind == self).map_or(0, |(_kind, number)| *number)
    }
}

impl Frame {
    /// A whole message in one frame.
    pub(crate) fn whole(kind: Kind, payload: Vec<u8>) -> Self {
        Frame { last: true, kind, payload }
    }
}

/// The value of `sec-websocket-accept` for a client's key.
pub(crate) fn accept(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// A client's key.
pub(crate) fn key() -> String {
    BASE64_STANDARD.encode(rand::random::<[u8; 16]>())
}

/// Reads one frame.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Frame> {
    let [first, second] = [stream.read_u8().await?, stream.read_u8().await?];
    let wrong = |what: String| Error::new(ErrorKind::InvalidData, what);
    let kind = Kind::of(first & 0x0f).ok_or_else(|| wrong(format!("frame of kind {}", first & 0x0f)))?;
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    if length > LARGEST || first & 0x70 != 0 {
        return Err(wrong(format!("frame of {length} bytes, first byte {first:#x}")));
    }
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Frame { last: first & 0x80 != 0, kind, payload })
}

/// Writes one frame.
pub(crate) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    side: Side,
    frame: &Frame,
) -> std::io::Result<()> {
    let mut bytes = vec![u8::from(frame.last) << 7 | frame.kind.code()];
    let masked = if side == Side::Client { 0x80 } else { 0 };
    match frame.payload.len() {
        length @ 0..=125 => bytes.push(masked | length as u8),
        length @ 126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = if side == Side::Client { rand::random() } else { [0; 4] };
    if side == Side::Client {
        bytes.extend(mask);
    }
    bytes.extend(frame.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::{Frame, Kind, Side, accept, read, write};

    #[test]
    fn the_rfc_s_own_handshake() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_of_every_length_come_back_from_both_sides() {
        for (size, side) in [0, 1, 125, 126, 65_535, 65_536]
            .into_iter()
            .flat_map(|size| [Side::Client, Side::Server].map(|side| (size, side)))
        {
            let frame = Frame::whole(Kind::Binary, vec![7; size]);
            let mut bytes = Vec::new();
            write(&mut bytes, side, &frame).await.unwrap();
            assert_eq!(read(&mut bytes.as_slice()).await.unwrap(), frame, "{size} from {side:?}");
        }
        assert!(read(&mut [0x83, 0].as_slice()).await.is_err(), "a kind that does not exist");
    }
}
