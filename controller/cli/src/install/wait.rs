//! Waits until what was applied is ready, and says meanwhile what it waits for.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::chart;
use crate::cluster::{Cluster, Resource, kinds, label, name, namespace, told, whose};
use crate::failure::Failure;
use crate::output;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Somebody who waits.
pub(crate) struct Waiter<'a> {
    cluster: &'a Cluster,
    timeout: Duration,
    until: Instant,
    said: Vec<String>,
}

impl<'a> Waiter<'a> {
    /// One who waits so long.
    pub(crate) fn new(cluster: &'a Cluster, timeout: Duration) -> Self {
        Self { cluster, timeout, until: Instant::now() + timeout, said: Vec::new() }
    }

    /// Until every one of these is ready.
    pub(crate) fn until_ready(&mut self, objects: &[Value]) -> Result<(), Failure> {
        let watched: Vec<&Value> = objects.iter().filter(|object| takes_time(object)).collect();
        let cluster = self.cluster;
        self.until_nothing_lags(|| {
            let mut lags = Vec::new();
            for object in &watched {
                let held = cluster.held(object).map_err(|refused| cluster.failed(&told(object), &refused))?;
                let lag = held.as_ref().map_or(Some("it is gone".to_owned()), lagging);
                lags.extend(lag.map(|lag| format!("{}: {lag}", told(object))));
            }
            Ok(lags)
        })
        .map_err(|lags| self.late(&lags, &watched))
    }

    /// Until a question is answered with nothing; the last answer if it never is.
    pub(crate) fn until_nothing_lags(
        &mut self,
        mut lags: impl FnMut() -> Result<Vec<String>, Failure>,
    ) -> Result<(), Vec<String>> {
        loop {
            // An API server that does not answer for a moment is one more thing to wait for.
            let now = lags().unwrap_or_else(|failure| vec![failure.to_string()]);
            if now.is_empty() {
                return Ok(());
            }
            if Instant::now() >= self.until {
                return Err(now);
            }
            for lag in now.iter().filter(|lag| !self.said.contains(lag)) {
                // A reader that has gone does not end the work.
                let _ = output::line(&format!("waiting    {lag}"));
            }
            self.said = now;
            thread::sleep(LOOK);
        }
    }

    fn late(&self, lags: &[String], objects: &[&Value]) -> Failure {
        let pods = self.cluster.list(&kinds::POD, chart::NAMESPACE, "").unwrap_or_default();
        let apps: Vec<&str> = objects.iter().map(|object| name(object)).collect();
        let ours = pods.iter().filter(|pod| label(pod, "app").is_some_and(|app| apps.contains(&app)));
        let troubles: Vec<String> = ours.filter_map(trouble).collect();
        let mut says = format!("not ready after {} s: {}", self.timeout.as_secs(), lags.join("; "));
        if !troubles.is_empty() {
            says.push_str(&format!(" ({})", troubles.join("; ")));
        }
        let mend = format!("see why: kubectl{} describe pods -n {}", self.cluster.flags, chart::NAMESPACE);
        Failure::new(says, mend)
    }
}

fn takes_time(object: &Value) -> bool {
    let slow: [&Resource; 3] = [&kinds::DEPLOYMENT, &kinds::DAEMON_SET, &kinds::DEFINITION];
    whose(object).is_ok_and(|(kind, ..)| slow.contains(&kind))
}

/// What an object still lacks; nothing once it is ready.
pub(crate) fn lagging(object: &Value) -> Option<String> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    if object["kind"] == kinds::DEFINITION.kind {
        let conditions = status["conditions"].as_array();
        let is = |one: &Value| one["type"] == "Established" && one["status"] == "True";
        let established = conditions.is_some_and(|conditions| conditions.iter().any(is));
        return (!established).then(|| "it is not served yet".to_owned());
    }
    if number(&status["observedGeneration"]) < number(&object["metadata"]["generation"]) {
        return Some("nobody has taken it up yet".to_owned());
    }
    let (wanted, updated, ready) = if object["kind"] == kinds::DAEMON_SET.kind {
        (&status["desiredNumberScheduled"], &status["updatedNumberScheduled"], &status["numberAvailable"])
    } else {
        (&spec["replicas"], &status["updatedReplicas"], &status["availableReplicas"])
    };
    let (wanted, updated, ready) = (number(wanted), number(updated), number(ready));
    if wanted == 0 && object["kind"] == kinds::DAEMON_SET.kind {
        return Some("no node is one of its nodes; see its nodeSelector".to_owned());
    }
    if updated < wanted {
        return Some(format!("{updated} of {wanted} are new"));
    }
    if ready < wanted {
        return Some(format!("{ready} of {wanted} are ready"));
    }
    let old = number(&status["replicas"]) - updated;
    (old > 0).then(|| format!("{old} old ones are still there"))
}

/// Why a pod is not ready, in the words of its kubelet.
pub(crate) fn trouble(pod: &Value) -> Option<String> {
    let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let waiting = containers.filter_map(|one| one["state"]["waiting"]["reason"].as_str());
    let why: Vec<String> = waiting.filter(|why| *why != "ContainerCreating").map(str::to_owned).collect();
    let unscheduled = pod["status"]["conditions"].as_array().into_iter().flatten();
    let unscheduled = unscheduled
        .filter(|one| one["type"] == "PodScheduled" && one["status"] == "False")
        .filter_map(|one| one["message"].as_str().map(str::to_owned));
    let why: Vec<String> = why.into_iter().chain(unscheduled).collect();
    (!why.is_empty()).then(|| format!("pod {}/{}: {}", namespace(pod), name(pod), why.join(", ")))
}
