//! What every trial needs: the mesh installed, a namespace of its own, and loads that come from pods.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ambit_lab::Said;
use ambit_lab::cluster::{Cluster, SYSTEM, eventually};
use ambit_lab::load::Outcome;
use libtest_mimic::Failed;
use serde_json::Value;

use crate::support::{Check, check};

/// Longest time until pods are ready: a waypoint, or a Deployment of a trial.
pub(crate) const READY: Duration = Duration::from_secs(120);
/// Longest time until a change has arrived everywhere.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// What puts a namespace into the mesh.
pub(crate) const AMBIENT: &str = "istio.io/dataplane-mode: ambient";

/// Requests a second of a load that must not fail: as many as two processors carry beside everything else, and fewer
/// where programs are not optimised.
pub(crate) const RATE: f64 = if cfg!(debug_assertions) { 60.0 } else { 500.0 };

/// Whether what takes its time has it.
pub(crate) fn is_long() -> bool {
    std::env::var_os("AMBIT_LONG").is_some()
}

/// Runs `ambit` on the cluster, however it ends.
pub(crate) fn ambit(cluster: &Cluster, words: &[&str]) -> Result<Said, Failed> {
    let program = Path::new(env!("CARGO_BIN_EXE_ambit-lab")).with_file_name("ambit");
    let mut command = Command::new(program);
    command.args(words).args(cluster.kubeconfig().map(|file| format!("--kubeconfig={}", file.display())));
    Ok(command.output()?.into())
}

/// Installs Ambit as people do, unless that is done; what the command said.
pub(crate) fn install(cluster: &Cluster) -> Result<String, Failed> {
    let definitions = std::env::var_os("AMBIT_GATEWAY_API").map(|file| file.to_string_lossy().into_owned());
    let mut words = vec!["install", "--profile", "demo", "--set", "image.pullPolicy=IfNotPresent"];
    words.extend(definitions.iter().flat_map(|file| ["--gateway-api", file.as_str()]));
    let said = ambit(cluster, &words)?;
    check(said.well(), || format!("ambit {}: {}", words.join(" "), said.all()))?;
    Ok(said.out)
}

/// Makes sure that Ambit is installed and ready.
pub(crate) fn installed(cluster: &Cluster) -> Check {
    let words = ["get", "deployment", "-n", SYSTEM, "ambit-controller", "--ignore-not-found", "-o", "name"];
    if cluster.must(&words)?.trim().is_empty() {
        install(cluster)?;
    }
    Ok(cluster.ready(SYSTEM, READY)?)
}

/// A namespace that goes with its trial.
pub(crate) struct Space<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) name: &'static str,
}

impl<'a> Space<'a> {
    /// Makes it, with labels as YAML writes them.
    pub(crate) fn new(cluster: &'a Cluster, name: &'static str, labels: &str) -> Result<Self, Failed> {
        // One that a run before has left may be on its way out.
        let words = ["delete", "namespace", name, "--ignore-not-found", "--timeout=120s"];
        cluster.must(&words)?;
        let labels =
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}");
        cluster.apply(&labels)?;
        Ok(Space { cluster, name })
    }

    /// Applies manifests, in this namespace where they name none.
    pub(crate) fn apply(&self, yaml: &str) -> Check {
        let said = self.cluster.fed(&["apply", "-n", self.name, "-f", "-"], yaml)?;
        check(said.well(), || format!("{yaml}: {}", said.all()))
    }

    pub(crate) fn ready(&self) -> Check {
        Ok(self.cluster.ready(self.name, READY)?)
    }

    /// Runs kubectl in this namespace, which must succeed.
    pub(crate) fn must(&self, words: &[&str]) -> Result<String, Failed> {
        Ok(self.cluster.must(&[&["-n", self.name], words].concat())?)
    }

    /// One object of this namespace.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Result<Value, Failed> {
        Ok(self.cluster.get(&["-n", self.name, kind, name])?)
    }

    /// Runs a command in one of its pods, however it ends.
    pub(crate) fn exec(&self, pod: &str, words: &[&str]) -> Result<Said, Failed> {
        Ok(self.cluster.exec(self.name, pod, words)?)
    }

    /// The status that curl gets from a pod's call, 0 for none, and the body.
    pub(crate) fn curl(&self, pod: &str, words: &[&str]) -> Result<(u16, String), Failed> {
        let start = ["curl", "-s", "-m", "5", "-w", "\n%{http_code}"];
        let said = self.exec(pod, &[&start, words].concat())?;
        let (body, status) = said.out.trim_end().rsplit_once('\n').unwrap_or(("", said.out.trim()));
        let status = status.parse().map_err(|_none| format!("curl {words:?}: {}", said.all()))?;
        Ok((status, body.to_owned()))
    }

    /// Calls until the status is this one.
    pub(crate) fn comes_to(&self, pod: &str, words: &[&str], status: u16) -> Check {
        let what = format!("{status} for {words:?} from {}/{pod}", self.name);
        Ok(eventually(&what, SOON, || match self.curl(pod, words) {
            Ok((got, _)) if got == status => Ok(()),
            Ok((got, body)) => Err(format!("{got} {body}")),
            Err(failed) => Err(format!("{failed:?}")),
        })?)
    }

    /// Starts a load from a pod of its own; `arguments` are those of `ambit-echo load`.
    pub(crate) fn load(
        &'a self,
        name: &'a str,
        account: &str,
        arguments: &[&str],
    ) -> Result<Loading<'a>, Failed> {
        let words: Vec<_> =
            ["load", "--json"].iter().chain(arguments).map(|word| format!("{word:?}")).collect();
        self.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: load}}}}, spec: {{serviceAccountName: {account}, restartPolicy: Never, \
             terminationGracePeriodSeconds: 1, containers: [{{name: load, image: 'ambit/echo:0.1', args: [{}]}}]}}}}",
            words.join(", ")
        ))?;
        let loading = Loading { space: self, name };
        eventually(&format!("start of the load {name}"), SOON, || match loading.phase() {
            Ok(phase) if phase == "Pending" => Err(phase),
            Ok(_) => Ok(()),
            Err(failed) => Err(format!("{failed:?}")),
        })?;
        Ok(loading)
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        // Nobody waits for it; the next one of this name does.
        let words = ["delete", "namespace", self.name, "--ignore-not-found", "--wait=false"];
        let _gone = self.cluster.kubectl(&words);
    }
}

/// A load that is under way.
pub(crate) struct Loading<'a> {
    space: &'a Space<'a>,
    name: &'a str,
}

impl Loading<'_> {
    fn phase(&self) -> Result<String, Failed> {
        self.space.must(&["get", "pod", self.name, "-o", "jsonpath={.status.phase}"])
    }

    /// Fails if it is over, since what happened meanwhile would not have been loaded.
    pub(crate) fn still_runs(&self) -> Check {
        let phase = self.phase()?;
        check(phase == "Running", || format!("the load {} is over too early: {phase}", self.name))
    }

    /// Waits until it is over.
    pub(crate) fn outcome(&self, limit: Duration) -> Result<Outcome, Failed> {
        eventually(&format!("end of the load {}", self.name), limit, || match self.phase() {
            Ok(phase) if phase == "Succeeded" || phase == "Failed" => Ok(()),
            Ok(phase) => Err(phase),
            // The API server may be away.
            Err(failed) => Err(format!("{failed:?}")),
        })?;
        let log = self.space.must(&["logs", self.name])?;
        let line = log.lines().rfind(|line| line.starts_with('{'));
        let line = line.ok_or_else(|| format!("the load {} says {log:?}", self.name))?;
        let outcome = serde_json::from_str(line)?;
        println!("{}/{}: {outcome:?}", self.space.name, self.name);
        Ok(outcome)
    }
}

/// No request of this load failed, and it made some.
pub(crate) fn all_good(what: &str, outcome: &Outcome) -> Check {
    check(outcome.failures() == 0 && outcome.good == outcome.sent && outcome.sent > 0, || {
        format!("{what}: {outcome:?}")
    })
}

/// The status of a condition of an object, its reason and its message.
pub(crate) fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}
