//! The one file where `unsafe` may stand: what the safe crates cannot express.
#![allow(unsafe_code, reason = "descriptors arrive as bare numbers, and registering one asks for a promise")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// Types that own their descriptor, always name the same one, and close it only when dropped.
pub(crate) trait Steady: AsRawFd {}

impl Steady for OwnedFd {}
impl Steady for mio::net::TcpListener {}

/// Registers a descriptor with the current runtime.
pub(crate) fn watch<T: Steady>(io: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the runtime needs the same open descriptor for as long as it is registered, which `Steady` promises.
    unsafe { AsyncFd::register(io) }.map_err(Into::into)
}

/// Takes ownership of a descriptor that the kernel has just put into our table for us.
pub(crate) fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass only numbers out of an SCM_RIGHTS message of their own recvmsg call, each exactly once; the
    // kernel made the descriptor for this process and nothing else knows the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
