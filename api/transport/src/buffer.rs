//! Buffers of one worker: lent while bytes are in hand, given back at once, so that idle connections hold none.

use std::cell::RefCell;
use std::mem;

use bytes::Bytes;

/// Bytes one read may bring: sixteen TLS records, so that one call to the kernel carries many.
pub(crate) const BUFFER: usize = 256 * 1024;

/// Buffers a worker keeps for reuse; more may be lent at once under load, and are freed afterwards.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// One buffer on loan; dropping it gives it back.
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    /// Borrows a buffer. Its content is whatever its last user left there.
    pub(crate) fn take() -> Self {
        let kept = FREE.with(|free| free.borrow_mut().pop());
        Self(kept.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice()))
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
