//! gRPC's messages as they lie in an HTTP/2 body, for the stand-ins that speak it: one byte that says whether the message
//! is compressed (never, here), four for its length, then the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Value of `content-type`.
pub(crate) const CONTENT_TYPE: &str = "application/grpc";
/// Trailer with the outcome of a call.
pub(crate) const STATUS: &str = "grpc-status";
/// Largest message taken, as in gRPC's own libraries.
const LARGEST: usize = 4 << 20;
const HEAD: usize = 5;

/// A message with its head.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEAD + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Puts messages together again that arrive in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Messages(BytesMut);

impl Messages {
    /// Takes a piece of a body.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next whole message.
    pub(crate) fn pop(&mut self) -> Result<Option<Bytes>, String> {
        let Some(mut head) = self.0.get(..HEAD) else { return Ok(None) };
        let (compressed, length) = (head.get_u8(), head.get_u32() as usize);
        if compressed != 0 || length > LARGEST {
            return Err(format!("a message of {length} bytes, compressed {compressed}, cannot be read"));
        }
        if self.0.len() < HEAD + length {
            return Ok(None);
        }
        self.0.advance(HEAD);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Messages, framed};

    #[test]
    fn messages_survive_any_cut() {
        let sent = [&b"one"[..], b"", b"three"];
        let bytes: Vec<u8> = sent.iter().flat_map(|message| framed(message)).collect();
        for size in 1..bytes.len() {
            let (mut messages, mut got) = (Messages::default(), Vec::new());
            for piece in bytes.chunks(size) {
                messages.push(piece);
                while let Some(message) = messages.pop().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent, "in pieces of {size}");
        }
        let mut compressed = Messages::default();
        compressed.push(&[1, 0, 0, 0, 0]);
        assert!(compressed.pop().is_err());
    }
}
