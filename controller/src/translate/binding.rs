//! Which waypoint stands before a Service or a pod: labels, the namespace's where an object has none, and what the waypoint
//! permits (apis §1.3).

use ambit_api::identity::Identity;
use ambit_crds::meta::ObjectMeta;
use ambit_crds::namespace::Namespace;
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;

use super::authorization::Waypoints;
use super::auto::Autos;
use super::gateways::{Gateways, MANAGED, Standing, Waypoint};
use super::members::Membership;
use super::shape::Shape;
use crate::objects::{Key, Objects};

/// On a namespace, a Service or a pod: the name of the waypoint.
pub(crate) const USE: [&str; 2] = ["istio.io/use-waypoint", "istio.io/use-waypoint-namespace"];
/// The same of a second one.
pub(crate) const CANARY: [&str; 2] =
    ["istio.io/use-waypoint-canary", "istio.io/use-waypoint-canary-namespace"];
/// The second one's share, 0 to 100.
pub(crate) const CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";

/// What bindings are read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) gateways: &'a Gateways,
    pub(crate) autos: &'a Autos,
    pub(crate) shape: &'a Shape,
}

/// One waypoint that an object names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    pub(crate) gateway: Key,
    pub(crate) found: Result<&'a Waypoint, Unbound>,
}

/// Why a named waypoint does not stand before the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unbound {
    /// No such Gateway, or not one of ours.
    Missing,
    /// The Gateway is not accepted.
    Refused,
    /// Its listener admits other namespaces.
    NotAdmitted,
    /// It serves other traffic.
    OtherTraffic,
}

/// The waypoints that a Service names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding<'a> {
    pub(crate) primary: Option<Link<'a>>,
    pub(crate) canary: Option<Link<'a>>,
    pub(crate) share: Share,
}

/// What the second waypoint gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Share {
    /// There is none.
    #[default]
    None,
    /// Of a hundred connections.
    Percent(u32),
    /// Its weight is missing or no number up to 100.
    Invalid,
    /// It is the first one.
    SameAsPrimary,
}

/// What labels say.
enum Named {
    Nothing,
    OptedOut,
    Gateway(Key),
}

impl<'a> Labels<'a> {
    /// Of a Service.
    pub(crate) fn service(&self, service: &Service) -> Binding<'a> {
        if service.meta.label(MANAGED).is_some() {
            return Binding::default();
        }
        let namespace = &service.meta.namespace;
        let Some((gateway, says)) = self.primary(&service.meta) else { return Binding::default() };
        let primary = self.link(gateway, namespace, |waypoint| waypoint.serves.services());
        let canary = match named(says, &CANARY, namespace) {
            Named::Gateway(key) => Some(self.link(key, namespace, |waypoint| waypoint.serves.services())),
            Named::Nothing | Named::OptedOut => None,
        };
        let share = canary.as_ref().map_or(Share::None, |canary| share(says, &primary, canary));
        Binding { primary: Some(primary), canary, share }
    }

    /// Of traffic to a pod's own address: the label on the pod, else one on its namespace that means such traffic.
    pub(crate) fn pod(&self, pod: &Pod) -> Option<Link<'a>> {
        if self.shape.replica_of(pod).is_some() {
            return None;
        }
        let (gateway, says) = self.primary(&pod.meta)?;
        let link = self.link(gateway, &pod.meta.namespace, |waypoint| waypoint.serves.workloads());
        let inherited = !std::ptr::eq(says, &pod.meta);
        // A namespace's waypoint that serves Services says nothing about pods: the normal case, and no fault.
        (!inherited || link.found != Err(Unbound::OtherTraffic)).then_some(link)
    }

    /// WP of a pod: those that a label on its namespace, on itself, or on a Service before it names.
    pub(crate) fn before(&self, pod: &Pod, members: &[Membership]) -> Waypoints {
        if self.shape.replica_of(pod).is_some() {
            return Waypoints::new();
        }
        let namespace = &pod.meta.namespace;
        let own = self.objects.get::<Namespace>(&Key::new("", namespace)).map(|one| &one.meta);
        let services = members.iter().filter(|member| member.namespace == *namespace).filter_map(|member| {
            let service = self.objects.get::<Service>(&Key::new(&member.namespace, &member.service))?;
            Some(&service.meta)
        });
        let written = own.into_iter().chain([&pod.meta]).chain(services);
        let written =
            written.flat_map(|meta| [named(meta, &USE, namespace), named(meta, &CANARY, namespace)]);
        let keys = written.filter_map(|named| if let Named::Gateway(key) = named { Some(key) } else { None });
        let keys = keys.chain(self.autos.gateway(namespace));
        keys.filter_map(|key| Some(self.link(key, namespace, |_| true).found.ok()?.identity.clone()))
            .collect()
    }

    /// The waypoints that an object's own labels name, the second one last, with the label of each.
    pub(crate) fn written(
        &self,
        meta: &ObjectMeta,
        namespace: &str,
        serves: impl Fn(&Waypoint) -> bool,
    ) -> Vec<(&'static str, Link<'a>)> {
        let links = [USE, CANARY].into_iter().filter_map(|keys| match named(meta, &keys, namespace) {
            Named::Gateway(key) => Some((keys[0], self.link(key, namespace, &serves))),
            Named::Nothing | Named::OptedOut => None,
        });
        links.collect()
    }

    /// The Gateway that an object's label names, else its namespace's; and which of the two says so.
    fn primary<'m>(&self, meta: &'m ObjectMeta) -> Option<(Key, &'m ObjectMeta)>
    where
        'a: 'm,
    {
        match named(meta, &USE, &meta.namespace) {
            Named::OptedOut => return None,
            Named::Gateway(key) => return Some((key, meta)),
            Named::Nothing => {}
        }
        let namespace = &self.objects.get::<Namespace>(&Key::new("", &meta.namespace))?.meta;
        match named(namespace, &USE, &meta.namespace) {
            Named::OptedOut => None,
            Named::Gateway(key) => Some((key, namespace)),
            Named::Nothing => self.autos.gateway(&meta.namespace).map(|key| (key, namespace)),
        }
    }

    fn link(&self, gateway: Key, namespace: &str, serves: impl Fn(&Waypoint) -> bool) -> Link<'a> {
        let found = match self.gateways.get(&gateway) {
            None => Err(Unbound::Missing),
            Some(Standing::Refused(_)) => Err(Unbound::Refused),
            Some(Standing::Accepted(waypoint)) if !waypoint.admits(namespace, self.objects) => {
                Err(Unbound::NotAdmitted)
            }
            Some(Standing::Accepted(waypoint)) if !serves(waypoint) => Err(Unbound::OtherTraffic),
            Some(Standing::Accepted(waypoint)) => Ok(waypoint),
        };
        Link { gateway, found }
    }
}

impl<'a> Binding<'a> {
    /// The waypoints that stand before the Service, ready or not.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (&Key, &'a Waypoint)> {
        let links = self.primary.iter().chain(&self.canary);
        links.filter_map(|link| Some((&link.gateway, link.found.ok()?)))
    }

    /// Their identities.
    pub(crate) fn identities(&self) -> impl Iterator<Item = Identity> {
        self.standing().map(|(_, waypoint)| waypoint.identity.clone())
    }
}

/// Whether an object names a Gateway.
pub(crate) fn names(meta: &ObjectMeta, namespace: &str, gateway: &Key) -> bool {
    [&USE, &CANARY]
        .into_iter()
        .any(|keys| matches!(named(meta, keys, namespace), Named::Gateway(key) if key == *gateway))
}

/// Whether an object itself names a waypoint.
pub(crate) fn names_any(meta: &ObjectMeta) -> bool {
    matches!(named(meta, &USE, &meta.namespace), Named::Gateway(_))
}

fn named(meta: &ObjectMeta, [name, elsewhere]: &[&str; 2], namespace: &str) -> Named {
    match meta.label(name) {
        None | Some("") => Named::Nothing,
        Some("none") => Named::OptedOut,
        Some(name) => Named::Gateway(Key::new(meta.label(elsewhere).unwrap_or(namespace), name)),
    }
}

fn share(says: &ObjectMeta, primary: &Link<'_>, canary: &Link<'_>) -> Share {
    if primary.gateway == canary.gateway {
        return Share::SameAsPrimary;
    }
    let weight = says.annotation(CANARY_WEIGHT).and_then(|text| text.trim().parse().ok());
    weight.filter(|weight| *weight <= 100).map_or(Share::Invalid, Share::Percent)
}
