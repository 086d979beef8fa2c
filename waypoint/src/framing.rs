//! Where the requests of an HTTP/1.1 connection begin and end, read off its bytes before hyper parses them.
//!
//! hyper mends what ought to be refused: of two equal lengths it keeps one, of a length beside `Transfer-Encoding` none,
//! and a line may end without its carriage return. Whoever reads the same bytes another way would find another request in
//! them (field.md §4.1, smuggling). So the bytes are followed here, in one pass and without a copy, and a message that has
//! two readings is stopped before its head is complete, so that hyper never sees it as a request.
//!
//! What passes has one reading: each line ends in CRLF; a body is of one decimal length or of plain `chunked`; a chunk's
//! size is the hexadecimal digits its line begins with. On messages of that form hyper finds the same ends, and what else
//! may be wrong with them (names, bytes, extensions) hyper refuses itself.

use ambit_api::normalise::BadRequest;
use memchr::memchr;

pub mod guard;
#[cfg(test)]
mod tests;

/// Follows one connection.
#[derive(Debug)]
pub struct Framing {
    place: Place,
    head: Head,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The longest line, in bytes.
    limit: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The line of a request, or an empty one before it.
    Request,
    /// A line of its head.
    Head,
    /// So much of its body.
    Body(u64),
    /// The line with a chunk's size.
    Size,
    /// So much of a chunk.
    Chunk(u64),
    /// The end of the line after a chunk.
    ChunkEnd,
    /// A line of its trailers.
    Trailers,
    /// The other protocol that the client asked for, or the next request: the answer decides.
    Asked,
    /// The other protocol.
    Switched,
}

/// What a head has said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    /// Whether it asks for another protocol.
    upgrade: bool,
}

/// How much of what was looked at may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All of it.
    All,
    /// So many bytes; what comes then depends on an answer that is to come ([`Framing::answered`]).
    UntilAnswered(usize),
    /// So many bytes; the message they belong to has two readings.
    Bad(usize, BadRequest),
}

impl Framing {
    /// Of a connection that has just begun; no line may be longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { place: Place::Request, head: Head::default(), line: Vec::new(), limit }
    }

    /// Looks at the bytes that came next.
    pub fn look(&mut self, bytes: &[u8]) -> Seen {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.place {
                Place::Switched => return Seen::All,
                Place::Asked => return Seen::UntilAnswered(at),
                Place::Body(left) | Place::Chunk(left) => {
                    let passed = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= passed as u64;
                    at += passed;
                    self.past_data();
                }
                _ => match self.next_line(rest) {
                    Ok(passed) => at += passed,
                    Err(bad) => return Seen::Bad(at, bad),
                },
            }
        }
        Seen::All
    }

    /// Whether what comes next depends on an answer.
    pub fn is_asked(&self) -> bool {
        self.place == Place::Asked
    }

    /// Whether a message is under way of which not all has come.
    pub fn is_within(&self) -> bool {
        !matches!(self.place, Place::Request | Place::Asked | Place::Switched) || !self.line.is_empty()
    }

    /// The answer to a request for another protocol: whether that is spoken from here on.
    pub fn answered(&mut self, switched: bool) {
        if self.is_asked() {
            self.place = if switched { Place::Switched } else { Place::Request };
        }
    }

    /// Takes a line, or what there is of it; how many bytes that were.
    fn next_line(&mut self, bytes: &[u8]) -> Result<usize, BadRequest> {
        let Some(end) = memchr(b'\n', bytes) else {
            if self.line.len() + bytes.len() > self.limit {
                return Err(BadRequest::Line);
            }
            self.line.extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        if self.line.is_empty() {
            self.end_line(&bytes[..end])?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&bytes[..end]);
            self.end_line(&line)?;
        }
        Ok(end + 1)
    }

    /// A line is complete but for its line feed.
    fn end_line(&mut self, line: &[u8]) -> Result<(), BadRequest> {
        let line = line.strip_suffix(b"\r").ok_or(BadRequest::Line)?;
        self.place = match self.place {
            Place::Request if line.is_empty() => Place::Request,
            // Refused here: nobody could say whether what follows it is meant for a tunnel or for us.
            Place::Request if line.starts_with(b"CONNECT ") => return Err(BadRequest::Method),
            Place::Request => {
                self.head = Head::default();
                Place::Head
            }
            Place::Head if line.is_empty() => self.after_head(),
            Place::Head => {
                self.head.read(line)?;
                Place::Head
            }
            Place::Size => match size(line)? {
                0 => Place::Trailers,
                size => Place::Chunk(size),
            },
            Place::ChunkEnd if line.is_empty() => Place::Size,
            Place::ChunkEnd => return Err(BadRequest::Chunk),
            Place::Trailers if line.is_empty() => self.after_body(),
            place => place,
        };
        Ok(())
    }

    fn after_head(&self) -> Place {
        match self.head {
            Head { chunked: true, .. } => Place::Size,
            Head { length: Some(length), .. } if length > 0 => Place::Body(length),
            _ => self.after_body(),
        }
    }

    fn after_body(&self) -> Place {
        if self.head.upgrade { Place::Asked } else { Place::Request }
    }

    fn past_data(&mut self) {
        self.place = match self.place {
            Place::Body(0) => self.after_body(),
            Place::Chunk(0) => Place::ChunkEnd,
            place => place,
        };
    }
}

impl Head {
    /// Takes note of a header if it says where the body ends.
    fn read(&mut self, line: &[u8]) -> Result<(), BadRequest> {
        // The colon first: most lines are done with after three bytes.
        let is = |name: &[u8]| {
            line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name)
        };
        if is(b"content-length") {
            let length = number(value(line), 10).ok_or(BadRequest::ContentLength)?;
            if self.length.replace(length).is_some() {
                return Err(BadRequest::ContentLength);
            }
        } else if is(b"transfer-encoding") {
            if self.chunked || !value(line).eq_ignore_ascii_case(b"chunked") {
                return Err(BadRequest::TransferEncoding);
            }
            self.chunked = true;
        } else if is(b"upgrade") {
            self.upgrade = true;
        }
        if self.chunked && self.length.is_some() { Err(BadRequest::TwoLengths) } else { Ok(()) }
    }
}

/// What follows a header's name.
fn value(line: &[u8]) -> &[u8] {
    let colon = line.iter().position(|byte| *byte == b':').map_or(line.len(), |colon| colon + 1);
    line[colon..].trim_ascii()
}

/// A chunk's size; extensions are left to hyper.
fn size(line: &[u8]) -> Result<u64, BadRequest> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    number(&line[..digits], 16).ok_or(BadRequest::Chunk)
}

/// Digits and nothing else.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(radix.into())?.checked_add(digit.into())
    })
}
