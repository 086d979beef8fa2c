//! What one proxy must be told to get from what it holds to a snapshot, in steps.
//!
//! What is new or changed goes out in the order of [`Kind`], then what is gone in the opposite order. Each step waits for
//! the proxy's answer to the one before, so a workload never arrives before the policies that protect it, and a policy
//! never goes before the workloads that name it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::{Audience, Kind};
use crate::snapshot::{Resource, Resources, Snapshot};

/// Most resources in one response.
pub const MAX_RESOURCES: usize = 2_000;

/// A response is closed when it has grown to this.
pub const MAX_BYTES: usize = 1 << 20;

/// The resources that a stream asks for, of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Everything, or only the names.
    pub scope: Scope,
    /// Names (or aliases) asked for one by one.
    pub names: BTreeSet<String>,
    /// Those of them that wait for an answer, even if nothing changed or nothing is there.
    pub fresh: BTreeSet<String>,
}

/// Whether a stream wants everything of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Wildcard,
    /// By name.
    Named,
}

/// What a proxy holds of one kind.
#[derive(Clone, Debug)]
pub enum Known {
    /// What it said when it connected: names and versions.
    Claimed(BTreeMap<String, String>),
    /// What we sent. Shares its structure with snapshots, so a proxy costs next to nothing and a comparison only what
    /// changed.
    Sent(Resources),
}

/// One response, without its nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which kind.
    pub kind: Kind,
    /// New, changed or asked for.
    pub resources: Vec<Arc<Resource>>,
    /// Gone.
    pub removed: Vec<String>,
}

/// The way from here to there.
#[derive(Debug)]
pub struct Pass {
    /// Where it leads.
    pub snapshot: Arc<Snapshot>,
    chunks: VecDeque<Chunk>,
    targets: Vec<(Kind, Resources)>,
}

impl Default for Subscription {
    fn default() -> Self {
        Self { scope: Scope::Named, names: BTreeSet::new(), fresh: BTreeSet::new() }
    }
}

impl Default for Known {
    fn default() -> Self {
        Self::Sent(Resources::new())
    }
}

impl Pass {
    /// Compares. `first`: kinds that were never answered get a response even if it is empty, since a proxy becomes ready
    /// by it.
    pub fn plan(
        audience: &Audience,
        snapshot: Arc<Snapshot>,
        subscriptions: &BTreeMap<Kind, Subscription>,
        known: &BTreeMap<Kind, Known>,
        first: &BTreeSet<Kind>,
    ) -> Self {
        let mut pass = Self { snapshot: snapshot.clone(), chunks: VecDeque::new(), targets: Vec::new() };
        let nothing = Known::default();
        let mut removals = Vec::new();
        for (kind, subscription) in subscriptions {
            let Some(all) = audience.resources(*kind, &snapshot) else {
                continue;
            };
            let (target, unknown) = subscription.target(all);
            let mut difference = compare(known.get(kind).unwrap_or(&nothing), &target);
            // What is only unsubscribed is still there: telling the proxy that it is gone would be wrong.
            difference.removed.retain(|name| !all.contains_key(name.as_str()));
            difference.removed.extend(unknown);
            for name in &subscription.fresh {
                if let Some(resource) = target.values().find(|resource| answers(resource, name))
                    && !difference.upserts.iter().any(|sent| sent.name == resource.name)
                {
                    difference.upserts.push(resource.clone());
                }
            }
            // Removals begin where additions end, so those of the last kind travel with its additions.
            let turn = subscriptions.keys().next_back() == Some(kind);
            let (with, after) =
                if turn { (difference.removed, Vec::new()) } else { (Vec::new(), difference.removed) };
            removals.push(chunks(*kind, Vec::new(), after));
            let mut step = chunks(*kind, difference.upserts, with);
            if step.is_empty() && first.contains(kind) {
                step.push(Chunk { kind: *kind, resources: Vec::new(), removed: Vec::new() });
            }
            pass.chunks.extend(step);
            pass.targets.push((*kind, target));
        }
        pass.chunks.extend(removals.into_iter().rev().flatten());
        pass
    }

    /// The next response; the one before must have been answered.
    pub fn take_next(&mut self) -> Option<Chunk> {
        self.chunks.pop_front()
    }

    /// What the proxy holds now that the last response was answered.
    pub fn finish(self) -> impl Iterator<Item = (Kind, Known)> {
        self.targets.into_iter().map(|(kind, target)| (kind, Known::Sent(target)))
    }
}

impl Subscription {
    /// What the stream should hold, and the names it waits for that are not there. A wildcard shares the snapshot.
    fn target(&self, all: &Resources) -> (Resources, Vec<String>) {
        let missing = |found: &dyn Fn(&str) -> bool| {
            self.fresh.iter().filter(|name| !found(name)).cloned().collect::<Vec<String>>()
        };
        if self.scope == Scope::Wildcard {
            let unknown =
                missing(&|name| all.contains_key(name) || all.values().any(|one| answers(one, name)));
            return (all.clone(), unknown);
        }
        if self.names.is_empty() {
            return (Resources::new(), Vec::new());
        }
        let mut by_alias: HashMap<&str, Vec<&Arc<Resource>>> = HashMap::new();
        for resource in all.values() {
            for alias in &resource.aliases {
                by_alias.entry(alias).or_default().push(resource);
            }
        }
        let find = |name: &str| -> Vec<&Arc<Resource>> {
            all.get(name).into_iter().chain(by_alias.get(name).into_iter().flatten().copied()).collect()
        };
        let target = self.names.iter().flat_map(|name| find(name));
        let target = target.map(|resource| (resource.name.clone(), resource.clone())).collect();
        (target, missing(&|name| !find(name).is_empty()))
    }
}

fn answers(resource: &Resource, name: &str) -> bool {
    *resource.name == *name || resource.aliases.iter().any(|alias| alias == name)
}

#[derive(Default)]
struct Difference {
    upserts: Vec<Arc<Resource>>,
    removed: Vec<String>,
}

fn compare(known: &Known, target: &Resources) -> Difference {
    let mut difference = Difference::default();
    match known {
        Known::Claimed(versions) => {
            difference.upserts = target
                .values()
                .filter(|resource| {
                    versions.get(&*resource.name).is_none_or(|held| **held != *resource.version)
                })
                .cloned()
                .collect();
            difference.removed =
                versions.keys().filter(|name| !target.contains_key(name.as_str())).cloned().collect();
        }
        Known::Sent(sent) => {
            for item in sent.diff(target) {
                match item {
                    imbl::ordmap::DiffItem::Add(_, new) => difference.upserts.push(new.clone()),
                    imbl::ordmap::DiffItem::Update { old, new } => {
                        if old.1.version != new.1.version {
                            difference.upserts.push(new.1.clone());
                        }
                    }
                    imbl::ordmap::DiffItem::Remove(name, _) => difference.removed.push(name.to_string()),
                }
            }
        }
    }
    difference
}

/// Cuts a step into responses of bounded size. Removals travel with the last.
fn chunks(kind: Kind, upserts: Vec<Arc<Resource>>, removed: Vec<String>) -> Vec<Chunk> {
    let empty = || Chunk { kind, resources: Vec::new(), removed: Vec::new() };
    let (mut done, mut open, mut bytes) = (Vec::new(), empty(), 0);
    for resource in upserts {
        let size = size(&resource);
        if !open.resources.is_empty() && (open.resources.len() >= MAX_RESOURCES || bytes + size > MAX_BYTES) {
            done.push(std::mem::replace(&mut open, empty()));
            bytes = 0;
        }
        bytes += size;
        open.resources.push(resource);
    }
    for name in removed {
        let size = name.len() + 4;
        if open.removed.len() >= MAX_RESOURCES || (bytes > 0 && bytes + size > MAX_BYTES) {
            done.push(std::mem::replace(&mut open, empty()));
            bytes = 0;
        }
        bytes += size;
        open.removed.push(name);
    }
    if !open.resources.is_empty() || !open.removed.is_empty() {
        done.push(open);
    }
    done
}

/// About what a resource takes on the wire.
fn size(resource: &Resource) -> usize {
    let aliases: usize = resource.aliases.iter().map(|alias| alias.len() + 4).sum();
    resource.name.len() + resource.version.len() + resource.body.len() + aliases + 80
}
