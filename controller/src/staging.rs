//! The order of a change that concerns waypoints (policy.md rule 15): a pure stage between translation and streams.
//!
//! Where a waypoint comes before a Service or a workload, or goes, that [`Move`] is told in steps, each acknowledged before
//! the next: the waypoints → Authorizations → Workloads → the binding itself → after a while, what the old waypoint no longer
//! needs. Only the resources that the move concerns are held back; everything else passes at once.
//!
//! A waypoint that goes has still requests to answer when the last ztunnel has heard of it: they were under way, or come on
//! connections through it that their clients keep. It asks those clients to connect anew as soon as the binding no longer
//! names it, and for [`LINGER`] it holds what it held, and pods let it in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imbl::ordmap::DiffItem;
use tokio::sync::watch;

use crate::snapshot::{Resource, Resources, Snapshot, WaypointResources};
use crate::xds::syncz::{Proxies, Slowest};

mod binding;
mod leaving;

use binding::Binding;
use leaving::Leaving;

/// Nobody is waited for longer than this at one step.
pub const STEP_WITHIN: Duration = Duration::from_secs(10);

/// How long a waypoint serves what it no longer stands before. Requests that last longer are cut when it has passed: from
/// then on nobody tells the waypoint by which policies to judge them.
pub const LINGER: Duration = Duration::from_secs(10);

/// What is told, and what is yet to be.
#[derive(Debug, Default)]
pub struct Staging {
    target: Arc<Snapshot>,
    told: Arc<Snapshot>,
    moves: BTreeMap<Arc<str>, Move>,
    news: News,
}

/// A change of the waypoints before one Service or workload.
#[derive(Debug)]
struct Move {
    namespace: String,
    from: BTreeSet<Arc<str>>,
    to: BTreeSet<Arc<str>>,
    phase: Phase,
    /// The publication whose acknowledgement ends the phase.
    since: u64,
    until: Instant,
    /// Authorizations that change because of it.
    authorizations: BTreeSet<Arc<str>>,
    /// Workloads that name one of these.
    workloads: BTreeSet<Arc<str>>,
    /// How `from` stays permitted meanwhile.
    leaving: Leaving,
}

/// Whose acknowledgement a move waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The new waypoints hold T and S.
    Waypoints,
    /// Ztunnels have new and changed Authorizations.
    Authorizations,
    /// Ztunnels have the Workloads, and have forgotten Authorizations that none names.
    Workloads,
    /// Ztunnels have the binding.
    Binding,
    /// The old waypoints have served what was under way. Nobody answers this.
    Linger,
}

/// Whether the target has something that was not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum News {
    #[default]
    None,
    Some,
}

/// Tells `told` what comes from `targets`, in order, until the translation ends.
pub async fn run(
    mut targets: watch::Receiver<Arc<Snapshot>>,
    told: watch::Sender<Arc<Snapshot>>,
    proxies: Proxies,
) {
    let mut staging = Staging::default();
    let mut answers = proxies.changes();
    staging.take(targets.borrow_and_update().clone(), Instant::now());
    loop {
        if let Some(snapshot) = staging.advance(&proxies.slowest(), Instant::now()) {
            told.send_replace(snapshot);
        }
        let wake_at = staging.wake_at();
        tokio::select! {
            changed = targets.changed() => match changed {
                Ok(()) => staging.take(targets.borrow_and_update().clone(), Instant::now()),
                Err(_) => return,
            },
            // Without a move nobody's answer matters. The sender lives in `proxies`, so there is no error.
            _ = answers.changed(), if wake_at.is_some() => {}
            () = until(wake_at) => {}
        }
    }
}

async fn until(wake_at: Option<Instant>) {
    match wake_at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Staging {
    /// There is a newer translation. The first is told as it is: whoever connects hears policies first anyway.
    pub fn take(&mut self, target: Arc<Snapshot>, now: Instant) {
        let first = self.target.generation == 0;
        self.target = target;
        self.news = News::Some;
        if !first {
            self.look(now);
        }
    }

    /// When to come back at the latest.
    pub fn wake_at(&self) -> Option<Instant> {
        self.moves.values().map(|one| one.until).min()
    }

    /// Takes all steps that may be taken; what is to be told then, if that changed.
    pub fn advance(&mut self, slowest: &Slowest, now: Instant) -> Option<Arc<Snapshot>> {
        let mut changed = std::mem::take(&mut self.news) == News::Some;
        if changed {
            self.publish();
        }
        while self.step(slowest, now) {
            self.publish();
            changed = true;
        }
        changed.then(|| self.told.clone())
    }

    /// Lets every move whose wait is over go on; whether one did.
    fn step(&mut self, slowest: &Slowest, now: Instant) -> bool {
        let next = self.told.step + 1;
        let mut stepped = false;
        self.moves.retain(|_, one| {
            if !one.waited(slowest, now) {
                return true;
            }
            stepped = true;
            let Some(phase) = one.next() else { return false };
            let within = if phase == Phase::Linger { LINGER } else { STEP_WITHIN };
            (one.phase, one.since, one.until) = (phase, next, now + within);
            true
        });
        stepped
    }

    /// Finds moves that begin, change or are taken back, and what they concern.
    fn look(&mut self, now: Instant) {
        let mut differing = BTreeSet::new();
        for item in self.told.addresses.diff(&self.target.addresses) {
            let (name, old, new) = sides(item);
            let (before, after) = (Binding::of(old), Binding::of(new));
            if before.waypoints == after.waypoints {
                continue;
            }
            differing.insert(name.clone());
            let to: BTreeSet<_> = after.waypoints.difference(&before.waypoints).cloned().collect();
            let mut from: BTreeSet<_> = before.waypoints.difference(&after.waypoints).cloned().collect();
            match self.moves.get_mut(name) {
                Some(known) if known.phase < Phase::Binding && known.to == to => continue,
                // One that lingers may be the one that comes back.
                Some(known) => from.extend(known.from.difference(&after.waypoints).cloned()),
                None => {}
            }
            let namespace = if new.is_some() { after.namespace } else { before.namespace };
            let since = self.told.step + 1;
            let begun = Move::new(namespace, from, to, (since, now + STEP_WITHIN));
            self.moves.insert(name.clone(), begun);
        }
        // Taken back before it was told.
        self.moves.retain(|name, one| one.phase >= Phase::Binding || differing.contains(name));
        let Self { target, told, moves, .. } = self;
        for one in moves.values_mut().filter(|one| one.phase == Phase::Waypoints) {
            one.concern(told, target);
        }
    }

    /// Tells the target but for what is held back. Its generation counts as told only without that; what merely lingers is
    /// in nobody's way.
    fn publish(&mut self) {
        let mut next = Snapshot::clone(&self.target);
        next.step = self.told.step + 1;
        if self.moves.values().any(|one| one.phase < Phase::Linger) {
            next.generation = self.told.generation;
        }
        for (name, one) in &self.moves {
            one.hold_back(name, &self.told, &mut next);
        }
        self.told = Arc::new(next);
    }
}

impl Move {
    fn new(
        namespace: String,
        from: BTreeSet<Arc<str>>,
        to: BTreeSet<Arc<str>>,
        (since, until): (u64, Instant),
    ) -> Self {
        let (authorizations, workloads) = (BTreeSet::new(), BTreeSet::new());
        let (phase, leaving) = (Phase::Waypoints, Leaving::default());
        Self { namespace, from, to, phase, since, until, authorizations, workloads, leaving }
    }

    /// What follows, without the steps that have nothing to tell.
    fn next(&self) -> Option<Phase> {
        match self.phase {
            Phase::Waypoints if !self.authorizations.is_empty() || !self.leaving.is_empty() => {
                Some(Phase::Authorizations)
            }
            Phase::Waypoints | Phase::Authorizations if !self.workloads.is_empty() => Some(Phase::Workloads),
            Phase::Waypoints | Phase::Authorizations | Phase::Workloads => Some(Phase::Binding),
            Phase::Binding if !self.from.is_empty() => Some(Phase::Linger),
            Phase::Binding | Phase::Linger => None,
        }
    }

    fn waited(&self, slowest: &Slowest, now: Instant) -> bool {
        let answered = |step: Option<u64>| step.is_none_or(|step| step >= self.since);
        now >= self.until
            || match self.phase {
                Phase::Waypoints => {
                    self.to.iter().all(|gateway| answered(slowest.waypoints.get(&**gateway).copied()))
                }
                Phase::Authorizations | Phase::Workloads | Phase::Binding => answered(slowest.ztunnel),
                Phase::Linger => false,
            }
    }

    /// An Authorization of its namespace changes because of it when it names its waypoints more often or less often than
    /// before; a Workload does when it names such an Authorization, or no longer names one that lets in whom it leaves.
    fn concern(&mut self, told: &Snapshot, target: &Snapshot) {
        let find = |gateway: &Arc<str>| target.waypoints.get(gateway).or_else(|| told.waypoints.get(gateway));
        let suffixes = |gateways: &BTreeSet<Arc<str>>| -> Vec<String> {
            gateways.iter().filter_map(find).map(|own| principal(own)).collect()
        };
        let (from, all) = (suffixes(&self.from), suffixes(&self.from.union(&self.to).cloned().collect()));
        let prefix = format!("{}/", self.namespace);
        for item in told.authorizations.diff(&target.authorizations) {
            let (name, old, new) = sides(item);
            if name.starts_with(&prefix) && mentions(old, &all) != mentions(new, &all) {
                self.authorizations.insert(name.clone());
                self.leaving.lose(&from, old, new);
            }
        }
        for item in told.addresses.diff(&target.addresses) {
            let (name, old, new) = sides(item);
            let (before, after) = (Binding::of(old), Binding::of(new));
            if new.is_none() || before.namespace != self.namespace {
                continue;
            }
            for policy in before.policies.difference(&after.policies) {
                let loses = self.leaving.lose(&from, told.authorizations.get(policy.as_str()), None);
                if loses {
                    self.workloads.insert(name.clone());
                }
            }
            let mut turned = before.policies.symmetric_difference(&after.policies);
            if turned.any(|policy| self.authorizations.contains(&**policy)) {
                self.workloads.insert(name.clone());
            }
        }
    }

    fn hold_back(&self, name: &Arc<str>, told: &Snapshot, next: &mut Snapshot) {
        for name in self.authorizations.iter().filter(|_| self.phase < Phase::Workloads) {
            // A policy that comes or changes is told with its step; one that goes is kept for the Workloads that name it.
            if self.phase == Phase::Waypoints || !next.authorizations.contains_key(name) {
                keep(name, &told.authorizations, &mut next.authorizations);
            }
        }
        if self.phase > Phase::Waypoints {
            self.leaving.stay(&mut next.authorizations);
        }
        for name in self.workloads.iter().filter(|_| self.phase < Phase::Workloads) {
            keep(name, &told.addresses, &mut next.addresses);
        }
        if self.phase < Phase::Binding {
            keep(name, &told.addresses, &mut next.addresses);
        }
        for gateway in &self.from {
            if let (Some(old), Some(new)) = (told.waypoints.get(gateway), next.waypoints.get(gateway)) {
                let both = Arc::new(with_removed(old, new));
                next.waypoints.insert(gateway.clone(), both);
            }
        }
    }
}

/// What a waypoint is told next, and what it would lose by it.
fn with_removed(old: &WaypointResources, new: &WaypointResources) -> WaypointResources {
    let both = |old: &Resources, new: &Resources| {
        let mut both = new.clone();
        for item in old.diff(new) {
            if let DiffItem::Remove(name, resource) = item {
                both.insert(name.clone(), resource.clone());
            }
        }
        both
    };
    WaypointResources {
        account: new.account.clone(),
        gateway: new.gateway.clone(),
        services: both(&old.services, &new.services),
        destinations: both(&old.destinations, &new.destinations),
        workloads: both(&old.workloads, &new.workloads),
        policies: both(&old.policies, &new.policies),
    }
}

/// Leaves a resource as it was told.
fn keep(name: &Arc<str>, told: &Resources, next: &mut Resources) {
    match told.get(name) {
        Some(old) => next.insert(name.clone(), old.clone()),
        None => next.remove(name),
    };
}

/// As a waypoint's identity stands in a principal, after the trust domain.
fn principal(own: &WaypointResources) -> String {
    format!("/ns/{}/sa/{}", own.account.namespace, own.account.name)
}

/// How often an encoded message contains each of the texts. Strings stand in it as they are.
fn mentions(resource: Option<&Arc<Resource>>, texts: &[String]) -> Vec<usize> {
    let body = resource.map(|resource| &resource.body[..]).unwrap_or_default();
    let count = |text: &String| body.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
    texts.iter().map(count).collect()
}

type Sides<'a> = (&'a Arc<str>, Option<&'a Arc<Resource>>, Option<&'a Arc<Resource>>);

fn sides<'a>(item: DiffItem<'a, 'a, Arc<str>, Arc<Resource>>) -> Sides<'a> {
    match item {
        DiffItem::Add(name, new) => (name, None, Some(new)),
        DiffItem::Update { old, new } => (new.0, Some(old.1), Some(new.1)),
        DiffItem::Remove(name, old) => (name, Some(old), None),
    }
}

#[cfg(test)]
mod tests;
