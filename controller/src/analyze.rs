//! What is wrong, or looks wrong, with objects that can each be read. Pure functions of the objects and of what translation
//! made of them, one object at a time; the command line, admission and status ask here.

mod client;
mod enrolment;
mod finding;
mod host;
mod labels;
mod pattern;
mod peer;
mod policy;
mod port;
mod route;
mod sending;
mod service;
mod template;
mod waypoint;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_crds::kind::Kind;
use ambit_crds::meta::{ObjectMeta, ObjectRef};
use ambit_crds::object::Object;
use ambit_crds::status::Condition;

use crate::objects::Key;
use crate::translate::gateways::MANAGED;
use crate::translate::state::State;
use crate::translate::{Change, Translator};

pub use finding::Finding;
pub(crate) use finding::Report;

/// What checks read.
struct Context<'a> {
    translator: &'a Translator,
    state: &'a State,
    /// The VirtualServices of each host, oldest first.
    hosts: OnceCell<BTreeMap<String, Vec<&'a Key>>>,
}

impl<'a> Context<'a> {
    fn new(translator: &'a Translator) -> Self {
        Self { translator, state: translator.state(), hosts: OnceCell::new() }
    }

    /// Whether a waypoint that the namespace asks for is being brought up.
    fn is_coming(&self, namespace: &str) -> bool {
        let wanted = self.state.autos.gateway(namespace);
        wanted.is_some_and(|gateway| !self.state.gateways.contains_key(&gateway))
    }

    fn conditions(&self, object: &ObjectRef) -> &'a [Condition] {
        self.translator.conditions(object)
    }

    fn about(&self, object: &Object) -> Vec<Finding> {
        let mut report = Report::new(object.reference());
        if !is_made(object.meta()) {
            labels::check(object, &mut report);
            match object {
                Object::Namespace(one) => {
                    enrolment::of_namespace(one, &mut report);
                    waypoint::of_namespace(self, one, &mut report);
                }
                Object::Pod(one) => template::of_pod(self, one, &mut report),
                Object::Deployment(one) | Object::StatefulSet(one) => {
                    template::of_set(self, one, &mut report)
                }
                Object::Service(one) => {
                    service::check(self, one, &mut report);
                    waypoint::of_service(self, one, &mut report);
                }
                Object::Gateway(one) => waypoint::of_gateway(self, one, &mut report),
                Object::AuthorizationPolicy(one) => policy::check(self, one, &mut report),
                Object::PeerAuthentication(one) => peer::check(self, one, &mut report),
                Object::VirtualService(one) => {
                    route::check(self, &object.reference(), &mut report);
                    host::check(self, one, &mut report);
                    sending::of_virtual_service(one, &mut report);
                }
                Object::DestinationRule(_) => route::check(self, &object.reference(), &mut report),
                Object::HttpRoute(one) => {
                    route::check(self, &object.reference(), &mut report);
                    sending::of_http_route(one, &mut report);
                }
                Object::GrpcRoute(_) => route::check(self, &object.reference(), &mut report),
                _ => {}
            }
        }
        report.finish()
    }
}

/// Every finding, object by object.
pub fn all(translator: &Translator) -> Vec<Finding> {
    let context = Context::new(translator);
    context.state.objects.each().flat_map(|object| context.about(object)).collect()
}

/// The findings about one object; none if it does not exist.
pub fn about(translator: &Translator, object: &ObjectRef) -> Vec<Finding> {
    let context = Context::new(translator);
    context.state.objects.any(object).map(|object| context.about(object)).unwrap_or_default()
}

/// The findings about an object if it were applied now. It copies what translation knows, so it costs as much as there are
/// objects.
pub fn admitted(translator: &Translator, object: &Arc<Object>) -> Vec<Finding> {
    applied(translator.clone(), object)
}

/// The findings about an object once it is applied to what translation knows.
pub fn applied(mut translator: Translator, object: &Arc<Object>) -> Vec<Finding> {
    translator.apply([Change::Applied(Arc::clone(object))]);
    about(&translator, &object.reference())
}

/// Whether a controller made it: whoever wrote what it is made from is told there.
fn is_made(meta: &ObjectMeta) -> bool {
    meta.owner.is_some() || meta.label(MANAGED).is_some()
}

/// Names an object.
fn reference(kind: Kind, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef::new(kind, &meta.namespace, &meta.name)
}

/// A condition's sentence, parted into what is wrong and what to do; the second may be empty.
fn said(message: &str) -> (&str, &str) {
    message.rsplit_once("; ").unwrap_or((message, ""))
}
