//! Programs the lab keeps running, and the one place where they are stopped.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::LabError;
use crate::space::Space;

/// A program started once, with a thread that waits for its end.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: u32,
    end: Arc<(Mutex<Option<ExitStatus>>, Condvar)>,
}

impl Process {
    /// Starts a program in a space, leader of its own process group, its output at the end of `log`.
    pub(crate) fn start(space: &Space, mut command: Command, log: &Path) -> Result<Self, LabError> {
        let what = format!("starting {}", command.get_program().to_string_lossy());
        let file = append(log).map_err(LabError::system(format!("opening {}", log.display())))?;
        let copy = file.try_clone().map_err(LabError::system("copying a file handle"))?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        let child = space.spawn(command).map_err(LabError::system(what))?;
        Ok(Self::watch(child))
    }

    fn watch(mut child: Child) -> Self {
        let process = Process { pid: child.id(), end: Arc::default() };
        let end = Arc::clone(&process.end);
        std::thread::spawn(move || {
            let status = child.wait().ok();
            *lock(&end.0) = Some(status.unwrap_or_default());
            end.1.notify_all();
        });
        process
    }

    /// Process id inside the lab.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended; none while it runs.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        *lock(&self.end.0)
    }

    /// Waits for its end.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let (ended, _late) = self
            .end
            .1
            .wait_timeout_while(lock(&self.end.0), limit, |status| status.is_none())
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *ended
    }

    /// Sends a signal to the program and all it has started.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended().is_none() {
            // Ended in between: nothing left to tell.
            let _gone = killpg(Pid::from_raw(self.pid as i32), signal);
        }
    }

    /// Ends the program: asked first, then by force when `grace` has passed.
    pub(crate) fn stop(&self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if self.wait(grace).is_none() {
            self.signal(Signal::SIGKILL);
            self.wait(Duration::from_secs(5));
        }
    }
}

/// A program's output so far.
pub(crate) fn output_of(log: &Path) -> String {
    std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn append(log: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}

/// Locks; a panic elsewhere is reported there and does not make the lab's state useless.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Asks again and again until there is an answer or the time is over.
pub(crate) fn poll<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A command that starts one of the lab's stand-in programs.
pub(crate) fn stand_in(arguments: &[String]) -> Command {
    let mut command = Command::new(own_program());
    command.arg(crate::standin::MARKER).args(arguments);
    command
}

/// This program's own file, also when it has been replaced since.
fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_unreadable| "/proc/self/exe".into())
}
