//! Where a rule sends to: found, or why it cannot be.

use std::fmt;

use ambit_api::wire::waypoint::Backend;
use ambit_crds::code::Code;

use super::destination;
use super::draft::Place;
use super::hosts::Host;
use crate::objects::Key;
use crate::translate::service::tcp_ports;

/// A destination as a rule names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) service: &'a Key,
    pub(crate) subset: &'a str,
    /// None where the rule names none.
    pub(crate) port: Option<u16>,
}

/// Why a destination leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nowhere {
    pub(crate) code: Code,
    /// The part of the destination that is wrong.
    pub(crate) field: &'static str,
    pub(crate) text: String,
}

impl fmt::Display for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Target<'_> {
    /// The backend, or why there is none.
    pub(crate) fn find(&self, place: &Place<'_>) -> Result<Backend, Nowhere> {
        let nowhere = |code, field, text| Err(Nowhere { code, field, text });
        let Key { namespace, name } = self.service;
        let Some(service) = place.ctx.served(self.service) else {
            return nowhere(Code::HostNotFound, "host", format!("there is no Service {namespace}/{name}"));
        };
        let mut ports = tcp_ports(service).map(|one| one.port);
        let port = match (self.port, ports.next(), ports.next()) {
            (Some(port), _, _) if !tcp_ports(service).any(|one| one.port == port) => {
                let text = format!("Service {namespace}/{name} has no port {port}");
                return nowhere(Code::DestinationPort, "port", text);
            }
            (Some(port), _, _) | (None, Some(port), None) => port,
            _ => 0,
        };
        if !self.subset.is_empty() && !destination::has_subset(place, self.service, self.subset) {
            let subset = self.subset;
            let text = format!("no DestinationRule of Service {namespace}/{name} defines subset {subset}");
            return nowhere(Code::SubsetNotDefined, "subset", text);
        }
        Ok(Backend {
            service: place.ctx.names.service(namespace, name),
            subset: self.subset.to_owned(),
            port: u32::from(port),
            ..Backend::default()
        })
    }
}

/// The Service a host names, or why none can be.
pub(crate) fn named(host: &str, namespace: &str, place: &Place<'_>) -> Result<Key, Nowhere> {
    let names = place.ctx.names;
    Host::new(host, namespace, names).key(names).ok_or_else(|| {
        let domain = &names.domain;
        let text = format!("{host} is no Service's name; write it as NAME or NAME.NAMESPACE.svc.{domain}");
        Nowhere { code: Code::HostNotFound, field: "host", text }
    })
}

/// A backend whose requests get a status instead.
pub(crate) fn broken(status: u16, why: String) -> Backend {
    Backend { broken: u32::from(status), broken_why: why, ..Backend::default() }
}
