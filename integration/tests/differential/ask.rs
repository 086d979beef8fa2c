//! Asks everything of one side.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_lab::{Lab, PodHandle};
use libtest_mimic::Failed;

use crate::Case;
use crate::client::{Answer, Caller, Way};
use crate::table::{CLIENTS, PORTS};

/// Of every table, of every request.
pub(crate) type Answers = Vec<Vec<Answer>>;

/// Asks everything, each client in its place and both at once.
pub(crate) fn answers(
    lab: &Lab,
    cases: &Arc<Vec<Case>>,
    way: impl Fn(usize, usize, u16) -> Result<(PodHandle, Way), Failed>,
) -> Result<Answers, Failed> {
    let mut threads = Vec::new();
    for client in 0..CLIENTS.len() {
        let mut ways = BTreeMap::new();
        for place in 0..cases.len() {
            for port in PORTS {
                ways.insert((place, port), way(client, place, port)?);
            }
        }
        let pod = ways.values().next().ok_or("no table")?.0.clone();
        let (ways, cases) = (ways.into_iter().map(|(key, (_, way))| (key, way)), Arc::clone(cases));
        let mut callers: BTreeMap<_, _> = ways.map(|(key, way)| (key, Caller::new(way))).collect();
        threads.push(lab.thread_in(&pod, move || {
            let mut got = Vec::new();
            for (place, case) in cases.iter().enumerate() {
                for (number, request) in case.requests.iter().enumerate() {
                    if request.client == client {
                        let caller = callers.get_mut(&(place, request.port)).ok_or("no way")?;
                        let answer = caller.ask(request);
                        let answer =
                            answer.map_err(|error| format!("{request:?} to {}: {error}", case.table.name))?;
                        got.push((place, number, answer));
                    }
                }
            }
            Ok::<_, String>(got)
        }));
    }
    let mut all: Answers = cases.iter().map(|case| vec![Answer::default(); case.requests.len()]).collect();
    for thread in threads {
        for (place, number, answer) in thread.join().map_err(|_panic| "a caller failed")?? {
            all[place][number] = answer;
        }
    }
    Ok(all)
}
