//! A space: one thread that lives in namespaces of its own (network, and for pods mounts too), through
//! which everything is done that must happen there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::LabError;

type Job = Box<dyn FnOnce() + Send>;

/// Files a pod sees instead of the machine's.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    /// (what the pod shall read, the path it reads).
    pub(crate) files: Vec<(PathBuf, &'static str)>,
    /// Folder of network namespaces, which the pod must neither see nor keep alive.
    pub(crate) hidden: PathBuf,
}

/// A set of namespaces and the thread that lives in it.
#[derive(Debug)]
pub struct Space {
    jobs: mpsc::Sender<Job>,
    netns: PathBuf,
}

impl Space {
    /// Makes a network namespace, keeps it at the file `netns`, and (with a cover) a mount namespace.
    pub(crate) fn create(netns: &Path, cover: Option<Cover>) -> Result<Self, LabError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let file = netns.to_path_buf();
        std::thread::Builder::new()
            .name("space".to_owned())
            .spawn(move || {
                let outcome = settle(&file, cover.as_ref());
                let usable = outcome.is_ok();
                if ready.send(outcome).is_ok() && usable {
                    inbox.into_iter().for_each(|job| job());
                }
            })
            .map_err(LabError::system("starting a thread"))?;
        made.recv().map_err(|_gone| LabError::Unknown("thread of the namespace".to_owned()))??;
        Ok(Space { jobs, netns: netns.to_path_buf() })
    }

    /// File that keeps the network namespace.
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// Runs a short job on the space's own thread.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.thread(job).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a job on a thread of its own in the space.
    pub fn thread<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let (give, take) = mpsc::channel();
        // A new thread is born into the namespaces of the one that starts it.
        let sent = self.jobs.send(Box::new(move || {
            let _gone = give.send(std::thread::spawn(job));
        }));
        sent.expect("the space's thread ends only with the space");
        take.recv().expect("the space's thread answers every job")
    }

    /// Starts a program in the space.
    pub fn spawn(&self, mut command: Command) -> std::io::Result<Child> {
        self.run(move || command.spawn())
    }

    /// Runs one of the machine's tools in the space.
    pub(crate) fn tool(
        &self,
        tool: &'static str,
        arguments: &'static [&'static str],
        input: String,
    ) -> Result<String, LabError> {
        self.run(move || crate::command::feed(tool, arguments, &input))
    }

    /// Sets kernel parameters of the network namespace; those the kernel lacks are passed over.
    pub(crate) fn tune(&self, parameters: &'static [(&'static str, &'static str)]) -> Result<(), LabError> {
        self.run(move || {
            for (name, value) in parameters {
                let path = Path::new("/proc/sys/net").join(name);
                if path.exists() {
                    std::fs::write(&path, value)
                        .map_err(LabError::system(format!("setting {}", path.display())))?;
                }
            }
            Ok(())
        })
    }
}

fn settle(netns: &Path, cover: Option<&Cover>) -> Result<(), LabError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(LabError::errno("making a network namespace"))?;
    File::create(netns).map_err(LabError::system(format!("making {}", netns.display())))?;
    bind(Path::new("/proc/thread-self/ns/net"), netns)?;
    match cover {
        Some(cover) => put_on(cover),
        None => Ok(()),
    }
}

/// Gives the calling thread a mount namespace in which the cover's files hide the machine's.
pub(crate) fn put_on(cover: &Cover) -> Result<(), LabError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(LabError::errno("making a mount namespace"))?;
    umount2(&cover.hidden, MntFlags::MNT_DETACH)
        .map_err(LabError::errno("hiding the other network namespaces"))?;
    for (file, seen_at) in &cover.files {
        if Path::new(seen_at).exists() {
            bind(file, Path::new(seen_at))?;
        }
    }
    Ok(())
}

/// Mounts one file over another.
fn bind(file: &Path, over: &Path) -> Result<(), LabError> {
    mount(Some(file), over, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(LabError::errno(format!(
        "mounting {} over {}",
        file.display(),
        over.display()
    )))
}

/// Mounts an empty folder in memory, gone with the lab's mount namespace.
pub(crate) fn memory_folder(folder: &Path) -> Result<(), LabError> {
    std::fs::create_dir_all(folder).map_err(LabError::system(format!("making {}", folder.display())))?;
    mount(Some("ambit-lab"), folder, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755"))
        .map_err(LabError::errno(format!("mounting a memory folder at {}", folder.display())))
}

/// Lets go of a kept network namespace.
pub(crate) fn release(netns: &Path) {
    // The namespace may be gone with its mount already; then nothing is left to let go.
    let _unmounted = umount2(netns, MntFlags::MNT_DETACH);
    let _removed = std::fs::remove_file(netns);
}
