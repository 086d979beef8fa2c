//! Control groups, one for each of the mesh's processes, in which the kernel kills whoever passes the limit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ambit_lab::LabOptions;
use ambit_lab::component::{Kind, Programs};
use libtest_mimic::Failed;

/// Longest time for the last processes to end, and the time between two looks whether they have.
const ENDING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// A folder of groups below our own group; gone when dropped.
pub(crate) struct Cages {
    base: PathBuf,
    scripts: PathBuf,
    limit: &'static str,
    killed: &'static str,
}

impl Cages {
    /// Makes the folder, if that is possible here.
    pub(crate) fn find() -> Option<Self> {
        let list = fs::read_to_string("/proc/self/cgroup").ok()?;
        let field = |line: &str, at: usize| line.splitn(3, ':').nth(at).unwrap_or_default().to_owned();
        let legacy = list.lines().find(|line| field(line, 1).split(',').any(|name| name == "memory"));
        let (root, line, limit, killed) = match legacy {
            Some(line) => ("/sys/fs/cgroup/memory", line, "memory.limit_in_bytes", "memory.oom_control"),
            None => ("/sys/fs/cgroup", list.lines().next()?, "memory.max", "memory.events"),
        };
        let own = Path::new(root).join(field(line, 2).trim_start_matches('/'));
        // Named after this run, whose process id is known outside its namespaces too.
        let base = own.join(format!("ambit-lab-{}", LabOptions::inline("").name));
        fs::create_dir(&base).ok()?;
        let scripts = std::env::temp_dir().join(format!("ambit-cages-{}", std::process::id()));
        let cages = Self { base, scripts, limit, killed };
        // In the unified hierarchy a group with processes of its own hands its controllers down to nobody.
        let _handed_down = fs::write(cages.base.join("cgroup.subtree_control"), "+memory");
        let usable = cages.base.join(limit).is_file() && fs::create_dir_all(&cages.scripts).is_ok();
        usable.then_some(cages)
    }

    /// The mesh's programs, each of which begins its life in a group of its own that may use so many bytes.
    pub(crate) fn programs(&self, most: impl Fn(Kind) -> u64) -> Result<Programs, Failed> {
        let mut programs = Programs::default();
        for (kind, name) in [
            (Kind::Controller, "controller"),
            (Kind::Agent, "ambit-node-agent"),
            (Kind::Ztunnel, "ztunnel"),
            (Kind::Waypoint, "waypoint"),
        ] {
            let program = Path::new(env!("CARGO_BIN_EXE_ambit-lab")).with_file_name(name);
            let script = self.scripts.join(name);
            let base = self.base.display();
            let text = format!(
                "#!/bin/sh\nmkdir -p {base}/$$ && echo {} > {base}/$$/{} && echo $$ > {base}/$$/cgroup.procs\nexec {} \"$@\"\n",
                most(kind),
                self.limit,
                program.display()
            );
            fs::write(&script, text)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
            programs.files.insert(kind, script);
        }
        Ok(programs)
    }

    /// How many processes the kernel has killed in any of the groups.
    pub(crate) fn killed(&self) -> u64 {
        let groups = fs::read_dir(&self.base).into_iter().flatten().flatten();
        let count = |folder: PathBuf| -> u64 {
            let text = fs::read_to_string(folder.join(self.killed)).unwrap_or_default();
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
        };
        groups.map(|group| count(group.path())).sum()
    }
}

impl Drop for Cages {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.scripts);
        // A group goes once its last process has ended.
        let end = Instant::now() + ENDING;
        while self.base.is_dir() && Instant::now() < end {
            for group in fs::read_dir(&self.base).into_iter().flatten().flatten() {
                let _removed = fs::remove_dir(group.path());
            }
            if fs::remove_dir(&self.base).is_err() {
                std::thread::sleep(PAUSE);
            }
        }
    }
}
