//! The plugin's question to the agent, over the node's socket. Blocking, and bounded.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::super::protocol::{Answer, PACKET_LIMIT, Request, Response, Verb};
use super::Config;

/// How long the agent may take to say goodbye for a pod that goes: nobody should wait for it.
const GOODBYE: Duration = Duration::from_secs(3);
/// What the agent is given beyond the time that it gives itself.
const MARGIN: Duration = Duration::from_secs(5);

/// Asks, with the pod's network beside the question.
pub(super) fn ask(config: &Config, request: &Request, network: &File) -> io::Result<Answer> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let wait = match request.verb {
        Verb::Del => GOODBYE,
        Verb::Add | Verb::Check => Duration::from_secs(config.wait_seconds.into()) + MARGIN,
    };
    let limit = TimeVal::new(wait.as_secs().try_into().unwrap_or(i64::MAX), 0);
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(&config.socket)?)?;
    let packet = serde_json::to_vec(request)?;
    let fds = [network.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let data = [IoSlice::new(&packet)];
    sendmsg::<()>(socket.as_raw_fd(), &data, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    let mut buffer = vec![0; PACKET_LIMIT];
    let received = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Err(Errno::EAGAIN) => {
            let text = format!("nothing within {} s", wait.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        received => received?,
    };
    match received {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up")),
        length => Response::read(&buffer[..length]).map(|response| response.answer).map_err(io::Error::other),
    }
}
