//! Who listens where in a pod's network: an application that already holds one of the ztunnel's ports would be handed the
//! pod's traffic by the redirect rules, so such a pod is closed instead, and the holder is named.
//!
//! A ztunnel listens there too, and a new agent must not take its listeners for an application's. It is told by where the
//! process lives: a ztunnel makes its sockets in the pod's network and lives in another one, which an application of the
//! pod cannot. (Its PID would not do: after a restart of the agent the ztunnel has not connected yet.)
//!
//! Also tells whether any connection through the ztunnel is still open, which decides when the rules of a pod that left
//! the mesh may go.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ambit_transport::socket::{Netns, NetnsId};

use crate::redirect::rules::PROXY_PORTS;

/// Socket states as `/proc/net/tcp` writes them.
const LISTEN: &str = "0A";
const TIME_WAIT: &str = "06";

/// A process by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(pub u32);

/// A process that was found to hold a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number as the agent sees it.
    pub pid: Pid,
    /// The kernel's short name of it.
    pub name: String,
    /// Where it lives.
    pub home: Home,
}

/// The network a process lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The pod's.
    Pod,
    /// Another one.
    Elsewhere,
    /// It cannot be told.
    Unknown,
}

/// A port of the ztunnel's that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The port.
    pub port: u16,
    /// Who listens; `None` when no process visible to the agent has the socket open.
    pub process: Option<Process>,
}

/// One line of `/proc/net/tcp` that concerns a port of the ztunnel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProxySocket {
    port: u16,
    state: State,
    inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listening,
    Over,
    Open,
}

impl Holder {
    /// Whether it may be an application; only what surely lives elsewhere is not.
    pub fn may_be_application(&self) -> bool {
        self.process.as_ref().is_none_or(|process| process.home != Home::Elsewhere)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(Process { pid, name, .. }) => {
                write!(f, "process {name:?} (pid {}) listens on port {}", pid.0, self.port)
            }
            None => write!(f, "a process the agent cannot see listens on port {}", self.port),
        }
    }
}

/// Who listens on the ztunnel's ports in this network. Blocking.
pub fn holders(netns: &Netns) -> io::Result<Vec<Holder>> {
    let listening: BTreeMap<u64, u16> = proxy_sockets(netns)?
        .into_iter()
        .filter(|socket| socket.state == State::Listening)
        .map(|socket| (socket.inode, socket.port))
        .collect();
    if listening.is_empty() {
        return Ok(Vec::new());
    }
    let mut owners = owners(&listening, netns.id());
    let mut holders: Vec<Holder> =
        listening.into_iter().map(|(inode, port)| Holder { port, process: owners.remove(&inode) }).collect();
    holders.sort_by_key(|holder| holder.port);
    Ok(holders)
}

/// How many connections through the ztunnel are open in this network. Blocking.
pub fn open_connections(netns: &Netns) -> io::Result<usize> {
    let sockets = proxy_sockets(netns)?;
    Ok(sockets.into_iter().filter(|socket| socket.state == State::Open).count())
}

fn proxy_sockets(netns: &Netns) -> io::Result<Vec<ProxySocket>> {
    // The process' own `net` folder would show the network of its first thread, not of the one that entered the pod's.
    let read = |name: &str| match fs::read_to_string(Path::new("/proc/thread-self/net").join(name)) {
        // A kernel without IPv6 has no second table.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && name == "tcp6" => Ok(String::new()),
        other => other,
    };
    netns.run(|| Ok(read("tcp")? + &read("tcp6")?)).map(|tables| parse(&tables))
}

/// Fields: number, local address:port, remote address:port, state, queues, timer, retransmits, uid, timeout, inode.
fn parse(tables: &str) -> Vec<ProxySocket> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, *fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        let state = match state {
            LISTEN => State::Listening,
            TIME_WAIT => State::Over,
            _ => State::Open,
        };
        PROXY_PORTS.contains(&port).then_some(ProxySocket { port, state, inode: inode.parse().ok()? })
    };
    tables.lines().filter_map(socket).collect()
}

/// Looks through every visible process for the sockets. Processes come and go meanwhile: what cannot be read is skipped.
fn owners(inodes: &BTreeMap<u64, u16>, pod: NetnsId) -> BTreeMap<u64, Process> {
    let mut owners = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid) else {
            continue;
        };
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        for target in descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()) {
            let Some(inode) = target.to_str().and_then(socket_inode) else { continue };
            if !inodes.contains_key(&inode) || owners.get(&inode).is_some_and(settled) {
                continue;
            }
            let home = home(&process.path(), pod);
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let found = Process { pid, name: name.trim().to_owned(), home };
            if settled(&found) || !owners.contains_key(&inode) {
                owners.insert(inode, found);
            }
        }
        if owners.len() == inodes.len() && owners.values().all(settled) {
            break;
        }
    }
    owners
}

/// A socket may be open in several processes: one of the pod's own among them decides.
fn settled(process: &Process) -> bool {
    process.home != Home::Elsewhere
}

fn home(process: &Path, pod: NetnsId) -> Home {
    match fs::metadata(process.join("ns/net")) {
        Ok(found) if (NetnsId { dev: found.dev(), inode: found.ino() }) == pod => Home::Pod,
        Ok(_) => Home::Elsewhere,
        Err(_) => Home::Unknown,
    }
}

fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:3A98 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31 1 ffff 100 0 0 10 0
   1: 0100007F:3A99 0200000A:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 32 1 ffff 20 4 30 10 -1
   2: 0100007F:3A99 0200000A:A1B3 06 00000000:00000000 03:00001770 00000000     0        0 0 3 ffff
   3: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 33 1 ffff 100 0 0 10 0
   4: broken
  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:3A9E 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
00000000     0        0 34 1 ffff 100 0 0 10 0
";

    #[test]
    fn tables_are_read_and_other_ports_left_alone() {
        let socket = |port, state, inode| ProxySocket { port, state, inode };
        let expected = [
            socket(15001, State::Open, 32),
            socket(15001, State::Over, 0),
            socket(15006, State::Listening, 34),
        ];
        // 0x3A98 is 15000, which the ztunnel does not use in a pod.
        assert_eq!(parse(TABLE), expected);
    }

    #[test]
    fn an_own_listener_is_found_and_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let line =
            table.lines().find(|line| line.contains(&format!(":{port:04X} 00000000:0000 0A"))).unwrap();
        let inode: u64 = line.split_ascii_whitespace().nth(9).unwrap().parse().unwrap();
        let here = Netns::current().unwrap().id();
        let found = owners(&BTreeMap::from([(inode, port)]), here);
        assert_eq!((found[&inode].pid, found[&inode].home), (Pid(std::process::id()), Home::Pod));
        let holder = Holder { port, process: Some(found[&inode].clone()) };
        assert!(holder.may_be_application());
        let elsewhere = NetnsId { inode: here.inode + 1, ..here };
        let found = owners(&BTreeMap::from([(inode, port)]), elsewhere);
        assert_eq!(found[&inode].home, Home::Elsewhere, "the process lives outside of that network");
        assert!(!Holder { port, process: Some(found[&inode].clone()) }.may_be_application());
        assert!(Holder { port, process: None }.may_be_application(), "nobody to be seen");
        assert!(holder.to_string().contains(&format!("(pid {}) listens on port {port}", std::process::id())));
    }
}
