//! The API server away under load: traffic goes on, what is denied stays denied, certificates that come to half of their
//! life meanwhile are renewed afterwards, and so does a change arrive that is made then.

use std::time::{Duration, Instant};

use ambit_lab::cluster::{Cluster, SYSTEM, eventually};
use ambit_lab::load::Outcome;
use libtest_mimic::Failed;

use crate::mesh::{AMBIENT, READY, Space, all_good, installed, is_long};
use crate::support::{Check, check};

/// Seconds without the API server, and seconds that certificates live: half of that lies within the outage, all of it does not.
const SHORT: (u64, u64) = (30, 75);
const LONG: (u64, u64) = (120, 300);
/// Seconds that loads go on before and after.
const AROUND: u64 = 25;
/// Requests that must be denied, at least.
const DENIED: u64 = 1_000;
/// Longest time until the API server answers again.
const BACK: Duration = Duration::from_secs(90);
/// The server's own program on the first node.
const SERVER: &str = "node1/kube-apiserver";

/// One server, one account that may and one that may not.
const MANIFESTS: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: friend}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: stranger}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: 'ambit/echo:0.1', args: [--port=8080, --text=an answer], readinessProbe: {httpGet: {path: /readyz, port: 8080}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/outage/sa/friend]}}]
";
/// Somebody to ask once.
const CALLER: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: friend}, spec: {serviceAccountName: friend, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: stranger}, spec: {serviceAccountName: stranger, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
";
/// What is changed afterwards: nobody may any more.
const CLOSED: &str = "
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: closed, namespace: outage}, spec: {action: DENY, rules: [{}]}}
";

/// ztunnels with certificates of a short life, and as they were when this is dropped.
struct ShortLives<'a>(&'a Cluster);

impl<'a> ShortLives<'a> {
    fn of(cluster: &'a Cluster, seconds: u64) -> Result<Self, Failed> {
        let lives = Self(cluster);
        lives.set(&format!("SECRET_TTL={seconds}s"))?;
        Ok(lives)
    }

    fn set(&self, variable: &str) -> Check {
        self.0.must(&["set", "env", "-n", SYSTEM, "daemonset/ztunnel", variable])?;
        self.0.must(&["rollout", "status", "-n", SYSTEM, "daemonset/ztunnel", "--timeout=120s"])?;
        Ok(())
    }
}

impl Drop for ShortLives<'_> {
    fn drop(&mut self) {
        let _as_before = self.set("SECRET_TTL-");
    }
}

/// The cluster without its API server, and with it again when this is dropped.
struct Away<'a>(&'a Cluster);

impl<'a> Away<'a> {
    fn begin(cluster: &'a Cluster) -> Result<Self, Failed> {
        cluster.keeper(&["stop", SERVER, "--kill"])?;
        let away = Self(cluster);
        let said = cluster.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"])?;
        check(!said.well(), || "the API server answers although it was stopped".to_owned())?;
        Ok(away)
    }

    fn end(self) -> Check {
        let cluster = self.0;
        drop(self);
        Ok(eventually("the API server again", BACK, || {
            let said = cluster.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"]);
            let said = said.map_err(|error| error.to_string())?;
            if said.well() { Ok(()) } else { Err(said.all()) }
        })?)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let _started = self.0.keeper(&["start", SERVER]);
    }
}

pub(crate) fn outage(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let (away, life) = if is_long() { LONG } else { SHORT };
    let space = Space::new(cluster, "outage", AMBIENT)?;
    space.apply(MANIFESTS)?;
    space.apply(CALLER)?;
    let lives = ShortLives::of(cluster, life)?;
    space.ready()?;
    space.comes_to("friend", &["web"], 200)?;
    space.comes_to("stranger", &["web"], 0)?;
    let span = AROUND + away + AROUND;
    let seconds = format!("--seconds={span}");
    let denied = DENIED.div_ceil(away) + 5;
    let rate = format!("--rate={denied}");
    let words = ["--url=http://web/", &seconds, "--connections=4", "--new", "--expect=an answer"];
    let began = Instant::now();
    let allowed = space.load("allowed", "friend", &[&words[..], &["--rate=40"]].concat())?;
    let refused = space.load("refused", "stranger", &[&words[..], &[&rate]].concat())?;
    let without = Away::begin(cluster)?;
    let stopped = Instant::now();
    // This is the outage; nothing else tells when it has lasted long enough.
    std::thread::sleep(Duration::from_secs(away));
    without.end()?;
    println!("without the API server for {:.0?}, from {:.0?} on", stopped.elapsed(), stopped - began);
    allowed.still_runs()?;
    let limit = READY + Duration::from_secs(span);
    all_good("who may", &allowed.outcome(limit)?)?;
    all_refused("who may not", &refused.outcome(limit)?, DENIED)?;
    // Their certificates would have ended by now, had they not been renewed.
    space.comes_to("friend", &["web"], 200)?;
    cluster.apply(CLOSED)?;
    space.comes_to("friend", &["web"], 0)?;
    drop(lives);
    Ok(())
}

/// No request of this load got through, and it made this many.
fn all_refused(what: &str, outcome: &Outcome, least: u64) -> Check {
    check(outcome.good == 0 && outcome.sent >= least, || format!("{what}: {outcome:?}"))
}
