//! Keeping a lab up: its commands served, until `down` or a signal ends it.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::control::{Request, SOCKET, call};
use crate::error::LabError;
use crate::lab::Lab;

impl Lab {
    /// Serves commands until `down` or a signal, with a job beside that ends soon after the flag is set.
    pub fn attend(&self, beside: impl FnOnce(&AtomicBool) + Send) -> Result<(), LabError> {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| end_on_signal(self.folder(), &ended));
            scope.spawn(|| beside(&ended));
            let served = self.serve();
            ended.store(true, Ordering::Relaxed);
            served
        })
    }

    /// Ends [`Lab::attend`] from a thread beside it.
    pub fn end(&self) {
        // Already down when nobody answers.
        let _down = call(self.folder(), &Request::Down);
    }
}

/// A signal ends the lab by the same way as `down`.
fn end_on_signal(folder: &Path, ended: &AtomicBool) {
    let over = async {
        while !ended.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    let signalled = runtime.block_on(async {
        tokio::select! {
            _cause = ambit_process::signal::shutdown() => true,
            () = over => false,
        }
    });
    if signalled {
        // The answer to this is the end of the conversation.
        let _down = call(folder, &Request::Down);
    }
}

/// Whether a lab answers at this state folder.
pub fn answers(folder: &Path) -> bool {
    UnixStream::connect(folder.join(SOCKET)).is_ok()
}
