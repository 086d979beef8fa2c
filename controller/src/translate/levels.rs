//! Which PeerAuthentication counts: the oldest of each level, the narrower level first (apis §4.5).

use std::collections::BTreeMap;

use ambit_crds::kind::Kind;
use ambit_crds::meta::{Map, ObjectRef, selects};
use ambit_crds::object::{InvalidObject, Names as Named};
use ambit_crds::peer_authentication::{MtlsMode, PeerAuthentication};

use super::peer::{self, Asked, Effective, Outcome};
use crate::objects::{Key, Objects};

/// The PeerAuthentications of a mesh as one namespace's pods see them.
#[derive(Clone, Debug)]
pub(crate) struct Levels<'a> {
    objects: &'a Objects,
    root: &'a str,
    namespace: &'a str,
}

/// What a pod's PeerAuthentications come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The policy the pod lists.
    pub(crate) listed: Option<String>,
    /// PeerAuthentications whose selector matches.
    pub(crate) matched: Vec<Key>,
    /// The one of them that counts.
    pub(crate) won: Option<Key>,
}

impl<'a> Levels<'a> {
    pub(crate) fn new(objects: &'a Objects, root: &'a str, namespace: &'a str) -> Self {
        Self { objects, root, namespace }
    }

    /// The mode of the namespace, when no workload says otherwise.
    pub(crate) fn wider(&self) -> Effective {
        let mesh = peer::inherit(self.level(self.root), Effective::default());
        if self.namespace == self.root { mesh } else { peer::inherit(self.level(self.namespace), mesh) }
    }

    /// What the PeerAuthentications without a selector ask for; one that was never valid asks for STRICT.
    fn level(&self, namespace: &str) -> Asked {
        let closes = |one: &InvalidObject| one.object.namespace == namespace && selector(one).is_none();
        if self.objects.invalid(Kind::PeerAuthentication).any(closes) {
            return Some(Effective::Strict);
        }
        oldest(self.objects, namespace, Map::is_empty).and_then(|(_, one)| asked(one.spec.mode))
    }

    /// The one without a selector that counts in this namespace.
    pub(crate) fn winner(&self) -> Option<&'a Key> {
        oldest(self.objects, self.namespace, Map::is_empty).map(|(key, _)| key)
    }

    /// What counts for a pod with these labels.
    pub(crate) fn peer(&self, labels: &Map) -> Peer {
        let all = self.objects.within::<PeerAuthentication>(self.namespace);
        let matched = all.filter(|(_, one)| self.selects(&one.spec.selector, labels));
        let matched = matched.map(|(key, _)| key.clone()).collect();
        if self.closing(labels).next().is_some() {
            return Peer { listed: Some(self.shared()), matched, won: None };
        }
        let won = self.selected(labels);
        let own = |key: &Key| format!("{}/{}", key.namespace, peer::converted_name(&key.name));
        let listed = match self.outcome_of(won) {
            Outcome::Open => None,
            Outcome::Closed => Some(self.shared()),
            Outcome::ClosedExcept(_) | Outcome::OpenExcept(_) => won.map(|(key, _)| own(key)),
        };
        Peer { listed, matched, won: won.map(|(key, _)| key.clone()) }
    }

    /// What counts for a pod with these labels, and the objects that say so, the narrowest first.
    pub(crate) fn explained(&self, labels: &Map) -> (Outcome, Vec<ObjectRef>) {
        let closing: Vec<ObjectRef> = self.closing(labels).map(|one| one.object.clone()).collect();
        if !closing.is_empty() {
            return (Outcome::Closed, closing);
        }
        let won = self.selected(labels);
        let inherits = won.is_none_or(|(_, one)| asked(one.spec.mode).is_none());
        let wider = if inherits { self.wider_by() } else { None };
        let by = won.map(|(key, _)| reference(key)).into_iter().chain(wider);
        (self.outcome_of(won), by.collect())
    }

    /// Who says what the mode of the namespace is; nobody where nothing asks.
    fn wider_by(&self) -> Option<ObjectRef> {
        let says = |namespace: &str| {
            let mut invalid = self.objects.invalid(Kind::PeerAuthentication);
            let closes = invalid.find(|one| one.object.namespace == namespace && selector(one).is_none());
            let valid = || oldest(self.objects, namespace, Map::is_empty);
            let valid = || valid().filter(|(_, one)| asked(one.spec.mode).is_some());
            closes.map(|one| one.object.clone()).or_else(|| valid().map(|(key, _)| reference(key)))
        };
        says(self.namespace).or_else(|| says(self.root))
    }

    /// Those that were never valid and close a pod with these labels.
    fn closing(&self, labels: &Map) -> impl Iterator<Item = &'a InvalidObject> {
        let own = self.objects.invalid(Kind::PeerAuthentication);
        own.filter(move |one| {
            one.object.namespace == self.namespace
                && selector(one).is_some_and(|wanted| selects(wanted, labels))
        })
    }

    /// The one that selects a pod with these labels and counts.
    fn selected(&self, labels: &Map) -> Option<(&'a Key, &'a PeerAuthentication)> {
        oldest(self.objects, self.namespace, |wanted| self.selects(wanted, labels))
    }

    /// A selector in the root namespace means nothing.
    fn selects(&self, wanted: &Map, labels: &Map) -> bool {
        self.namespace != self.root && !wanted.is_empty() && selects(wanted, labels)
    }

    fn outcome_of(&self, won: Option<(&Key, &PeerAuthentication)>) -> Outcome {
        match won {
            Some((_, one)) => self.outcome(one),
            None => peer::outcome(None, &BTreeMap::new(), self.wider()),
        }
    }

    /// What a PeerAuthentication with a selector comes to.
    pub(crate) fn outcome(&self, one: &PeerAuthentication) -> Outcome {
        let ports = one.spec.ports.iter().map(|(port, mode)| (*port, asked(*mode))).collect();
        peer::outcome(asked(one.spec.mode), &ports, self.wider())
    }

    fn shared(&self) -> String {
        format!("{}/{}", self.root, peer::STATIC_STRICT)
    }
}

/// The oldest PeerAuthentication of a namespace whose selector is of some kind.
fn oldest<'a>(
    objects: &'a Objects,
    namespace: &str,
    fits: impl Fn(&Map) -> bool,
) -> Option<(&'a Key, &'a PeerAuthentication)> {
    let all = objects.within::<PeerAuthentication>(namespace).filter(|(_, one)| fits(&one.spec.selector));
    all.min_by_key(|(key, one)| (one.meta.creation.clone(), *key))
}

/// The selector an invalid object names; `None` for its whole namespace.
pub(crate) fn selector(object: &InvalidObject) -> Option<&Map> {
    match &object.names {
        Named::Workloads(labels) => Some(labels).filter(|labels| !labels.is_empty()),
        Named::Namespace | Named::Targets(_) => None,
    }
}

fn reference(key: &Key) -> ObjectRef {
    ObjectRef::new(Kind::PeerAuthentication, &key.namespace, &key.name)
}

fn asked(mode: MtlsMode) -> Asked {
    match mode {
        MtlsMode::Unset => None,
        MtlsMode::Disable | MtlsMode::Permissive => Some(Effective::Permissive),
        MtlsMode::Strict => Some(Effective::Strict),
    }
}
