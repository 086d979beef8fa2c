//! The lab's name server: one in every node, for pods in the mesh and outside it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};

use socket2::SockRef;

use crate::address::DNS;
use crate::error::LabError;
use crate::space::Space;

/// Addresses by full lower-case name with its final dot.
pub(crate) type Names = BTreeMap<String, Vec<IpAddr>>;
/// The names as the servers see them; replaced as a whole.
pub(crate) type Book = Arc<RwLock<Arc<Names>>>;

const DOMAIN: &str = "cluster.local.";
const TTL: u32 = 5;
/// Largest answer over UDP that no resolver refuses.
const UDP_LIMIT: usize = 1232;
/// How long a server may take to see that its lab is gone.
const LOOK: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(5);

/// Starts the servers of one node; they end when the lab lets go of the book.
pub(crate) fn serve(node: &Space, book: &Book) -> Result<(), LabError> {
    for address in DNS.both() {
        let at = SocketAddr::new(address, 53);
        let sockets = node.run(move || Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?)));
        let (udp, tcp) = match sockets {
            Ok(sockets) => sockets,
            // A kernel without IPv6.
            Err(_refused) if address.is_ipv6() => continue,
            Err(source) => {
                return Err(LabError::System { what: format!("listening for DNS on {at}"), source });
            }
        };
        let limited = SockRef::from(&udp)
            .set_read_timeout(Some(LOOK))
            .and(SockRef::from(&tcp).set_read_timeout(Some(LOOK)));
        limited.map_err(LabError::system("limiting a wait"))?;
        let (for_udp, for_tcp) = (Arc::downgrade(book), Arc::downgrade(book));
        std::thread::spawn(move || over_udp(&udp, &for_udp));
        std::thread::spawn(move || over_tcp(&tcp, &for_tcp));
    }
    Ok(())
}

fn over_udp(socket: &UdpSocket, book: &Weak<RwLock<Arc<Names>>>) {
    let mut buffer = [0; 4096];
    loop {
        let received = socket.recv_from(&mut buffer);
        let Some(book) = book.upgrade() else { return };
        let Ok((length, peer)) = received else { continue };
        if let Some(reply) = answer(&buffer[..length], &current(&book), UDP_LIMIT) {
            // Whoever asked may be gone.
            let _sent = socket.send_to(&reply, peer);
        }
    }
}

fn over_tcp(listener: &TcpListener, book: &Weak<RwLock<Arc<Names>>>) {
    loop {
        let accepted = listener.accept();
        let Some(book) = book.upgrade() else { return };
        let Ok((stream, _peer)) = accepted else { continue };
        std::thread::spawn(move || {
            // The client's end of the connection is the end of the conversation.
            let _end = converse(stream, &book);
        });
    }
}

fn converse(mut stream: TcpStream, book: &Book) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        let Some(reply) = answer(&query, &current(book), usize::from(u16::MAX)) else { return Ok(()) };
        let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat())?;
    }
}

fn current(book: &Book) -> Arc<Names> {
    Arc::clone(&book.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// The answer to one message; none when it is no query at all.
fn answer(query: &[u8], names: &Names, limit: usize) -> Option<Vec<u8>> {
    let query =
        Message::from_vec(query).ok().filter(|query| query.metadata.message_type == MessageType::Query)?;
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let [question] = query.queries.as_slice() else { return None };
    reply.add_query(question.clone());
    let name = question.name().to_lowercase().to_ascii();
    let inside = name == DOMAIN || name.ends_with(&format!(".{DOMAIN}"));
    reply.metadata.authoritative = inside;
    reply.metadata.response_code = match names.get(&name) {
        _ if query.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        Some(addresses) => {
            let wanted = addresses.iter().filter_map(|address| record(*address, question.query_type()));
            reply.add_answers(wanted.map(|data| Record::from_rdata(question.name().clone(), TTL, data)));
            ResponseCode::NoError
        }
        None => ResponseCode::NXDomain,
    };
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= limit { Some(bytes) } else { reply.truncate().to_vec().ok() }
}

fn record(address: IpAddr, wanted: RecordType) -> Option<RData> {
    match (address, wanted) {
        (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(RData::A(A(v4))),
        (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(v6))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, answer};
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::{Name, RecordType};

    #[test]
    fn names_of_services_are_answered_and_nothing_else() {
        let addresses = vec!["10.96.1.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let names = Names::from([("web.shop.svc.cluster.local.".to_owned(), addresses)]);
        let cases = [
            ("web.shop.svc.cluster.local.", RecordType::A, ResponseCode::NoError, 1),
            ("WEB.shop.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError, 1),
            ("web.shop.svc.cluster.local.", RecordType::MX, ResponseCode::NoError, 0),
            ("no.shop.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain, 0),
            ("example.com.", RecordType::A, ResponseCode::NXDomain, 0),
        ];
        for (name, kind, code, count) in cases {
            let mut query = Message::new(9, MessageType::Query, OpCode::Query);
            query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
            let reply = Message::from_vec(&answer(&query.to_vec().unwrap(), &names, 512).unwrap()).unwrap();
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, count), "{name} {kind}");
        }
        assert_eq!(answer(b"nonsense", &names, 512), None);
    }
}
