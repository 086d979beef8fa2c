//! What bounds a process's memory, and how much of it is in use: a configured ceiling, or the limit of its control group.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where control groups are mounted, of the unified hierarchy and of the older one.
const UNIFIED: &str = "/sys/fs/cgroup";
const LEGACY: &str = "/sys/fs/cgroup/memory";

/// A limit beyond this is the kernel's way to say that there is none.
const NONE: u64 = 1 << 60;

/// What ceiling was asked for: `auto`, `off`, or bytes as Kubernetes writes them (`256Mi`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// The limit of the container.
    #[default]
    Auto,
    /// None at all.
    Off,
    /// So many bytes.
    Bytes(u64),
}

/// Text that is no ceiling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write auto, off, or an amount of memory such as 256Mi")]
pub struct NotACeiling;

/// Who set the ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The setting.
    Configured,
    /// The control group we are in, or one above it.
    Container,
}

/// One way to read and bound memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    limit: Option<(u64, Origin)>,
    /// The group whose use is ours alone, so that what the kernel holds for our sockets counts too.
    own: Option<Group>,
}

/// A control group and how its files are called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    root: &'static Path,
    files: &'static Files,
}

#[derive(Debug, PartialEq, Eq)]
struct Files {
    limit: &'static str,
    used: &'static str,
    /// A line of `memory.stat`: cached file contents that the kernel gives up before it kills anybody.
    cache: &'static str,
}

const UNIFIED_FILES: Files = Files { limit: "memory.max", used: "memory.current", cache: "inactive_file" };
const LEGACY_FILES: Files =
    Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: "total_inactive_file" };

impl FromStr for Asked {
    type Err = NotACeiling;

    fn from_str(text: &str) -> Result<Self, NotACeiling> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => bytes(text).filter(|bytes| *bytes > 0).map(Self::Bytes).ok_or(NotACeiling),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "AMBIT_MEMORY_CEILING",
            Self::Container => "container",
        })
    }
}

/// A whole number of bytes with one of Kubernetes' suffixes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

impl Memory {
    /// Finds what bounds us at this moment.
    pub(super) fn find(asked: Asked) -> Self {
        match asked {
            Asked::Off => Self { limit: None, own: None },
            Asked::Bytes(bytes) => Self { limit: Some((bytes, Origin::Configured)), own: None },
            Asked::Auto => {
                let groups = read(Path::new("/proc/self/cgroup"));
                let group = Group::in_list(&groups, Path::exists);
                let limit = group.as_ref().and_then(Group::limit).map(|bytes| (bytes, Origin::Container));
                Self { limit, own: group.filter(|group| limit.is_some() && group.is_ours_alone()) }
            }
        }
    }

    pub(super) fn limit(&self) -> Option<(u64, Origin)> {
        self.limit
    }

    /// Whether what the kernel keeps for sockets is in use too.
    pub(super) fn has_sockets(&self) -> bool {
        self.own.as_ref().is_some_and(|group| *group.files == UNIFIED_FILES)
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> u64 {
        let resident = resident(&read(Path::new("/proc/self/status"))).unwrap_or(0);
        self.own.as_ref().and_then(Group::used).map_or(resident, |used| used.max(resident))
    }
}

impl Group {
    /// The group that `/proc/self/cgroup` names, as far as it can be seen from here: in a container of its own a process
    /// sees its group at the root.
    fn in_list(list: &str, exists: impl Fn(&Path) -> bool) -> Option<Self> {
        let lines = list.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        });
        let lines: Vec<_> = lines.collect();
        let legacy = lines.iter().find(|(controllers, _)| controllers.split(',').any(|one| one == "memory"));
        let unified = lines.iter().find(|(controllers, _)| controllers.is_empty());
        let (path, root, files) = match (legacy, unified) {
            (Some((_, path)), _) => (path, LEGACY, &LEGACY_FILES),
            (None, Some((_, path))) => (path, UNIFIED, &UNIFIED_FILES),
            (None, None) => return None,
        };
        let root = Path::new(root);
        let named = root.join(path.trim_start_matches('/'));
        let folder = if exists(&named) { named } else { root.to_path_buf() };
        Some(Self { folder, root, files })
    }

    /// The least limit of this group and those above it.
    fn limit(&self) -> Option<u64> {
        let groups = self.folder.ancestors().take_while(|folder| folder.starts_with(self.root));
        let limits =
            groups.filter_map(|folder| read(&folder.join(self.files.limit)).trim().parse::<u64>().ok());
        limits.filter(|bytes| *bytes < NONE).min()
    }

    fn is_ours_alone(&self) -> bool {
        read(&self.folder.join("cgroup.procs")).lines().count() == 1
    }

    fn used(&self) -> Option<u64> {
        let used: u64 = read(&self.folder.join(self.files.used)).trim().parse().ok()?;
        let stat = read(&self.folder.join("memory.stat"));
        let cache = stat.lines().find_map(|line| line.strip_prefix(self.files.cache)?.trim().parse().ok());
        Some(used.saturating_sub(cache.unwrap_or(0)))
    }
}

/// Bytes in a line of `/proc/PID/status`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A file of the kernel's; one that is not there says nothing.
fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_read_as_kubernetes_writes_them() {
        let cases = [
            ("auto", Ok(Asked::Auto)),
            ("off", Ok(Asked::Off)),
            ("1000", Ok(Asked::Bytes(1000))),
            ("256Mi", Ok(Asked::Bytes(256 << 20))),
            ("2G", Ok(Asked::Bytes(2_000_000_000))),
            ("0", Err(NotACeiling)),
            ("", Err(NotACeiling)),
            ("256MB", Err(NotACeiling)),
            ("-1", Err(NotACeiling)),
            ("99999999999Gi", Err(NotACeiling)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Asked>(), expected, "{text}");
            if let Ok(asked) = expected {
                assert_eq!(asked.to_string().parse(), Ok(asked), "{text} again");
            }
        }
    }

    #[test]
    fn the_group_is_found_in_either_hierarchy_and_inside_a_container() {
        let found = |list: &str, seen: bool| {
            let group = Group::in_list(list, |_| seen)?;
            Some((group.folder.display().to_string(), group.files.limit))
        };
        let (old, new) = ("9:pids:/x\n4:cpu,memory:/a/b\n0::/c\n", "0::/kube/pod/one\n");
        let named = |folder: &str, file| Some((folder.to_owned(), file));
        assert_eq!(found(old, true), named("/sys/fs/cgroup/memory/a/b", "memory.limit_in_bytes"));
        assert_eq!(found(old, false), named("/sys/fs/cgroup/memory", "memory.limit_in_bytes"));
        assert_eq!(found(new, true), named("/sys/fs/cgroup/kube/pod/one", "memory.max"));
        assert_eq!(found(new, false), named("/sys/fs/cgroup", "memory.max"));
        assert_eq!(found("", true), None);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts_and_cached_files_do_not() {
        let root: &'static Path =
            Box::leak(std::env::temp_dir().join(format!("ambit-groups-{}", std::process::id())).into());
        let folder = root.join("pod/one");
        std::fs::create_dir_all(&folder).unwrap();
        let write = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
        let group = Group { folder, root, files: &UNIFIED_FILES };
        assert_eq!((group.limit(), group.used(), group.is_ours_alone()), (None, None, false));
        write("pod/one/memory.max", "max\n");
        write("memory.max", "9223372036854771712\n");
        assert_eq!(group.limit(), None);
        write("pod/memory.max", "500\n");
        write("pod/one/memory.max", "700\n");
        write("pod/one/memory.current", "300\n");
        write("pod/one/memory.stat", "anon 5\ninactive_file 120\n");
        write("pod/one/cgroup.procs", "17\n");
        assert_eq!((group.limit(), group.used(), group.is_ours_alone()), (Some(500), Some(180), true));
        std::fs::remove_dir_all(root).unwrap();
        assert!(Memory::find(Asked::Off).used() > 100_000);
    }
}
