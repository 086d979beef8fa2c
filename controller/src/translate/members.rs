//! Which Services stand before a pod, and which of its ports each of their ports leads to.

use ambit_crds::endpoint_slice::EndpointSlice;
use ambit_crds::meta::selects;
use ambit_crds::pod::{IntOrString, Pod, Protocol};
use ambit_crds::service::Service;

use super::service::{is_served, tcp_ports};

/// One Service before one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) namespace: String,
    pub(crate) service: String,
    /// Service port and the endpoint's port; `None` when the endpoint has no port of that name.
    pub(crate) ports: Vec<(u16, Option<u16>)>,
}

impl Membership {
    /// Of a pod that the Service selects.
    pub(crate) fn by_selector(service: &Service, pod: &Pod) -> Option<Self> {
        let selector = &service.spec.selector;
        if !is_served(service) || selector.is_empty() || !selects(selector, &pod.meta.labels) {
            return None;
        }
        Some(Self::new(
            service,
            tcp_ports(service).map(|port| (port.port, pod.port(&port.target()))).collect(),
        ))
    }

    /// Of an endpoint in a slice of a Service without a selector.
    pub(crate) fn by_slice(service: &Service, slice: &EndpointSlice) -> Self {
        let ports = tcp_ports(service).map(|port| {
            let mut found = slice.spec.ports.iter().filter(|one| one.protocol == Protocol::Tcp);
            let found = found.find(|one| one.name == port.name);
            let target = found.and_then(|one| {
                one.port.or(match port.target() {
                    IntOrString::Number(number) => Some(number),
                    IntOrString::Name(_) => None,
                })
            });
            (port.port, target)
        });
        Self::new(service, ports.collect())
    }

    fn new(service: &Service, ports: Vec<(u16, Option<u16>)>) -> Self {
        Self { namespace: service.meta.namespace.clone(), service: service.meta.name.clone(), ports }
    }
}
