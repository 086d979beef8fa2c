//! One short-lived program, with its input, its output and a deadline. Blocking: called on a thread that may wait.
//!
//! The child inherits the network namespace of the thread that starts it, which is how `nft` and `ip` come to work on a
//! pod's network without any option for it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The most output of a program that is kept; the rest is read and dropped.
const OUTPUT_LIMIT: usize = 256 * 1024;
/// The most of its error output that goes into an error.
const COMPLAINT_LIMIT: usize = 512;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start {}: {cause}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Talking to it failed.
    #[error("cannot talk to {}: {cause}", program.display())]
    Talk {
        /// The program.
        program: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("{} took longer than {within:?} and was killed", program.display())]
    TooLong {
        /// The program.
        program: PathBuf,
        /// Its deadline.
        within: Duration,
    },
    /// It ended with a failure.
    #[error("{} failed ({status}): {complaint}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The start of its error output.
        complaint: String,
    },
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Path, or a name that is looked up in PATH.
    pub path: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// What it reads on its standard input.
    pub input: &'a str,
    /// How long it may take.
    pub within: Duration,
}

impl Program<'_> {
    /// Runs it and returns its standard output.
    pub fn run(&self) -> Result<String, CommandError> {
        let mut child = Command::new(self.path)
            .args(self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| CommandError::Start { program: self.path.to_owned(), cause })?;
        let outcome = self.converse(&mut child);
        if outcome.is_err() {
            // Already gone is as good as killed; either way it must be reaped.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|cause| self.talk(cause))?;
        let (output, complaint) = outcome?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        let complaint = String::from_utf8_lossy(&complaint[..complaint.len().min(COMPLAINT_LIMIT)]);
        let complaint = complaint.trim().replace('\n', "; ");
        Err(CommandError::Failed { program: self.path.to_owned(), status, complaint })
    }

    /// Gives it its input, then reads both outputs to their ends. The input is far smaller than a pipe holds.
    fn converse(&self, child: &mut Child) -> Result<(Vec<u8>, Vec<u8>), CommandError> {
        let deadline = Instant::now() + self.within.min(Duration::from_secs(3600));
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(self.input.as_bytes()) {
                // It ended without reading: its error output says why.
                Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {}
                other => other.map_err(|cause| self.talk(cause))?,
            }
        }
        let (mut output, mut complaint) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        while stdout.is_some() || stderr.is_some() {
            self.wait(deadline, stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd))?;
            drain(&mut stdout, &mut output).map_err(|cause| self.talk(cause))?;
            drain(&mut stderr, &mut complaint).map_err(|cause| self.talk(cause))?;
        }
        Ok((output, complaint))
    }

    fn wait(
        &self,
        deadline: Instant,
        one: Option<BorrowedFd>,
        other: Option<BorrowedFd>,
    ) -> Result<(), CommandError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds: Vec<PollFd> =
            one.into_iter().chain(other).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) => Err(CommandError::TooLong { program: self.path.to_owned(), within: self.within }),
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.talk(errno.into())),
        }
    }

    fn talk(&self, cause: io::Error) -> CommandError {
        CommandError::Talk { program: self.path.to_owned(), cause }
    }
}

/// Reads once if there is something to read; an ended pipe becomes `None`.
fn drain<R: Read + AsFd>(pipe: &mut Option<R>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(reader) = pipe else { return Ok(()) };
    let mut ready = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, PollTimeout::ZERO)? == 0 {
        return Ok(());
    }
    let mut chunk = [0; 8192];
    match reader.read(&mut chunk)? {
        0 => *pipe = None,
        read => into.extend_from_slice(&chunk[..read.min(OUTPUT_LIMIT.saturating_sub(into.len()))]),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, within: Duration) -> Result<String, CommandError> {
        Program { path: Path::new("sh"), arguments: &["-c", script], input: "given", within }.run()
    }

    #[test]
    fn output_comes_back() {
        let printed = shell("cat; echo ' and more'", Duration::from_secs(10)).unwrap();
        assert_eq!(printed, "given and more\n");
    }

    #[test]
    fn a_failure_carries_the_complaint() {
        let error = shell("echo bad >&2; echo worse >&2; exit 3", Duration::from_secs(10)).unwrap_err();
        assert!(matches!(error, CommandError::Failed { .. }));
        assert!(error.to_string().contains("bad; worse"), "{error}");
    }

    #[test]
    fn input_that_nobody_reads_is_no_failure_of_its_own() {
        let error = shell("exec 0<&-; echo no >&2; exit 1", Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("no"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let error = shell("exec sleep 600", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, CommandError::TooLong { .. }), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let program =
            Program { path: Path::new("/no/such"), arguments: &[], input: "", within: Duration::MAX };
        assert!(program.run().unwrap_err().to_string().contains("/no/such"));
    }

    #[test]
    fn output_is_bounded() {
        let printed = shell("head -c 1000000 /dev/zero | tr '\\0' x", Duration::from_secs(20)).unwrap();
        assert_eq!(printed.len(), OUTPUT_LIMIT);
    }
}
