//! What client and server of the bench say to each other, so that every byte can be checked cheaply.

/// Port of the server that answers requests.
pub(super) const WEB: u16 = 8080;

/// Port of the server that swallows bulk data and says whether all of it was right.
pub(super) const SINK: u16 = 9090;

/// Bytes of an answer's body.
pub(super) const BODY: usize = 128;

/// Digits of a request's number.
const DIGITS: usize = 10;

/// Where the number stands in a request.
const ASKED_AT: usize = 5;

/// The end of a request's head.
pub(super) const END: &[u8] = b"\r\n\r\n";

/// The header with which a client asks for one answer per connection.
pub(super) const CLOSE: &[u8] = b"Connection: close\r\n";

/// Length of the repeating pattern of bulk data: a prime, so that no frame or buffer divides it and a lost or
/// repeated piece shifts what follows.
const PERIOD: usize = 262_139;

/// Whether a connection serves many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    Kept,
    Closed,
}

/// A request whose number is written anew each time.
pub(super) fn request(keeping: Keeping) -> Vec<u8> {
    let close = match keeping {
        Keeping::Kept => "",
        Keeping::Closed => "Connection: close\r\n",
    };
    format!("GET /0000000000 HTTP/1.1\r\nHost: server.bench\r\nAccept: */*\r\n{close}\r\n").into_bytes()
}

/// The answer to it: 128 bytes of body, among them the request's number.
pub(super) fn answer(keeping: Keeping) -> Answer {
    let close = match keeping {
        Keeping::Kept => "",
        Keeping::Closed => "Connection: close\r\n",
    };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{close}Content-Length: {BODY}\r\n\r\n");
    let filling: String = ('a'..='z').cycle().take(BODY - DIGITS).collect();
    Answer { at: head.len(), bytes: format!("{head}{}{filling}", "0".repeat(DIGITS)).into_bytes() }
}

/// An answer's bytes and the place of the number in them.
pub(super) struct Answer {
    at: usize,
    bytes: Vec<u8>,
}

impl Answer {
    /// The whole answer with these digits.
    pub(super) fn with(&mut self, digits: &[u8]) -> &[u8] {
        self.bytes[self.at..self.at + DIGITS].copy_from_slice(digits);
        &self.bytes
    }
}

/// Writes a number into a request and returns its digits.
pub(super) fn number(request: &mut [u8], mut number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    request[ASKED_AT..ASKED_AT + DIGITS].copy_from_slice(&digits);
    digits
}

/// The digits of a request; none if it is not one of ours.
pub(super) fn digits(head: &[u8]) -> Option<&[u8]> {
    let digits = head.get(ASKED_AT..ASKED_AT + DIGITS)?;
    (head.starts_with(b"GET /") && digits.iter().all(u8::is_ascii_digit)).then_some(digits)
}

/// What follows the head of a message, if that is complete.
pub(super) fn body(message: &[u8]) -> Option<&[u8]> {
    find(message, END).map(|end| &message[end + END.len()..])
}

/// Where one text stands in another.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// One period of bulk data.
pub(super) fn pattern() -> Vec<u8> {
    // A small generator with a fixed seed: both ends make the same bytes.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(PERIOD).collect()
}

/// Follows bulk data through the pattern.
pub(super) struct Follower {
    pattern: Vec<u8>,
    at: usize,
    /// Bytes so far.
    pub(super) total: u64,
}

impl Follower {
    pub(super) fn new(pattern: Vec<u8>) -> Self {
        Self { pattern, at: 0, total: 0 }
    }

    /// The bytes that come next, up to the end of the period.
    pub(super) fn next(&self) -> &[u8] {
        &self.pattern[self.at..]
    }

    /// Moves on.
    pub(super) fn advance(&mut self, count: usize) {
        self.total += count as u64;
        self.at = (self.at + count) % self.pattern.len();
    }

    /// Whether these bytes are the ones that come next; moves on past them.
    pub(super) fn matches(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let count = bytes.len().min(self.next().len());
            if bytes[..count] != self.next()[..count] {
                return false;
            }
            self.advance(count);
            bytes = &bytes[count..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_travel() {
        let mut request = request(Keeping::Closed);
        let written = number(&mut request, 4_711);
        assert_eq!(&written, b"0000004711");
        assert_eq!(digits(&request), Some(&written[..]));
        assert_eq!(digits(b"GET /index.html HTTP/1.1"), None);
        assert!(find(&request, CLOSE).is_some() && request.ends_with(END));
        let mut answer = answer(Keeping::Kept);
        let bytes = answer.with(&written).to_vec();
        assert_eq!(body(&bytes).unwrap().len(), BODY);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n"), None);
    }

    #[test]
    fn lost_changed_and_repeated_bytes_are_noticed() {
        let all: Vec<u8> = pattern().into_iter().cycle().take(2 * PERIOD + 5).collect();
        let fresh = || Follower::new(pattern());
        assert!(fresh().matches(&all));
        let mut lost = all.clone();
        lost.drain(1_000..1_064);
        assert!(!fresh().matches(&lost));
        let mut changed = all.clone();
        changed[PERIOD + 1] ^= 1;
        assert!(!fresh().matches(&changed));
        let repeated = [&all[..64], &all[..]].concat();
        assert!(!fresh().matches(&repeated));
    }
}
