//! The messages of a gRPC body, counted as they pass: five bytes before each tell how long it is.

/// One body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Whole ones so far.
    whole: u64,
    /// How much of the next one's prefix has come, and the length that it says so far.
    prefix: usize,
    length: u32,
    /// Bytes of a message that are still to come.
    left: u32,
}

/// A byte of flags, and the length.
const PREFIX: usize = 5;

impl Messages {
    /// A piece of the body passes.
    pub fn pass(&mut self, mut piece: &[u8]) {
        while let Some((first, rest)) = piece.split_first() {
            if self.left > 0 {
                let passed = piece.len().min(self.left as usize);
                self.left -= u32::try_from(passed).unwrap_or(self.left);
                piece = &piece[passed..];
                self.whole += u64::from(self.left == 0);
                continue;
            }
            if self.prefix > 0 {
                self.length = self.length << 8 | u32::from(*first);
            }
            self.prefix += 1;
            piece = rest;
            if self.prefix == PREFIX {
                self.left = self.length;
                self.whole += u64::from(self.left == 0);
                (self.prefix, self.length) = (0, 0);
            }
        }
    }

    /// Messages that have passed whole.
    pub fn whole(&self) -> u64 {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_count_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0_u32, 3, 300, 0, 1] {
            body.push(1);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend(std::iter::repeat_n(0xff, length as usize));
        }
        for size in 1..body.len() {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|piece| messages.pass(piece));
            assert_eq!(messages.whole(), 5, "in pieces of {size}");
        }
        // What breaks off is none.
        let mut messages = Messages::default();
        messages.pass(&body[..body.len() - 1]);
        assert_eq!(messages.whole(), 4);
        messages.pass(&[]);
        assert_eq!(messages.whole(), 4);
    }
}
