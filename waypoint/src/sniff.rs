//! What a connection speaks: as its port declares, else as its first bytes look.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_api::service::AppProtocol;
use ambit_transport::hbone::Io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What HTTP/2 with prior knowledge begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method we take for one.
const LONGEST_METHOD: usize = 16;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Something we only carry.
    Opaque,
}

/// What a port says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Some version of HTTP; the client's first bytes say which.
    Http,
    /// Not HTTP; not looked at.
    Opaque,
    /// Nothing.
    Unknown,
}

/// A socket whose first bytes have been read already.
pub struct Reread<I> {
    io: I,
    first: Vec<u8>,
    given: usize,
}

impl From<AppProtocol> for Declared {
    fn from(protocol: AppProtocol) -> Self {
        match protocol {
            AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc => Self::Http,
            AppProtocol::Tcp | AppProtocol::Tls => Self::Opaque,
            AppProtocol::Unknown => Self::Unknown,
        }
    }
}

/// What the first bytes say; `None` if it takes more of them.
fn look(bytes: &[u8], declared: Declared) -> Option<Spoken> {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return (common == PREFACE.len()).then_some(Spoken::Http2);
    }
    if declared == Declared::Http {
        return Some(Spoken::Http1);
    }
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    match bytes.get(method) {
        None if method <= LONGEST_METHOD => None,
        // A target begins with a slash, a scheme, a host name or an asterisk.
        Some(b' ') if (1..=LONGEST_METHOD).contains(&method) => match bytes.get(method + 1) {
            None => None,
            Some(next) if next.is_ascii_alphanumeric() || matches!(next, b'/' | b'*' | b'[') => {
                Some(Spoken::Http1)
            }
            Some(_) => Some(Spoken::Opaque),
        },
        _ => Some(Spoken::Opaque),
    }
}

/// What a stream of a tunnel speaks. Its bytes stay where they are, and so does their credit. On a port that declares
/// nothing a client that waits for the server to speak first is given up on after `within`.
pub async fn stream(io: &mut Io, declared: Declared, within: Duration) -> io::Result<Spoken> {
    if declared == Declared::Opaque {
        return Ok(Spoken::Opaque);
    }
    let seen = async {
        let mut known = 0;
        loop {
            let bytes = io.peek(known).await?;
            if let Some(spoken) = look(bytes, declared) {
                return Ok(spoken);
            }
            if bytes.len() <= known {
                return Ok(at_end(declared));
            }
            known = bytes.len();
        }
    };
    match declared {
        Declared::Unknown => tokio::time::timeout(within, seen).await.unwrap_or(Ok(Spoken::Opaque)),
        Declared::Http | Declared::Opaque => seen.await,
    }
}

/// Which HTTP a plain connection speaks.
pub async fn socket(mut io: TcpStream) -> io::Result<(Reread<TcpStream>, Spoken)> {
    use tokio::io::AsyncReadExt;
    let mut first = Vec::with_capacity(PREFACE.len());
    loop {
        let room = (PREFACE.len() - first.len()) as u64;
        let read = (&mut io).take(room).read_buf(&mut first).await?;
        let spoken = look(&first, Declared::Http).or_else(|| (read == 0).then(|| at_end(Declared::Http)));
        if let Some(spoken) = spoken {
            return Ok((Reread { io, first, given: 0 }, spoken));
        }
    }
}

/// The client ended its data before saying enough.
fn at_end(declared: Declared) -> Spoken {
    if declared == Declared::Http { Spoken::Http1 } else { Spoken::Opaque }
}

impl<I: AsyncRead + Unpin> AsyncRead for Reread<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given < this.first.len() {
            let count = out.remaining().min(this.first.len() - this.given);
            out.put_slice(&this.first[this.given..this.given + count]);
            this.given += count;
            if this.given == this.first.len() {
                this.first = Vec::new();
                this.given = 0;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_read(cx, out)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Reread<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol_or_ask_for_more() {
        use Spoken::{Http1, Http2, Opaque};
        let cases: [(&[u8], Option<Spoken>); 14] = [
            (b"", None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n", None),
            (PREFACE, Some(Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Http1)),
            (b"POST", None),
            (b"POST ", None),
            (b"POST /a HTTP/1.1", Some(Http1)),
            (b"OPTIONS * HTTP/1.1", Some(Http1)),
            (b"GET http://a/ HTTP/1.1", Some(Http1)),
            (b"GET \x00", Some(Opaque)),
            (b"\x16\x03\x01", Some(Opaque)),
            (b" GET /", Some(Opaque)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAA", Some(Opaque)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(look(bytes, Declared::Unknown), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_port_that_says_http_is_believed() {
        assert_eq!(look(b"\x16\x03", Declared::Http), Some(Spoken::Http1));
        assert_eq!(look(b"PR", Declared::Http), None);
        assert_eq!(look(PREFACE, Declared::Http), Some(Spoken::Http2));
    }
}
