//! The mesh that is asked about: objects, what translation makes of them, and what proxies are told; and, where it runs,
//! its programs.
//!
//! One abstraction for every place: a folder of manifests (as they would be once everything has settled), a running lab, a
//! controller behind an address. Commands ask [`Mesh`] and do not know the difference.

pub(crate) mod arrive;
pub(crate) mod hops;
pub(crate) mod http;
pub(crate) mod lab;
pub(crate) mod name;
mod place;
pub(crate) mod settle;
pub(crate) mod target;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_crds::Loaded;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::namespace::Namespace;
use ambit_crds::object::Object;
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;
use ambit_crds::status::Condition;
use controller::snapshot::Snapshot;
use controller::translate::Translator;

use crate::failure::Failure;
pub(crate) use place::{Place, Where};
use world::World;

/// A mesh at one moment.
pub(crate) struct Mesh {
    /// Every object; none where only a controller is asked.
    pub(crate) objects: BTreeMap<ObjectRef, Arc<Object>>,
    /// What the controller makes of the objects.
    pub(crate) translator: Translator,
    /// What it says about them.
    pub(crate) conditions: BTreeMap<ObjectRef, Vec<Condition>>,
    /// What proxies are told.
    pub(crate) world: World,
}

impl Mesh {
    /// The mesh at a place.
    pub(crate) fn at(place: &Where) -> Result<Self, Failure> {
        Ok(match place {
            Where::Folders(folders) => settle::settled(ambit_crds::load_once(folders)),
            Where::Lab(lab) => settle::as_is(lab.objects(), &told(place)?),
            Where::Controller(_) => settle::as_is(Loaded::default(), &told(place)?),
        })
    }

    /// Tells what people should know of how this was read.
    pub(crate) fn remark(&self) {
        self.world.remarks.iter().for_each(|remark| eprintln!("ambit: {remark}"));
    }

    /// A pod.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        match &**self.objects.get(&ObjectRef::new(Kind::Pod, namespace, name))? {
            Object::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    /// A Service.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        match &**self.objects.get(&ObjectRef::new(Kind::Service, namespace, name))? {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }

    /// A namespace; one that nobody wrote down has no labels.
    pub(crate) fn namespace(&self, name: &str) -> Namespace {
        match self.objects.get(&ObjectRef::new(Kind::Namespace, "", name)).map(|object| &**object) {
            Some(Object::Namespace(namespace)) => namespace.clone(),
            _ => Namespace::default(),
        }
    }

    /// All objects of a kind, by namespace and name.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |(key, _)| key.kind == kind).map(|(_, object)| &**object)
    }
}

fn told(place: &Where) -> Result<Snapshot, Failure> {
    http::snapshot(&place.controller(http::SNAPSHOT)?)
}
