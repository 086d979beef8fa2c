//! What the proxies of one lab cost: CPU time and memory, as the kernel counts them.

use nix::unistd::{SysconfVar, sysconf};

/// What proxies use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU seconds so far, of all of them.
    pub(super) cpu: f64,
    /// Resident bytes, the average of them.
    pub(super) resident: f64,
}

/// Process ids of a lab's proxies.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies(pub(super) Vec<u32>);

impl Proxies {
    pub(super) fn usage(&self) -> Usage {
        Usage { cpu: self.cpu(), resident: self.resident() }
    }

    fn cpu(&self) -> f64 {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
        self.0.iter().filter_map(|pid| ticks_of(&read(*pid, "stat"))).sum::<u64>() as f64 / ticks
    }

    /// Resident memory in bytes, the average of them.
    pub(super) fn resident(&self) -> f64 {
        let all: Vec<_> = self.0.iter().filter_map(|pid| resident_in(&read(*pid, "status"))).collect();
        all.iter().sum::<u64>() as f64 / all.len().max(1) as f64
    }
}

fn read(pid: u32, file: &str) -> String {
    // A process that has ended costs nothing more; that it ended shows as failed requests.
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// User and system time in a line of `/proc/PID/stat`; the name before them may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0";
        assert_eq!(ticks_of(stat), Some(154));
        assert_eq!(ticks_of(""), None);
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    5120 kB\n"), Some(5120 * 1024));
        let own = Proxies(vec![std::process::id()]);
        assert!(own.resident() > 100_000.0 && own.cpu() >= 0.0);
    }
}
