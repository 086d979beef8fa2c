//! What the kernel lets a process have.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many files a process may hold open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// What is enforced now.
    pub soft: u64,
    /// How far we may raise it.
    pub hard: u64,
}

/// Raises the soft limit of open files to the hard one: a proxy holds two sockets per connection, and the usual
/// soft limit of 1024 is for programs that use `select`.
///
/// # Errors
/// When the kernel refuses to tell or to set.
pub fn raise_open_files() -> Result<OpenFiles, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(OpenFiles { soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_is_raised_to_hard() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        assert_eq!(raise_open_files().unwrap(), OpenFiles { soft: hard, hard });
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
