//! Which pods of this node are to be in the mesh, from the objects as they come. Pure: an event in, changes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_crds::enrolment::{Enrolment, REDIRECTION, Why, enrolled};
use ambit_crds::kind::Kind;
use ambit_crds::meta::{ObjectMeta, ObjectRef};
use ambit_crds::namespace::Namespace;
use ambit_crds::object::Object;
use ambit_crds::pod::Pod;
use ambit_crds::source::SourceEvent;

use crate::handover::PodUid;
use crate::redirect::rules::{InboundCapture, ProbePorts};

/// The annotation by which a pod keeps its inbound connections to itself.
pub const BYPASS_INBOUND: &str = "ambient.istio.io/bypass-inbound-capture";

mod probes;

/// What is wanted of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// In the mesh.
    In(Membership),
    /// Outside, running.
    Out,
    /// It is gone, or has ended.
    Gone,
}

/// How a pod is in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Whether inbound connections are captured.
    pub inbound: InboundCapture,
    /// Where the kubelet asks for its health.
    pub probes: ProbePorts,
    /// Its addresses as far as they are published; without any its sandbox may not exist yet.
    pub addresses: Vec<IpAddr>,
}

/// How a pod stands that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It has not been heard of.
    NotYet,
    /// The mesh has nothing to do with its network.
    Outside,
    /// It has a life of its own here.
    Lives(PodUid),
}

/// Who a pod is, from its first to its last day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Unique ID.
    pub uid: PodUid,
    /// Its name.
    pub object: ObjectRef,
    /// Its service account.
    pub service_account: String,
    /// Whether a former agent had enrolled it: only from the first listing, since an annotation may outlive its pod and
    /// be found on a successor of the same name.
    pub was_enrolled: bool,
}

/// A pod's wanted state has changed; for a UID that is new, its life begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The pod.
    pub pod: Identity,
    /// What is wanted now.
    pub wanted: Wanted,
}

/// The pods of a node and all namespaces, as far as they are known.
#[derive(Debug)]
pub struct Planner {
    node: String,
    namespaces: BTreeMap<String, Namespace>,
    pods: BTreeMap<ObjectRef, Pod>,
    told: BTreeMap<ObjectRef, Change>,
    /// Named since the listing began; `None` outside of a listing.
    listing: Option<BTreeSet<ObjectRef>>,
    listed_once: bool,
    leaving: bool,
}

impl Planner {
    /// Knows nothing yet of `node`.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            told: BTreeMap::new(),
            listing: None,
            listed_once: false,
            leaving: false,
        }
    }

    /// Takes an event. During a listing nothing is decided; its end decides everything at once.
    pub fn take(&mut self, event: &SourceEvent) -> Vec<Change> {
        let touched = match event {
            SourceEvent::Init => {
                self.listing = Some(BTreeSet::new());
                return Vec::new();
            }
            SourceEvent::Applied(object) => self.applied(object),
            SourceEvent::Deleted(object) => self.deleted(object),
            SourceEvent::InitDone => self.listed(),
            SourceEvent::Invalid(_) | SourceEvent::Reported(_) | SourceEvent::Rescanned(_) => {
                return Vec::new();
            }
        };
        if self.listing.is_some() {
            return Vec::new();
        }
        let changes = touched.into_iter().flat_map(|object| self.decide(&object)).collect();
        self.listed_once = true;
        changes
    }

    /// From now on nobody is in the mesh.
    pub fn leave(&mut self) -> Vec<Change> {
        self.leaving = true;
        let known: Vec<ObjectRef> = self.told.keys().cloned().collect();
        known.iter().flat_map(|object| self.decide(object)).collect()
    }

    /// How a pod of this name stands; one with another UID is another pod.
    pub fn known(&self, object: &ObjectRef, uid: Option<&PodUid>) -> Known {
        let Some(pod) = self.pods.get(object).filter(|_| self.listed_once) else { return Known::NotYet };
        let enrolment = enrolled(&self.namespace_of(object), pod);
        // The UID of a pod of the node's files is never that of its copy.
        if enrolment == Enrolment::Out(Why::Static) {
            return Known::Outside;
        }
        let is_other = uid.is_some_and(|uid| *uid.0 != *pod.meta.uid);
        if is_other || !self.namespaces.contains_key(&object.namespace) {
            return Known::NotYet;
        }
        match enrolment {
            Enrolment::In | Enrolment::Out(Why::NoAddress) if !self.leaving => {
                Known::Lives(PodUid(pod.meta.uid.as_str().into()))
            }
            Enrolment::In | Enrolment::Out(_) => Known::Outside,
        }
    }

    fn applied(&mut self, object: &Arc<Object>) -> Vec<ObjectRef> {
        let name = object.reference();
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        match &**object {
            Object::Namespace(namespace) => {
                self.namespaces.insert(namespace.meta.name.clone(), namespace.clone());
                self.pods_of(&namespace.meta.name)
            }
            Object::Pod(pod) if pod.spec.node_name == self.node => {
                self.pods.insert(name.clone(), (**pod).clone());
                vec![name]
            }
            // It may have been ours until now.
            Object::Pod(_) => self.deleted(&name),
            _ => Vec::new(),
        }
    }

    fn deleted(&mut self, object: &ObjectRef) -> Vec<ObjectRef> {
        match object.kind {
            Kind::Namespace if self.namespaces.remove(&object.name).is_some() => self.pods_of(&object.name),
            Kind::Pod if self.pods.remove(object).is_some() => vec![object.clone()],
            _ => Vec::new(),
        }
    }

    /// What was not named in the listing does not exist.
    fn listed(&mut self) -> Vec<ObjectRef> {
        let Some(named) = self.listing.take() else { return Vec::new() };
        self.namespaces.retain(|name, _| named.contains(&ObjectRef::new(Kind::Namespace, "", name)));
        self.pods.retain(|pod, _| named.contains(pod));
        self.pods.keys().chain(self.told.keys()).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn pods_of(&self, namespace: &str) -> Vec<ObjectRef> {
        self.pods.keys().filter(|pod| pod.namespace == namespace).cloned().collect()
    }

    /// What changes for one name: a successor with the same name is another pod.
    fn decide(&mut self, object: &ObjectRef) -> Vec<Change> {
        let now = self.pods.get(object).and_then(|pod| self.plan(object, pod));
        let before = self.told.remove(object);
        let mut changes = Vec::new();
        if let Some(before) = &before
            && before.wanted != Wanted::Gone
            && now.as_ref().is_none_or(|now| now.pod.uid != before.pod.uid)
        {
            changes.push(Change { pod: before.pod.clone(), wanted: Wanted::Gone });
        }
        let Some(now) = now else { return changes };
        let known = before.filter(|before| before.pod.uid == now.pod.uid);
        let news = match &known {
            Some(known) => known.wanted != now.wanted,
            None => now.wanted != Wanted::Gone,
        };
        if news {
            changes.push(now.clone());
        }
        self.told.insert(object.clone(), now);
        changes
    }

    fn namespace_of(&self, object: &ObjectRef) -> Namespace {
        let unknown =
            || Namespace { meta: ObjectMeta { name: object.namespace.clone(), ..ObjectMeta::default() } };
        self.namespaces.get(&object.namespace).cloned().unwrap_or_else(unknown)
    }

    /// `None` for pods whose network is not a pod's own, or is the node proxy's: it is never looked at.
    fn plan(&self, object: &ObjectRef, pod: &Pod) -> Option<Change> {
        let wanted = match enrolled(&self.namespace_of(object), pod) {
            Enrolment::In | Enrolment::Out(Why::NoAddress) if !self.leaving => Wanted::In(Membership {
                inbound: inbound(pod),
                probes: probes::ports(pod),
                addresses: pod.ips(),
            }),
            Enrolment::Out(Why::HostNetwork | Why::NodeProxy | Why::Static) => return None,
            Enrolment::Out(Why::Terminal) => Wanted::Gone,
            Enrolment::In | Enrolment::Out(_) => Wanted::Out,
        };
        let was_enrolled = !self.listed_once && pod.meta.annotation(REDIRECTION) == Some("enabled");
        let pod = Identity {
            uid: PodUid(pod.meta.uid.as_str().into()),
            object: object.clone(),
            service_account: pod.service_account().to_owned(),
            was_enrolled,
        };
        Some(Change { pod, wanted })
    }
}

fn inbound(pod: &Pod) -> InboundCapture {
    match pod.meta.annotation(BYPASS_INBOUND) {
        Some("true") => InboundCapture::Bypassed,
        _ => InboundCapture::On,
    }
}

#[cfg(test)]
mod tests;
