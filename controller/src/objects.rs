//! The objects as they were written, by kind; and the door they come in by, which turns listings into changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_crds::authorization_policy::AuthorizationPolicy;
use ambit_crds::destination_rule::DestinationRule;
use ambit_crds::endpoint_slice::EndpointSlice;
use ambit_crds::gateway::Gateway;
use ambit_crds::gateway_class::GatewayClass;
use ambit_crds::grpc_route::GrpcRoute;
use ambit_crds::http_route::HttpRoute;
use ambit_crds::kind::Kind;
use ambit_crds::mesh_config::MeshConfig;
use ambit_crds::meta::{ObjectMeta, ObjectRef};
use ambit_crds::namespace::Namespace;
use ambit_crds::node::Node;
use ambit_crds::object::{InvalidObject, Object};
use ambit_crds::peer_authentication::PeerAuthentication;
use ambit_crds::pod::Pod;
use ambit_crds::reference_grant::ReferenceGrant;
use ambit_crds::service::Service;
use ambit_crds::source::SourceEvent;
use ambit_crds::virtual_service::VirtualService;

/// One change of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// New, or different.
    Applied(Arc<Object>),
    /// Never valid so far; closes what it names.
    Invalid(Arc<InvalidObject>),
    /// Gone.
    Deleted(ObjectRef),
}

/// Turns a source's events into changes: a listing becomes one batch, with the objects that vanished meanwhile.
#[derive(Debug, Default)]
pub struct Inbox {
    known: BTreeSet<ObjectRef>,
    listing: Option<BTreeMap<ObjectRef, Change>>,
}

/// The name of an object within its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// All objects, one writer.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    kinds: BTreeMap<Kind, BTreeMap<Key, Arc<Object>>>,
    invalid: BTreeMap<ObjectRef, Arc<InvalidObject>>,
}

/// What a change replaced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    pub(crate) object: Option<Arc<Object>>,
    pub(crate) invalid: Option<Arc<InvalidObject>>,
}

/// A kind with a type of its own.
pub(crate) trait Typed: Sized {
    const KIND: Kind;
    fn of(object: &Object) -> Option<&Self>;
}

macro_rules! typed {
    ($($kind:ident: $type:ty = $variant:ident;)*) => {$(
        impl Typed for $type {
            const KIND: Kind = Kind::$kind;
            fn of(object: &Object) -> Option<&Self> {
                if let Object::$variant(one) = object { Some(one) } else { None }
            }
        }
    )*};
}

typed! {
    Namespace: Namespace = Namespace;
    Node: Node = Node;
    Pod: Pod = Pod;
    Service: Service = Service;
    EndpointSlice: EndpointSlice = EndpointSlice;
    AuthorizationPolicy: AuthorizationPolicy = AuthorizationPolicy;
    PeerAuthentication: PeerAuthentication = PeerAuthentication;
    ConfigMap: MeshConfig = MeshConfig;
    VirtualService: VirtualService = VirtualService;
    DestinationRule: DestinationRule = DestinationRule;
    Gateway: Gateway = Gateway;
    GatewayClass: GatewayClass = GatewayClass;
    HttpRoute: HttpRoute = HttpRoute;
    GrpcRoute: GrpcRoute = GrpcRoute;
    ReferenceGrant: ReferenceGrant = ReferenceGrant;
}

impl Change {
    /// The object it is about.
    pub fn object(&self) -> ObjectRef {
        match self {
            Self::Applied(object) => object.reference(),
            Self::Invalid(invalid) => invalid.object.clone(),
            Self::Deleted(object) => object.clone(),
        }
    }
}

impl Inbox {
    /// Takes one event; the changes it makes known, if any.
    pub fn take(&mut self, event: SourceEvent) -> Vec<Change> {
        let change = match event {
            SourceEvent::Init => {
                self.listing = Some(BTreeMap::new());
                return Vec::new();
            }
            SourceEvent::InitDone => return self.finish(),
            SourceEvent::Applied(object) => Change::Applied(object),
            SourceEvent::Invalid(invalid) => Change::Invalid(invalid),
            SourceEvent::Deleted(object) => Change::Deleted(object),
            SourceEvent::Reported(_) | SourceEvent::Rescanned(_) => return Vec::new(),
        };
        let object = change.object();
        if let Some(listing) = &mut self.listing {
            listing.insert(object, change);
            return Vec::new();
        }
        match change {
            Change::Deleted(_) => self.known.remove(&object),
            Change::Applied(_) | Change::Invalid(_) => self.known.insert(object),
        };
        vec![change]
    }

    fn finish(&mut self) -> Vec<Change> {
        let mut listing = self.listing.take().unwrap_or_default();
        let exists = |(object, change): (&ObjectRef, &Change)| {
            (!matches!(change, Change::Deleted(_))).then(|| object.clone())
        };
        let now: BTreeSet<ObjectRef> = listing.iter().filter_map(exists).collect();
        for vanished in self.known.difference(&now) {
            listing.insert(vanished.clone(), Change::Deleted(vanished.clone()));
        }
        self.known = now;
        listing.into_values().collect()
    }
}

impl Key {
    /// Makes a key.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(&meta.namespace, &meta.name)
    }
}

impl Objects {
    /// Takes a change and says what it replaced. An invalid version replaces no valid one.
    pub(crate) fn take(&mut self, change: &Change) -> Before {
        let object = change.object();
        let key = Key::new(&object.namespace, &object.name);
        let kind = self.kinds.entry(object.kind).or_default();
        match change {
            Change::Applied(new) => {
                Before { object: kind.insert(key, new.clone()), invalid: self.invalid.remove(&object) }
            }
            Change::Invalid(new) if !kind.contains_key(&key) => {
                Before { object: None, invalid: self.invalid.insert(object, new.clone()) }
            }
            Change::Invalid(_) => Before { object: kind.get(&key).cloned(), invalid: None },
            Change::Deleted(_) => Before { object: kind.remove(&key), invalid: self.invalid.remove(&object) },
        }
    }

    /// Every object once, as if it were new.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let valid = self.kinds.values().flat_map(BTreeMap::values).cloned().map(Change::Applied);
        valid.chain(self.invalid.values().cloned().map(Change::Invalid)).collect()
    }

    pub(crate) fn get<T: Typed>(&self, key: &Key) -> Option<&T> {
        self.kinds.get(&T::KIND)?.get(key).and_then(|object| T::of(object))
    }

    /// Those of one namespace.
    pub(crate) fn within<'a, T: Typed + 'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a T)> + use<'a, T> {
        let objects = self.kinds.get(&T::KIND).into_iter().flat_map({
            let (from, namespace) = (Key::new(namespace, ""), namespace.to_owned());
            move |kind| {
                let namespace = namespace.clone();
                kind.range(from.clone()..).take_while(move |(key, _)| key.namespace == namespace)
            }
        });
        objects.filter_map(|(key, object)| Some((key, T::of(object)?)))
    }

    pub(crate) fn all<'a, T: Typed + 'a>(&'a self) -> impl Iterator<Item = (&'a Key, &'a T)> {
        let objects = self.kinds.get(&T::KIND).into_iter().flatten();
        objects.filter_map(|(key, object)| Some((key, T::of(object)?)))
    }

    /// Those that were never valid.
    pub(crate) fn invalid(&self, kind: Kind) -> impl Iterator<Item = &InvalidObject> {
        self.invalid.values().filter(move |invalid| invalid.object.kind == kind).map(|invalid| &**invalid)
    }

    pub(crate) fn invalid_one(&self, object: &ObjectRef) -> Option<&InvalidObject> {
        self.invalid.get(object).map(|invalid| &**invalid)
    }

    /// Every object that is valid.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Object> {
        self.kinds.values().flat_map(BTreeMap::values).map(|object| &**object)
    }

    /// An object of any kind.
    pub(crate) fn any(&self, object: &ObjectRef) -> Option<&Object> {
        let key = Key::new(&object.namespace, &object.name);
        self.kinds.get(&object.kind)?.get(&key).map(|object| &**object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Arc<Object> {
        let mut pod = Pod::default();
        (pod.meta.namespace, pod.meta.name) = ("a".to_owned(), name.to_owned());
        Arc::new(Object::Pod(Box::new(pod)))
    }

    #[test]
    fn a_listing_is_one_batch_and_removes_what_is_not_in_it() {
        let mut inbox = Inbox::default();
        let deleted = |name: &str| Change::Deleted(ObjectRef::new(Kind::Pod, "a", name));
        assert_eq!(inbox.take(SourceEvent::Applied(pod("gone"))).len(), 1);
        assert_eq!(inbox.take(SourceEvent::Init), []);
        assert_eq!(inbox.take(SourceEvent::Applied(pod("stays"))), []);
        assert_eq!(inbox.take(SourceEvent::Applied(pod("brief"))), []);
        assert_eq!(inbox.take(SourceEvent::Deleted(ObjectRef::new(Kind::Pod, "a", "brief"))), []);
        assert_eq!(
            inbox.take(SourceEvent::InitDone),
            [deleted("brief"), deleted("gone"), Change::Applied(pod("stays"))]
        );
        assert_eq!(inbox.take(SourceEvent::Init), []);
        assert_eq!(inbox.take(SourceEvent::InitDone), [deleted("stays")]);
    }
}
