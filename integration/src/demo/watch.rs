//! Looking at a running lab again and again: the programs' metrics, their memory, and what is new in their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cast::{Cast, Workload};
use super::refusal::Refusals;
use super::scene::{Program, Reading, Scene, Seen, Way, edges};
use crate::address::NodeNumber;
use crate::component::Component;
use crate::lab::Lab;
use crate::lab::pods::PodHandle;

/// The nodes of the demo.
const NODES: [NodeNumber; 2] = [NodeNumber(1), NodeNumber(2)];
/// A log that has grown to this is cut: a demo may stay up for days.
const CUT: u64 = 32 << 20;

/// Looks at a lab; each look tells what happened since the one before.
pub(crate) struct Watch<'a> {
    lab: &'a Lab,
    before: Reading,
    at: Instant,
    tails: Tails,
    refusals: Refusals,
    /// Ways that were used since it began.
    known: BTreeSet<Way>,
}

impl<'a> Watch<'a> {
    /// Begins: what happened until now is not told.
    pub(crate) fn begin(lab: &'a Lab) -> Self {
        let mut watch = Watch {
            lab,
            before: Reading::default(),
            at: Instant::now(),
            tails: Tails::default(),
            refusals: Refusals::default(),
            known: BTreeSet::new(),
        };
        watch.look(&[]);
        watch.refusals = Refusals::default();
        watch.known.clear();
        watch
    }

    /// What happened since the look before.
    pub(crate) fn look(&mut self, seen: &[Seen]) -> Scene {
        let objects = self.lab.pod_objects();
        let cast = Cast::of(&objects, |pod| self.lab.redirection(pod).as_deref() == Some("enabled"));
        let waypoints = self.lab.waypoints();
        let reading = self.read(&cast, &waypoints);
        let (now, before) = (Instant::now(), self.at);
        let seconds = now.duration_since(before).as_secs_f64();
        let edges = edges((&self.before, &reading), seconds, seen, &mut self.known);
        self.hear(&cast, &waypoints);
        // A program that does not answer has what it had, lest all of it be new when it answers again.
        let old = std::mem::replace(&mut self.before, reading);
        for (program, ways) in old.0 {
            self.before.0.entry(program).or_insert(ways);
        }
        self.at = now;
        Scene {
            places: cast.places.into_values().collect(),
            edges,
            refusals: self.refusals.0.clone(),
            programs: self.programs(&waypoints),
        }
    }

    fn read(&self, cast: &Cast, waypoints: &[PodHandle]) -> Reading {
        let mut reading = Reading::default();
        for proxy in NODES.map(Component::Ztunnel) {
            if let Ok(samples) = self.lab.metrics(proxy) {
                reading.add(&proxy.to_string(), &samples, None, |workload| cast.is_waypoint(workload));
            }
        }
        for pod in waypoints {
            let own = cast.pod(&pod.namespace, &pod.name);
            if let (Some(own), Ok(samples)) = (own, self.lab.pod_metrics(pod)) {
                reading.add(&pod.uid, &samples, Some(own), |_| false);
            }
        }
        reading
    }

    /// Takes in what is new in the logs of those who refuse.
    fn hear(&mut self, cast: &Cast, waypoints: &[PodHandle]) {
        let logs = self.lab.folder().join("logs");
        for node in NODES {
            for line in self.tails.new_lines(&logs.join(format!("ztunnel-{}.log", node.name()))) {
                self.refusals.hear(&line, None, cast);
            }
        }
        for pod in waypoints {
            let Some(own) = cast.pod(&pod.namespace, &pod.name) else { continue };
            for log in logs_of(&logs, pod) {
                for line in self.tails.new_lines(&log) {
                    self.refusals.hear(&line, Some(own), cast);
                }
            }
        }
    }

    fn programs(&self, waypoints: &[PodHandle]) -> Vec<Program> {
        let components = std::iter::once(Component::Controller)
            .chain(NODES.iter().flat_map(|node| [Component::Agent(*node), Component::Ztunnel(*node)]));
        let program = |name: String, process: Option<u32>| Program {
            name,
            megabytes: process.and_then(resident).map(|bytes| bytes / 1e6),
        };
        let mut programs: Vec<_> =
            components.map(|component| program(component.to_string(), self.lab.pid(component))).collect();
        for pod in waypoints {
            let name = Workload::new(&pod.namespace, "waypoint").to_string();
            programs.push(program(name, self.lab.processes(pod).first().copied()));
        }
        programs
    }
}

/// Bytes of a process that are in memory.
fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// Logs of a pod's containers.
fn logs_of(logs: &Path, pod: &PodHandle) -> Vec<PathBuf> {
    let start = format!("{}_{}_", pod.namespace, pod.name);
    let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let mine = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    mine.map(|entry| entry.path()).collect()
}

/// How far logs have been read.
#[derive(Debug, Default)]
struct Tails(BTreeMap<PathBuf, u64>);

impl Tails {
    /// Whole lines that are new in a log; none when it cannot be read.
    fn new_lines(&mut self, log: &Path) -> Vec<String> {
        let read = self.0.entry(log.to_path_buf()).or_default();
        let Ok((bytes, from)) = read_from(log, *read) else { return Vec::new() };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        *read = from + whole as u64;
        if *read > CUT {
            cut(log);
            *read = 0;
        }
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
    }
}

/// What a log holds from there on, and where that was; from the beginning if the log has been cut meanwhile.
fn read_from(log: &Path, from: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(log)?;
    let from = if file.metadata()?.len() < from { 0 } else { from };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, from))
}

/// Programs write at the end of their logs, wherever it is.
fn cut(log: &Path) {
    // A log that cannot be cut grows on.
    let _cut = OpenOptions::new().write(true).open(log).and_then(|file| file.set_len(0));
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::Tails;

    #[test]
    fn whole_lines_are_told_once_also_after_a_cut() {
        let log = std::env::temp_dir().join(format!("ambit-tails-{}", std::process::id()));
        let write = |text: &str| {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut tails = Tails::default();
        assert!(tails.new_lines(&log).is_empty(), "there is no such file yet");
        write("one\ntwo\nthr");
        assert_eq!(tails.new_lines(&log), ["one", "two"]);
        write("ee\n");
        assert_eq!(tails.new_lines(&log), ["three"]);
        assert!(tails.new_lines(&log).is_empty());
        super::cut(&log);
        write("four\n");
        assert_eq!(tails.new_lines(&log), ["four"]);
        std::fs::remove_file(&log).unwrap();
    }
}
