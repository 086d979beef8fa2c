//! What of a Gateway object decides whether it is a waypoint.

use std::collections::BTreeSet;

use ambit_crds::gateway::{AllowedNamespaces, FromNamespaces, Gateway, Listener};
use ambit_crds::gateway_class::GatewayClass;
use ambit_crds::meta::ObjectMeta;

use super::{Admits, PLAIN, PORT};
use crate::objects::{Key, Objects};

/// Ports of every proxy of ours: HBONE, metrics and readiness.
const TAKEN: [u16; 3] = [PORT, 15020, 15021];

/// A Gateway and its class.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) class_meta: Option<&'a ObjectMeta>,
}

/// How a Gateway is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// By HBONE; who may use it.
    Mesh(Admits),
    /// By plain HTTP on these ports.
    Plain(BTreeSet<u16>),
}

impl<'a> Asked<'a> {
    /// The Gateway of this name.
    pub(crate) fn find(objects: &'a Objects, key: &Key) -> Option<Self> {
        let gateway = objects.get::<Gateway>(key)?;
        let class = objects.get::<GatewayClass>(&Key::new("", &gateway.spec.gateway_class_name));
        Some(Self { gateway, class_meta: class.map(|class| &class.meta) })
    }

    /// Name, labels and annotations.
    pub(crate) fn meta(&self) -> &'a ObjectMeta {
        &self.gateway.meta
    }

    /// The name of its class.
    pub(crate) fn class(&self) -> &'a str {
        &self.gateway.spec.gateway_class_name
    }

    /// How it is reached; else what is wrong.
    pub(super) fn door(&self) -> Result<Door, String> {
        if self.class() == PLAIN {
            let ports = self.gateway.spec.listeners.iter().map(plain_port).collect::<Result<_, _>>()?;
            return Ok(Door::Plain(ports));
        }
        self.listener().map(Door::Mesh)
    }

    /// Whom its only listener admits.
    fn listener(&self) -> Result<Admits, String> {
        let [listener] = self.gateway.spec.listeners.as_slice() else {
            return Err(format!(
                "it has {} listeners; a waypoint has exactly one, of protocol HBONE on port {PORT}",
                self.gateway.spec.listeners.len()
            ));
        };
        if let Some((_, why)) = listener_fault(false, listener) {
            return Err(why);
        }
        Ok(Admits::of(&listener.allowed_routes.namespaces))
    }
}

impl Admits {
    /// As a listener writes it.
    pub(crate) fn of(namespaces: &AllowedNamespaces) -> Self {
        match (namespaces.from, &namespaces.selector) {
            (None | Some(FromNamespaces::Same), _) => Self::Same,
            (Some(FromNamespaces::All), _) => Self::All,
            (Some(FromNamespaces::Selector), Some(selector)) => Self::Namespaces(selector.0.clone()),
            (Some(FromNamespaces::Selector | FromNamespaces::None), _) => Self::Nobody,
        }
    }
}

fn plain_port(listener: &Listener) -> Result<u16, String> {
    match listener_fault(true, listener) {
        Some((_, why)) => Err(why),
        None => Ok(listener.port.get()),
    }
}

/// What is wrong with a listener, if anything: reason and sentence. `is_plain` says that its Gateway is to take plain HTTP.
pub(crate) fn listener_fault(is_plain: bool, listener: &Listener) -> Option<(&'static str, String)> {
    let Listener { name, port, protocol, .. } = listener;
    match (is_plain, protocol.as_str(), port.get()) {
        (true, "HTTP", port) if TAKEN.contains(&port) => {
            let text =
                format!("listener {name} is on port {port}, which the proxy itself uses; choose another");
            Some(("PortUnavailable", text))
        }
        (true, "HTTP", _) | (false, "HBONE", PORT) => None,
        (true, ..) => {
            let text =
                format!("listener {name} is {protocol}; a Gateway of class {PLAIN} serves HTTP alone so far");
            Some(("UnsupportedProtocol", text))
        }
        (false, ..) => {
            let text =
                format!("listener {name} is {protocol} on port {port}; a waypoint's is HBONE on port {PORT}");
            Some(("UnsupportedProtocol", text))
        }
    }
}
