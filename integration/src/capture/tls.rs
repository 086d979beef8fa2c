//! TLS as seen from outside: records, and what a ClientHello offers. Pure.

/// A record of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Content type: 22 handshake, 23 application data.
    pub kind: u8,
    /// Version on the record: always 3.1 or 3.3.
    pub version: u16,
    /// Body.
    pub body: &'a [u8],
}

/// Content type of application data, and in TLS 1.3 of everything that is encrypted.
pub const APPLICATION: u8 = 23;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_GROUPS: u16 = 10;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

/// Number of the group X25519MLKEM768.
pub const X25519MLKEM768: u16 = 0x11ec;
/// Version number of TLS 1.3.
pub const TLS13: u16 = 0x0304;

/// Splits a stream into records; none when it is no TLS. A record cut off at the end is left out.
pub fn records(mut stream: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while let [kind, major, minor, high, low, rest @ ..] = stream {
        if !(20..=24).contains(kind) || *major != 3 || *minor > 4 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((body, after)) = rest.split_at_checked(length) else { break };
        records.push(Record { kind: *kind, version: u16::from_be_bytes([*major, *minor]), body });
        stream = after;
    }
    Some(records)
}

/// What a client offers, or a server took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Groups the client supports, in its order.
    pub groups: Vec<u16>,
    /// Groups for which there is a key.
    pub key_shares: Vec<u16>,
    /// Versions.
    pub versions: Vec<u16>,
    /// Protocols in the clear.
    pub alpn: Vec<String>,
}

/// The ClientHello at the start of a stream.
pub fn client_hello(stream: &[u8]) -> Option<Hello> {
    hello(stream, CLIENT_HELLO)
}

/// The ServerHello at the start of a stream.
pub fn server_hello(stream: &[u8]) -> Option<Hello> {
    hello(stream, SERVER_HELLO)
}

fn hello(stream: &[u8], wanted: u8) -> Option<Hello> {
    // A large hello may be spread over several records.
    let handshake = records(stream)?.into_iter().take_while(|record| record.kind == HANDSHAKE);
    let bytes: Vec<u8> = handshake.flat_map(|record| record.body.iter().copied()).collect();
    let mut body = Cursor(&bytes);
    if body.take(1)? != [wanted] {
        return None;
    }
    let length = body.number(3)?;
    let mut body = Cursor(body.take(length)?);
    body.take(2 + 32)?;
    let session = body.number(1)?;
    body.take(session)?;
    if wanted == CLIENT_HELLO {
        let suites = body.number(2)?;
        body.take(suites)?;
        let compressions = body.number(1)?;
        body.take(compressions)?;
    } else {
        body.take(2 + 1)?;
    }
    let length = body.number(2)?;
    extensions(Cursor(body.take(length)?), wanted == CLIENT_HELLO)
}

fn extensions(mut all: Cursor<'_>, client: bool) -> Option<Hello> {
    let mut hello = Hello::default();
    while !all.0.is_empty() {
        let kind = all.number(2)? as u16;
        let length = all.number(2)?;
        let mut body = Cursor(all.take(length)?);
        match (kind, client) {
            (SUPPORTED_GROUPS, true) => hello.groups = body.list(2)?.numbers(),
            (SUPPORTED_VERSIONS, true) => hello.versions = body.list(1)?.numbers(),
            (SUPPORTED_VERSIONS, false) => hello.versions = body.numbers(),
            (KEY_SHARE, true) => {
                let mut shares = body.list(2)?;
                while !shares.0.is_empty() {
                    hello.key_shares.push(shares.number(2)? as u16);
                    shares.list(2)?;
                }
            }
            (KEY_SHARE, false) => hello.key_shares.push(body.number(2)? as u16),
            (ALPN, _) => {
                let mut names = body.list(2)?;
                while !names.0.is_empty() {
                    hello.alpn.push(String::from_utf8_lossy(names.list(1)?.0).into_owned());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of this many bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What follows a length of this many bytes.
    fn list(&mut self, bytes: usize) -> Option<Cursor<'a>> {
        let length = self.number(bytes)?;
        Some(Cursor(self.take(length)?))
    }

    fn numbers(&self) -> Vec<u16> {
        self.0.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{APPLICATION, TLS13, X25519MLKEM768, client_hello, records};
    use std::sync::Arc;
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

    #[test]
    fn a_real_client_hello_is_read() {
        let mut config =
            ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = ClientConnection::new(Arc::new(config), "lab".try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        let hello = client_hello(&bytes).unwrap();
        assert!(hello.groups.contains(&X25519MLKEM768));
        assert!(!hello.key_shares.is_empty() && hello.versions.contains(&TLS13));
        assert_eq!(hello.alpn, ["h2"]);
        for length in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn text_is_no_tls_and_a_cut_record_is_left_out() {
        assert_eq!(records(b"GET / HTTP/1.1\r\n"), None);
        let records = records(&[23, 3, 3, 0, 1, 9, 23, 3, 3, 0, 9, 1]).unwrap();
        assert_eq!(records.iter().map(|record| record.kind).collect::<Vec<_>>(), [APPLICATION]);
    }
}
