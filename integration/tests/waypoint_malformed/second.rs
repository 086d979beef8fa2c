//! HTTP/2 by hand: frames that no library would send.

use std::io::{Error, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::replicas::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// No more frames of this stream, and no more of its headers.
const END: u8 = 0x1 | 0x4;
const ACK: u8 = 0x1;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// An answer.
    Status(u16),
    /// Its stream was reset, for this reason.
    Reset(u32),
    /// The connection was ended, for this reason if one was given.
    Ended(Option<u32>),
}

/// One connection.
pub(crate) struct Second {
    stream: TcpStream,
    next: u32,
}

type Header = (&'static str, &'static str);

const METHOD: Header = (":method", "GET");
const SCHEME: Header = (":scheme", "http");
const AUTHORITY: Header = (":authority", "server");
const PATH: Header = (":path", "/bad");

pub(crate) const GOOD: &[Header] = &[METHOD, SCHEME, AUTHORITY, (":path", "/good"), ("host", "server")];

/// Protocol errors that are one stream's alone.
const MALFORMED: Met = Met::Reset(1);
/// A block of headers that cannot be read leaves the whole connection without sense.
const UNREADABLE: Met = Met::Ended(Some(1));

/// (what is wrong, the headers, what becomes of them).
pub(crate) const FAULTS: &[(&str, &[Header], Met)] = &[
    ("no authority", &[METHOD, SCHEME, PATH], Met::Status(400)),
    ("authority and host differ", &[METHOD, SCHEME, AUTHORITY, PATH, ("host", "admin")], Met::Status(400)),
    ("two hosts", &[METHOD, SCHEME, PATH, ("host", "server"), ("host", "server")], Met::Status(400)),
    ("a user in the authority", &[METHOD, SCHEME, (":authority", "a@server"), PATH], Met::Status(400)),
    ("two authorities", &[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH], MALFORMED),
    ("two paths", &[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/other")], MALFORMED),
    ("two methods", &[METHOD, (":method", "POST"), SCHEME, AUTHORITY, PATH], MALFORMED),
    ("no method", &[SCHEME, AUTHORITY, PATH], MALFORMED),
    ("no path", &[METHOD, SCHEME, AUTHORITY], MALFORMED),
    ("an empty path", &[METHOD, SCHEME, AUTHORITY, (":path", "")], MALFORMED),
    ("no scheme", &[METHOD, AUTHORITY, PATH], MALFORMED),
    ("a pseudo-header nobody knows", &[METHOD, SCHEME, AUTHORITY, PATH, (":other", "x")], UNREADABLE),
    ("a pseudo-header of answers", &[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")], MALFORMED),
    ("a pseudo-header after others", &[METHOD, SCHEME, AUTHORITY, ("x-a", "b"), PATH], MALFORMED),
    ("a path without its slash", &[METHOD, SCHEME, AUTHORITY, (":path", "bad")], MALFORMED),
    ("a space in the path", &[METHOD, SCHEME, AUTHORITY, (":path", "/bad HTTP/1.1")], MALFORMED),
    ("lines in the path", &[METHOD, SCHEME, AUTHORITY, (":path", "/bad\r\nx: y")], MALFORMED),
    ("a line in the method", &[(":method", "GET\r\n"), SCHEME, AUTHORITY, PATH], UNREADABLE),
    ("lines in a value", &[METHOD, SCHEME, AUTHORITY, PATH, ("x-a", "b\r\nx-c: d")], UNREADABLE),
    ("NUL in a value", &[METHOD, SCHEME, AUTHORITY, PATH, ("x-a", "b\0")], UNREADABLE),
    ("capitals in a name", &[METHOD, SCHEME, AUTHORITY, PATH, ("X-A", "b")], UNREADABLE),
    ("a colon in a name", &[METHOD, SCHEME, AUTHORITY, PATH, ("x:a", "b")], UNREADABLE),
    ("chunks", &[METHOD, SCHEME, AUTHORITY, PATH, ("transfer-encoding", "chunked")], MALFORMED),
    ("a connection", &[METHOD, SCHEME, AUTHORITY, PATH, ("connection", "close")], MALFORMED),
    ("an upgrade", &[METHOD, SCHEME, AUTHORITY, PATH, ("upgrade", "h2c")], MALFORMED),
    ("a coding in te", &[METHOD, SCHEME, AUTHORITY, PATH, ("te", "gzip")], MALFORMED),
    ("a length without a body", &[METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "5")], MALFORMED),
    ("CONNECT", &[(":method", "CONNECT"), AUTHORITY], Met::Status(400)),
    ("TRACE", &[(":method", "TRACE"), SCHEME, AUTHORITY, PATH], Met::Status(400)),
];

impl Second {
    pub(crate) fn open(to: SocketAddr) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())?;
        Ok(Self { stream, next: 1 })
    }

    fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// One request without a body.
    pub(crate) fn ask(&mut self, headers: &[Header]) -> std::io::Result<Met> {
        let stream = self.stream();
        self.stream.write_all(&frame(HEADERS, END, stream, &block(headers)))?;
        self.answer(stream)
    }

    /// Requests that are taken back as soon as they are made; how the server ends that.
    pub(crate) fn flood(&mut self, streams: u32) -> std::io::Result<Met> {
        let block = block(GOOD);
        for _ in 0..streams {
            let stream = self.stream();
            let taken_back =
                [frame(HEADERS, END, stream, &block), frame(RESET, 0, stream, &8_u32.to_be_bytes())];
            if self.stream.write_all(&taken_back.concat()).is_err() {
                break;
            }
        }
        self.answer(u32::MAX)
    }

    /// Reads until something is said about a stream.
    fn answer(&mut self, stream: u32) -> std::io::Result<Met> {
        loop {
            let mut head = [0; 9];
            match self.stream.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(error),
                Err(_ended) => return Ok(Met::Ended(None)),
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut body = vec![0; length as usize];
            self.stream.read_exact(&mut body)?;
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match head[3] {
                // Whether the other side still listens shows when it is read from.
                SETTINGS if head[4] & ACK == 0 => drop(self.stream.write_all(&frame(SETTINGS, ACK, 0, &[]))),
                HEADERS if of == stream => return status(&body).map(Met::Status),
                RESET if of == stream => return Ok(Met::Reset(number(&body))),
                GOAWAY => return Ok(Met::Ended(body.get(4..).map(number))),
                DATA => {}
                _ => {}
            }
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, body].concat()
}

/// Names and values in full: no table, no Huffman, and nothing is looked at.
fn block(headers: &[Header]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "its length takes one byte");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The status stands first in an answer, as an entry of the static table or after the name of one.
fn status(block: &[u8]) -> std::io::Result<u16> {
    match block {
        [0x88, ..] => Ok(200),
        [0x8c, ..] => Ok(400),
        [0x8d, ..] => Ok(404),
        [0x8e, ..] => Ok(500),
        // 403 in Huffman's code.
        [0x48, 0x83, 0x68, 0x0c, 0xff, ..] => Ok(403),
        _ => Err(Error::other(format!("a status that is not known here: {block:02x?}"))),
    }
}
