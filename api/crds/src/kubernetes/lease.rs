//! Leadership by a Lease: of several replicas one writes.

use std::time::Duration;

use ambit_process::spawn::spawn;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a lease holds without being renewed.
const HOLDS: Duration = Duration::from_secs(15);
const _: () = assert!(STEP_BACK.as_secs() + 2 * RENEW.as_secs() < HOLDS.as_secs());
/// Between two looks at it by its holder, and the longest that one may take.
const RENEW: Duration = Duration::from_secs(3);
/// Between two looks of those who wait for it.
const WATCH: Duration = Duration::from_secs(1);
/// A leader that could not renew for so long steps back at its next look: before [`HOLDS`], when another may take over.
const STEP_BACK: Duration = Duration::from_secs(8);

/// A lease to lead by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: unique among the replicas, for example the pod's name.
    pub me: String,
}

/// What is to be done about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// There is none: make it.
    Make,
    /// It is ours: renew it.
    Renew,
    /// Its holder is gone: take it.
    Take,
    /// It is somebody else's.
    Wait,
}

/// A lease as it was first seen in its present form, by our own clock: clocks of other machines are not trusted.
#[derive(Debug)]
struct Sighting {
    spec: LeaseSpec,
    since: Instant,
}

/// A part in the choice of a leader. Dropped, it ends as by [`Candidacy::withdraw`], which waits for that.
pub struct Candidacy {
    /// Whether this process leads.
    pub leading: watch::Receiver<bool>,
    withdrawn: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Takes part in the choice of a leader. Must be called within a runtime.
pub fn lead(client: Client, terms: Terms) -> Candidacy {
    let (sender, leading) = watch::channel(false);
    let (withdrawn, until) = watch::channel(false);
    let task = spawn("leader lease", run(client, terms, sender, until));
    Candidacy { leading, withdrawn, task }
}

impl Candidacy {
    /// Leads no longer, and gives the lease back if it is ours, so that the next one need not wait for it to run out. Takes as long
    /// as a request to the API server, and never more than [`RENEW`] and the look that is under way.
    pub async fn withdraw(self) {
        self.withdrawn.send_replace(true);
        // A task that failed has nothing to give back.
        let _ = self.task.await;
    }
}

async fn run(client: Client, terms: Terms, leading: watch::Sender<bool>, mut until: watch::Receiver<bool>) {
    let leases: Api<Lease> = Api::namespaced(client, &terms.namespace);
    let mut sighting: Option<Sighting> = None;
    let mut renewed = Instant::now();
    let mut is_cut_off = false;
    loop {
        // Whoever watches the lease counts from its renewal, which is after this.
        let began = Instant::now();
        match tokio::time::timeout(RENEW, attempt(&leases, &terms, &mut sighting)).await {
            Ok(Ok(held)) => {
                if held {
                    renewed = began;
                }
                set(&leading, held, &terms);
                is_cut_off = false;
            }
            // Said once for as long as it lasts.
            _ if is_cut_off => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = terms.name, %error, "cannot hold the lease");
                is_cut_off = true;
            }
            Err(_) => {
                tracing::warn!(lease = terms.name, "the API server does not answer about the lease");
                is_cut_off = true;
            }
        }
        if renewed.elapsed() >= STEP_BACK {
            set(&leading, false, &terms);
        }
        let look = if *leading.borrow() { RENEW } else { WATCH };
        tokio::select! {
            () = leading.closed() => {}
            _ = until.wait_for(|withdrawn| *withdrawn) => {}
            () = tokio::time::sleep(look) => continue,
        }
        let led = *leading.borrow();
        set(&leading, false, &terms);
        if led {
            release(&leases, &terms).await;
        }
        return;
    }
}

fn set(leading: &watch::Sender<bool>, now: bool, terms: &Terms) {
    let changed = leading.send_if_modified(|before| std::mem::replace(before, now) != now);
    if changed {
        tracing::info!(lease = terms.name, me = terms.me, leading = now, "leadership changed");
    }
}

/// One look at the lease; whether it is ours afterwards.
async fn attempt(leases: &Api<Lease>, terms: &Terms, sighting: &mut Option<Sighting>) -> kube::Result<bool> {
    let held = leases.get_opt(&terms.name).await?;
    let spec = held.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
    let unseen_for = match (&spec, sighting.as_ref()) {
        (Some(spec), Some(seen)) if seen.spec == *spec => seen.since.elapsed(),
        _ => Duration::ZERO,
    };
    if let Some(spec) = &spec
        && sighting.as_ref().is_none_or(|seen| seen.spec != *spec)
    {
        *sighting = Some(Sighting { spec: spec.clone(), since: Instant::now() });
    }
    let step = decide(spec.as_ref(), &terms.me, unseen_for);
    let wanted = signed(spec, &terms.me);
    let written = match (step, held) {
        (Step::Wait, _) => return Ok(false),
        (_, Some(mut lease)) => {
            lease.spec = Some(wanted);
            // It carries the version we read: of two who write, one is refused.
            leases.replace(&terms.name, &PostParams::default(), &lease).await
        }
        (_, None) => {
            let metadata = ObjectMeta { name: Some(terms.name.clone()), ..ObjectMeta::default() };
            leases.create(&PostParams::default(), &Lease { metadata, spec: Some(wanted) }).await
        }
    };
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is to be done about a lease that has not changed for some time.
fn decide(spec: Option<&LeaseSpec>, me: &str, unseen_for: Duration) -> Step {
    let Some(spec) = spec else {
        return Step::Make;
    };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let holds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let holds = holds.map_or(HOLDS, Duration::from_secs);
    if holder == me {
        Step::Renew
    } else if holder.is_empty() || unseen_for > holds {
        Step::Take
    } else {
        Step::Wait
    }
}

/// The lease with our name on it, as of now.
fn signed(before: Option<LeaseSpec>, me: &str) -> LeaseSpec {
    let now = Some(MicroTime(Timestamp::now()));
    let before = before.unwrap_or_default();
    let is_ours = before.holder_identity.as_deref() == Some(me);
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
        acquire_time: before.acquire_time.clone().filter(|_| is_ours).or_else(|| now.clone()),
        renew_time: now,
        lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!is_ours)),
        ..before
    }
}

/// Gives the lease back, so that the next one need not wait.
async fn release(leases: &Api<Lease>, terms: &Terms) {
    let give = async {
        let Some(mut lease) = leases.get_opt(&terms.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&terms.me) {
            spec.holder_identity = Some(String::new());
            leases.replace(&terms.name, &PostParams::default(), &lease).await?;
        }
        Ok::<(), kube::Error>(())
    };
    // Whoever comes next waits a little longer if this fails.
    let _ = tokio::time::timeout(RENEW, give).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_or_forsaken() {
        let spec = |holder: &str, seconds| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        let seconds = Duration::from_secs;
        let table = [
            (None, 0, Step::Make),
            (Some(LeaseSpec::default()), 0, Step::Take),
            (Some(spec("", Some(15))), 0, Step::Take),
            (Some(spec("me", Some(15))), 0, Step::Renew),
            (Some(spec("me", Some(15))), 100, Step::Renew),
            (Some(spec("other", Some(15))), 15, Step::Wait),
            (Some(spec("other", Some(15))), 16, Step::Take),
            (Some(spec("other", Some(60))), 59, Step::Wait),
            (Some(spec("other", None)), 14, Step::Wait),
            (Some(spec("other", None)), 16, Step::Take),
        ];
        for (spec, unseen, expected) in table {
            assert_eq!(decide(spec.as_ref(), "me", seconds(unseen)), expected, "{spec:?} for {unseen} s");
        }
    }

    #[test]
    fn a_lease_that_changes_hands_counts_it() {
        let first = signed(None, "a");
        assert_eq!((first.holder_identity.as_deref(), first.lease_transitions), (Some("a"), Some(1)));
        let again = signed(Some(first.clone()), "a");
        assert_eq!((again.acquire_time, again.lease_transitions), (first.acquire_time.clone(), Some(1)));
        let next = signed(Some(first.clone()), "b");
        assert_eq!(next.lease_transitions, Some(2));
        assert!(next.acquire_time >= first.acquire_time);
    }
}
