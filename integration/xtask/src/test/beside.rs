//! Lab tests that may run two at a time. Each has labs in namespaces of its own (addresses, ports, rules and processes), so
//! what they share is the machine's time: here stand those that wait for most of theirs, and measure none.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::program::{Program, Run};

/// How many run at once.
const LANES: usize = 2;

/// Test, and what it waits for. Not here: tests that measure (memory, rates, times), tests that are busy throughout, and
/// tests of what is left behind. The longest come first.
const MAY: [(&str, &str); 9] = [
    ("restart", "back-off and outages of killed programs"),
    ("waypoint_counts", "ejections, retries and their timeouts"),
    ("waypoint_policy", "waypoints that are missing for more than ten seconds"),
    ("enrol", "held connections, and agents that are away"),
    ("envoy", "Envoy's own start and end"),
    ("waypoint_routes", "faults that delay, and steps of a canary"),
    ("explain", "configurations on their way to the proxies"),
    ("waypoint_protocols", "servers that speak first, and readers that are slow"),
    ("bad_input", "files that must not have an effect"),
];

/// Whether a lab test may run beside another.
pub(super) fn may(name: &str) -> bool {
    MAY.iter().any(|(test, _wait)| *test == name)
}

/// Runs them, and tells of each when it is over.
pub(super) fn run(
    programs: &[&Program],
    environment: &BTreeMap<&'static str, OsString>,
    done: &mut (dyn FnMut(&Program, Run) + Send),
) {
    let rank = |program: &Program| MAY.iter().position(|(test, _wait)| *test == program.name);
    let mut queue = programs.to_vec();
    queue.sort_by_key(|program| rank(program));
    let (next, done) = (AtomicUsize::new(0), Mutex::new(done));
    std::thread::scope(|scope| {
        for _lane in 0..LANES {
            scope.spawn(|| {
                while let Some(program) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = program.collect(environment);
                    if let Ok(mut done) = done.lock() {
                        done(program, run);
                    }
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_with_its_output_and_outcome() {
        let program = |name: &str, file: &str| Program {
            name: name.to_owned(),
            package: "ambit-lab".to_owned(),
            folder: "/".into(),
            file: file.into(),
        };
        let programs =
            [program("envoy", "/bin/false"), program("restart", "/bin/pwd"), program("enrol", "/no")];
        let mut told = Vec::new();
        run(&programs.iter().collect::<Vec<_>>(), &BTreeMap::new(), &mut |program, run| {
            told.push((program.name.clone(), run.output.contains("\n/\n"), run.outcome.is_ok()));
        });
        told.sort();
        let expected = [("enrol", false, false), ("envoy", false, false), ("restart", true, true)];
        assert_eq!(told, expected.map(|(name, said, well)| (name.to_owned(), said, well)));
        assert!(may("restart") && !may("footprint"));
    }
}
