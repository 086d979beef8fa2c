//! What of a Gateway object decides whether it is a waypoint.

use ambit_crds::gateway::{FromNamespaces, Gateway};
use ambit_crds::gateway_class::GatewayClass;
use ambit_crds::meta::ObjectMeta;

use super::{Admits, PORT};
use crate::objects::{Key, Objects};

/// A Gateway and its class.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) class_meta: Option<&'a ObjectMeta>,
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

    /// Whom its only listener admits; else what is wrong.
    pub(super) fn listener(&self) -> Result<Admits, String> {
        let [listener] = self.gateway.spec.listeners.as_slice() else {
            return Err(format!(
                "it has {} listeners; a waypoint has exactly one, of protocol HBONE on port {PORT}",
                self.gateway.spec.listeners.len()
            ));
        };
        if listener.protocol != "HBONE" || listener.port.get() != PORT {
            return Err(format!(
                "listener {} is {} on port {}; a waypoint's is HBONE on port {PORT}",
                listener.name, listener.protocol, listener.port
            ));
        }
        let namespaces = &listener.allowed_routes.namespaces;
        Ok(match (namespaces.from, &namespaces.selector) {
            (None | Some(FromNamespaces::Same), _) => Admits::Same,
            (Some(FromNamespaces::All), _) => Admits::All,
            (Some(FromNamespaces::Selector), Some(selector)) => Admits::Namespaces(selector.0.clone()),
            (Some(FromNamespaces::Selector | FromNamespaces::None), _) => Admits::Nobody,
        })
    }
}
