//! One descriptor at most, whole packets only.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ambit_transport::fdpass::{Listener, MAX_PACKET, PeerProcess, Socket};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

use super::support::on_a_worker;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ambit-{}-{name}.sock", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_packet_carries_a_descriptor_that_is_closed_on_exec() {
    on_a_worker(async {
        let place = Place::new("one");
        let listener = Listener::bind(&place.0).unwrap();
        assert_eq!(std::fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o600);
        let near = Socket::connect(&place.0).unwrap();
        let far = listener.accept().await.unwrap();
        let mut file = tempfile();
        near.send(b"with", Some(file.as_fd())).await.unwrap();
        near.send(b"without", None).await.unwrap();
        let mut buffer = [0; 16];
        let (length, fd) = far.recv(&mut buffer).await.unwrap();
        let fd = fd.unwrap();
        assert_eq!(&buffer[..length], b"with");
        let flags = FdFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        file.read_to_string(&mut String::new()).unwrap();
        assert_eq!(text, "content");
        let (length, fd) = far.recv(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], fd.is_none()), (&b"without"[..], true));
        drop(near);
        assert!(matches!(far.recv(&mut buffer).await, Ok((0, None))));
    });
}

#[test]
fn each_end_can_tell_who_is_at_the_other() {
    on_a_worker(async {
        let place = Place::new("peer");
        let listener = Listener::bind(&place.0).unwrap();
        let near = Socket::connect(&place.0).unwrap();
        let far = listener.accept().await.unwrap();
        for end in [near, far] {
            let peer = end.peer().unwrap();
            assert_eq!(peer.pid, Some(std::process::id()));
            assert!(peer.is_trusted());
            assert!(!PeerProcess { uid: peer.uid.wrapping_add(4711), ..peer }.is_trusted());
        }
    });
}

#[test]
fn truncation_and_surplus_descriptors_are_errors_and_nothing_leaks() {
    on_a_worker(async {
        let place = Place::new("many");
        let listener = Listener::bind(&place.0).unwrap();
        let raw = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(raw.as_raw_fd(), &UnixAddr::new(&place.0).unwrap()).unwrap();
        let far = listener.accept().await.unwrap();
        let send = |data: &[u8], fds: &[i32]| {
            let rights = [ControlMessage::ScmRights(fds)];
            sendmsg::<()>(raw.as_raw_fd(), &[IoSlice::new(data)], &rights, MsgFlags::empty(), None).unwrap();
        };
        let (file, mark) = std::io::pipe().unwrap();
        let mark = [mark.as_raw_fd(); 20];
        let mut buffer = [0; 4];
        for (data, fds) in [(&b"ok"[..], 2), (b"ok", 20), (b"too long", 1)] {
            send(data, &mark[..fds]);
            assert_eq!(
                far.recv(&mut buffer).await.unwrap_err().kind(),
                ErrorKind::InvalidData,
                "{data:?} {fds}"
            );
        }
        // The socket goes on after a bad packet.
        send(b"fine", &mark[..1]);
        assert!(matches!(far.recv(&mut buffer).await, Ok((4, Some(_)))));
        drop(file);
    });
}

#[test]
fn every_surplus_descriptor_is_closed() {
    on_a_worker(async {
        let place = Place::new("leak");
        let listener = Listener::bind(&place.0).unwrap();
        let raw = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(raw.as_raw_fd(), &UnixAddr::new(&place.0).unwrap()).unwrap();
        let far = listener.accept().await.unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let fds = [writer.as_raw_fd(); 3];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(raw.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
        assert!(far.recv(&mut [0; 4]).await.is_err());
        drop(writer);
        // The pipe ends only when no copy of its writing end is left anywhere.
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    });
}

#[test]
fn packets_have_a_size() {
    on_a_worker(async {
        let place = Place::new("size");
        let listener = Listener::bind(&place.0).unwrap();
        let near = Socket::connect(&place.0).unwrap();
        let _far = listener.accept().await.unwrap();
        assert_eq!(near.send(b"", None).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(
            near.send(&vec![0; MAX_PACKET + 1], None).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        // A stale socket file is replaced; a file that is no socket is not.
        drop(listener);
        drop(Listener::bind(&place.0).unwrap());
        std::fs::remove_file(&place.0).unwrap();
        std::fs::write(&place.0, "precious").unwrap();
        assert!(Listener::bind(&place.0).is_err());
    });
}

fn tempfile() -> File {
    let path = std::env::temp_dir().join(format!("ambit-{}-content", std::process::id()));
    std::fs::write(&path, "content").unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}
