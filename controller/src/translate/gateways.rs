//! Which Gateways are served by waypoints of ours, and why others that ask for it are not (policy.md rule 1, apis §1.5).

use std::collections::{BTreeMap, BTreeSet};

use ambit_api::identity::Identity;
use ambit_crds::gateway_class::{CONTROLLER_NAME, GatewayClass};
use ambit_crds::kind::Kind;
use ambit_crds::meta::{LabelSelector, ObjectMeta, ObjectRef};
use ambit_crds::namespace::Namespace;
use ambit_crds::object::Object;
use ambit_crds::pod::Pod;

use super::state::State;
use crate::objects::{Key, Objects};

mod read;

use read::Door;
pub(crate) use read::{Asked, listener_fault};

/// Where a waypoint takes HBONE.
pub(crate) const PORT: u16 = 15008;
pub(crate) use ambit_crds::gateway::MANAGED;
/// That controller.
pub(crate) const CONTROLLER: &str = "ambit.mesh-waypoint-controller";
/// On what is deployed for a Gateway: the Gateway's name.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// On what is deployed for a Gateway: its class.
pub(crate) const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// On a Gateway, or on its class: which traffic it serves.
const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// On a Gateway, written by us: it has been ready once (policy.md rule 12).
pub const PROGRAMMED: &str = "ambit.mesh/waypoint-programmed";
/// On a Gateway, written by us: it has been without a ready replica for longer than we wait.
pub const DOWN: &str = "ambit.mesh/waypoint-down";

/// The class of gateways that take plain HTTP for whoever comes.
pub(crate) const PLAIN: &str = "ambit";

/// The class of Istio's waypoints.
const ISTIO: &str = "istio-waypoint";

/// The classes of Gateways that are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// Whether `istio-waypoint` is ours too.
    pub istio: bool,
}

/// A Gateway of one of our classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Accepted(Waypoint),
    Refused(Refusal),
}

/// One that is a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waypoint {
    pub(crate) identity: Identity,
    pub(crate) class: String,
    pub(crate) uid: String,
    pub(crate) serves: Serves,
    pub(crate) admits: Admits,
    /// Where it takes plain HTTP; a waypoint before Services does so nowhere.
    pub(crate) plain: BTreeSet<u16>,
    pub(crate) readiness: Readiness,
}

/// Why a Gateway is no waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its listeners are not those of its class.
    Listeners(String),
    /// Somebody else runs it.
    Addresses,
    /// An object of its name is somebody else's.
    Taken(ObjectRef),
    /// Its name cannot be part of an identity, or is `none`.
    Name(String),
}

/// Which traffic a waypoint serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Serves {
    #[default]
    Services,
    Workloads,
    All,
    Nothing,
}

/// Whose objects may use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Those of its own namespace.
    #[default]
    Same,
    All,
    Namespaces(LabelSelector),
    Nobody,
}

/// How its replicas are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// A replica is ready.
    pub(crate) ready: bool,
    /// One was, once.
    pub(crate) programmed: bool,
    /// None has been for too long.
    pub(crate) down: bool,
}

impl Default for Classes {
    fn default() -> Self {
        Self { istio: true }
    }
}

impl Classes {
    /// Whether Gateways of this class are ours.
    pub(crate) fn contain(self, class: &str) -> bool {
        self.all().any(|one| one == class)
    }

    /// The names of the classes whose Gateways are ours.
    pub(crate) fn names(self) -> Vec<String> {
        self.all().map(str::to_owned).collect()
    }

    fn all(self) -> impl Iterator<Item = &'static str> {
        ["ambit-waypoint", PLAIN].into_iter().chain(self.istio.then_some(ISTIO))
    }
}

impl Serves {
    pub(crate) fn services(self) -> bool {
        matches!(self, Self::Services | Self::All)
    }

    pub(crate) fn workloads(self) -> bool {
        matches!(self, Self::Workloads | Self::All)
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "service" => Some(Self::Services),
            "workload" => Some(Self::Workloads),
            "all" => Some(Self::All),
            "none" => Some(Self::Nothing),
            _ => None,
        }
    }
}

impl Readiness {
    /// Whether traffic is led to it although nothing but a label asks for that (policy.md rule 12).
    pub(crate) fn is_used(self) -> bool {
        self.ready || (self.programmed && !self.down)
    }
}

impl Waypoint {
    /// Whether objects of a namespace may use it.
    pub(crate) fn admits(&self, namespace: &str, objects: &Objects) -> bool {
        self.admits.hold(namespace, self.identity.namespace(), objects)
    }
}

impl Admits {
    /// Whether a namespace is one of them; `own` is the Gateway's.
    pub(crate) fn hold(&self, namespace: &str, own: &str, objects: &Objects) -> bool {
        match self {
            Self::Same => own == namespace,
            Self::All => true,
            Self::Nobody => false,
            Self::Namespaces(selector) => {
                let found = objects.get::<Namespace>(&Key::new("", namespace));
                found.is_some_and(|one| selector.matches(&one.meta.labels))
            }
        }
    }
}

impl Standing {
    /// The waypoint, if it is one.
    pub(crate) fn waypoint(&self) -> Option<&Waypoint> {
        match self {
            Self::Accepted(waypoint) => Some(waypoint),
            Self::Refused(_) => None,
        }
    }
}

impl State {
    /// Whether Gateways of a class are ours: it is one of those we know, and nobody else's by its own word. Istio's we take as
    /// its installation left it.
    pub(crate) fn serves_class(&self, class: &str) -> bool {
        let object = self.objects.get::<GatewayClass>(&Key::new("", class));
        let is_ours = |one: &GatewayClass| one.spec.controller_name == CONTROLLER_NAME || class == ISTIO;
        self.classes.contain(class) && object.is_none_or(is_ours)
    }
}

/// What a Gateway is to us; `None` if it asks nothing of us.
pub(crate) fn standing(key: &Key, state: &State) -> Option<Standing> {
    let asked = Asked::find(&state.objects, key).filter(|asked| state.serves_class(asked.class()))?;
    Some(match accept(key, &asked, state) {
        Ok(waypoint) => Standing::Accepted(waypoint),
        Err(refusal) => Standing::Refused(refusal),
    })
}

fn accept(key: &Key, asked: &Asked<'_>, state: &State) -> Result<Waypoint, Refusal> {
    let State { objects, mesh, .. } = state;
    if !asked.gateway.spec.addresses.is_empty() {
        return Err(Refusal::Addresses);
    }
    let door = asked.door().map_err(Refusal::Listeners)?;
    if key.name == "none" {
        let why = "a waypoint cannot be called none, which is how use-waypoint opts out";
        return Err(Refusal::Name(why.to_owned()));
    }
    let identity = Identity::new(&mesh.domains.own, &key.namespace, &key.name)
        .map_err(|error| Refusal::Name(error.to_string()))?;
    for kind in [Kind::ServiceAccount, Kind::Deployment, Kind::Service] {
        let object = ObjectRef::new(kind, &key.namespace, &key.name);
        if objects.any(&object).is_some_and(|one| !is_deployed_for(one.meta(), asked.meta())) {
            return Err(Refusal::Taken(object));
        }
    }
    let serves = [Some(asked.meta()), asked.class_meta].into_iter().flatten();
    let serves = serves.filter_map(|meta| Serves::read(meta.label(WAYPOINT_FOR)?)).next();
    let (serves, admits, plain) = match door {
        Door::Mesh(admits) => (serves.unwrap_or_default(), admits, BTreeSet::new()),
        Door::Plain(ports) => (Serves::Nothing, Admits::Nobody, ports),
    };
    Ok(Waypoint {
        identity,
        class: asked.class().to_owned(),
        uid: asked.meta().uid.clone(),
        serves,
        admits,
        plain,
        readiness: readiness(key, asked.meta(), state),
    })
}

/// Whether we deployed this object for this very Gateway.
fn is_deployed_for(object: &ObjectMeta, gateway: &ObjectMeta) -> bool {
    let owner = object.owner.as_ref();
    object.label(MANAGED) == Some(CONTROLLER)
        && owner.is_some_and(|owner| owner.kind == Kind::Gateway.name() && owner.uid == gateway.uid)
}

/// Whether an object is left over from a Gateway of its own name: ours to remove.
pub(crate) fn is_left_over(object: &Object) -> bool {
    let meta = object.meta();
    meta.label(MANAGED) == Some(CONTROLLER)
        && meta
            .owner
            .as_ref()
            .is_some_and(|owner| owner.kind == Kind::Gateway.name() && owner.name == meta.name)
}

fn readiness(key: &Key, gateway: &ObjectMeta, state: &State) -> Readiness {
    let pods = state.objects.within::<Pod>(&key.namespace);
    let mut replicas = pods.filter(|(_, pod)| state.shape.replica_of(pod).as_ref() == Some(key));
    Readiness {
        ready: replicas
            .any(|(_, pod)| super::workload::is_present(pod) && pod.is_ready() && !pod.meta.is_terminating()),
        programmed: gateway.annotation(PROGRAMMED).is_some(),
        down: gateway.annotation(DOWN).is_some(),
    }
}

/// All waypoints, and Gateways that asked to be one.
pub(crate) type Gateways = BTreeMap<Key, Standing>;
