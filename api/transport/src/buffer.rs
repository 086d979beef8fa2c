//! Buffers of one worker: lent while bytes are in hand, given back at once, so that idle connections hold none.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, mem};

use ambit_process::overload::Sizes;
use socket2::Socket;

use bytes::Bytes;

/// Bytes one read may bring.
static SIZE: AtomicUsize = AtomicUsize::new(256 * 1024);

/// Bytes the kernel may keep for a socket, each way; 0 leaves it to the kernel.
static KERNEL: AtomicUsize = AtomicUsize::new(0);

/// Buffers a worker keeps for reuse; more may be lent at once under load, and are freed afterwards.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bounds the buffers of the whole process, ours and the kernel's; to be called once, before there is any.
pub fn bound(sizes: &Sizes) {
    SIZE.store(sizes.read_buffer, Ordering::Relaxed);
    KERNEL.store(sizes.kernel_buffer.unwrap_or(0), Ordering::Relaxed);
}

/// Bounds the kernel's buffers of a socket that is not connected yet; what a listener accepts inherits them.
pub(crate) fn bound_kernel(socket: &Socket) -> io::Result<()> {
    match KERNEL.load(Ordering::Relaxed) {
        0 => Ok(()),
        bytes => socket.set_recv_buffer_size(bytes).and_then(|()| socket.set_send_buffer_size(bytes)),
    }
}

/// Bytes one read may bring.
pub(crate) fn size() -> usize {
    SIZE.load(Ordering::Relaxed)
}

/// One buffer on loan; dropping it gives it back.
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    /// Borrows a buffer. Its content is whatever its last user left there.
    pub(crate) fn take() -> Self {
        let kept = FREE.with(|free| free.borrow_mut().pop());
        Self(kept.unwrap_or_else(|| vec![0; size()].into_boxed_slice()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The first `length` bytes, to travel on: copied up to `copied` bytes, so that few bytes never hold a whole
    /// buffer, in place above.
    pub(crate) fn into_bytes(self, length: usize, copied: usize) -> Bytes {
        if length <= copied {
            return Bytes::copy_from_slice(&self.0[..length]);
        }
        Bytes::from_owner(self).slice(..length)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.0);
        // The thread may be ending; then the buffer is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(bytes);
            }
        });
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
