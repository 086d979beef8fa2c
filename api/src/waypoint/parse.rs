//! Resources of waypoints between wire and model. A bad field rejects its resource, never another.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use super::{
    AccessLog, Destination, Gateway, Listener, LoadBalancer, Lock, Outlier, PathNormalization, PortAlias,
    Serves, Service, Subset, Tracing, TracingProtocol, TrafficPolicy, Workload,
};
use crate::invalid::{self, InvalidField, Problem};
use crate::policy::PolicyKey;
use crate::route::{HttpTable, TcpTable};
use crate::service::ServiceKey;
use crate::wire::waypoint as wire;
use crate::workload::Uid;

/// Intervals that nobody gave, as Envoy has them.
const OUTLIER_INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION: Duration = Duration::from_secs(30);

/// Why a resource is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct InvalidResource {
    /// The resource's name, as far as it has one.
    pub name: String,
    /// The field at fault.
    pub fault: InvalidField,
}

/// Names the place of a fault from the inside out.
pub(crate) trait Field: Sized {
    /// In this element of a list.
    fn within(self, list: &str, place: usize) -> Self;
}

impl<T> Field for Result<T, InvalidField> {
    fn within(self, list: &str, place: usize) -> Self {
        self.map_err(|fault| fault.under(&format!("{list}[{place}]")))
    }
}

/// A field that says something unusable.
pub(crate) fn invalid(field: &str, why: impl Display) -> InvalidField {
    Problem::Unusable(why.to_string()).of(field)
}

/// The key of a [`Gateway`]: `namespace/name`.
pub fn gateway_key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

pub(crate) fn duration(milliseconds: u32) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
}

/// A port, where 0 means that none is given.
pub(crate) fn port(number: u32, field: &str) -> Result<Option<NonZeroU16>, InvalidField> {
    invalid::port(number).map(NonZeroU16::new).map_err(|problem| problem.of(field))
}

pub(crate) fn service_key(text: &str, field: &str) -> Result<ServiceKey, InvalidField> {
    invalid::name(text).map(|(space, host)| ServiceKey::new(space, host)).map_err(|problem| problem.of(field))
}

fn ports(numbers: &[u32], field: &str) -> Result<Vec<u16>, InvalidField> {
    numbers
        .iter()
        .map(|one| invalid::port(*one))
        .collect::<Result<_, _>>()
        .map_err(|problem| problem.of(field))
}

fn policies(names: &[String]) -> Result<Vec<PolicyKey>, InvalidField> {
    let keys = names.iter().map(|text| invalid::name(text).map(|(space, name)| PolicyKey::new(space, name)));
    keys.collect::<Result<_, _>>().map_err(|problem: Problem| problem.of("policies"))
}

impl TryFrom<wire::Gateway> for Gateway {
    type Error = InvalidResource;

    fn try_from(wire: wire::Gateway) -> Result<Self, InvalidResource> {
        let name = gateway_key(&wire.namespace, &wire.name);
        gateway(wire).map_err(|fault| InvalidResource { name, fault })
    }
}

fn gateway(wire: wire::Gateway) -> Result<Gateway, InvalidField> {
    let serves = match wire::Serves::try_from(wire.serves) {
        Ok(wire::Serves::Services) => Serves::Services,
        Ok(wire::Serves::Workloads) => Serves::Workloads,
        Ok(wire::Serves::All) => Serves::All,
        Ok(wire::Serves::None) => Serves::None,
        Err(_) => return Err(Problem::Value(wire.serves).of("serves")),
    };
    let path_normalization = match wire::PathNormalization::try_from(wire.path_normalization) {
        Ok(wire::PathNormalization::Base) => PathNormalization::Base,
        Ok(wire::PathNormalization::NoNormalization) => PathNormalization::None,
        Ok(wire::PathNormalization::MergeSlashes) => PathNormalization::MergeSlashes,
        Ok(wire::PathNormalization::DecodeAndMergeSlashes) => PathNormalization::DecodeAndMergeSlashes,
        Err(_) => return Err(Problem::Value(wire.path_normalization).of("path_normalization")),
    };
    let listeners =
        wire.listeners.into_iter().enumerate().map(|(place, wire)| listener(wire).within("listeners", place));
    Ok(Gateway {
        policies: policies(&wire.policies)?,
        namespace: wire.namespace.into(),
        name: wire.name.into(),
        serves,
        path_normalization,
        access_log: wire.access_log.map(access_log).transpose()?,
        tracing: wire.tracing.map(tracing).transpose()?,
        listeners: listeners.collect::<Result<_, _>>()?,
    })
}

fn access_log(wire: wire::AccessLog) -> Result<AccessLog, InvalidField> {
    let format = Some(wire.format).filter(|format| !format.is_empty());
    match wire::access_log::Encoding::try_from(wire.encoding) {
        Ok(wire::access_log::Encoding::Text) => Ok(AccessLog::Text(format)),
        Ok(wire::access_log::Encoding::Json) => Ok(AccessLog::Json(format)),
        Err(_) => Err(Problem::Value(wire.encoding).of("access_log.encoding")),
    }
}

fn tracing(wire: wire::Tracing) -> Result<Tracing, InvalidField> {
    let protocol = match wire::tracing::Protocol::try_from(wire.protocol) {
        Ok(wire::tracing::Protocol::Zipkin) => TracingProtocol::Zipkin,
        Ok(wire::tracing::Protocol::OtlpGrpc) => TracingProtocol::OtlpGrpc,
        Ok(wire::tracing::Protocol::OtlpHttp) => TracingProtocol::OtlpHttp,
        Err(_) => return Err(Problem::Value(wire.protocol).of("tracing.protocol")),
    };
    Ok(Tracing { protocol, collector: wire.collector, sampling: wire.sampling, path: wire.path })
}

fn listener(wire: wire::Listener) -> Result<Listener, InvalidField> {
    let port = invalid::port(wire.port).map_err(|problem| problem.of("port"))?;
    Ok(Listener { name: wire.name, port, http: HttpTable::parse(wire.http)? })
}

impl TryFrom<wire::Service> for Service {
    type Error = InvalidResource;

    fn try_from(wire: wire::Service) -> Result<Self, InvalidResource> {
        let key = ServiceKey::new(&wire.namespace, &wire.hostname);
        let parse = || {
            if wire.hostname.is_empty() {
                return Err(Problem::Missing.of("hostname"));
            }
            let (http, tcp) = (HttpTable::parse(wire.http)?, TcpTable::parse(wire.tcp)?);
            Ok(Self { key: key.clone(), policies: policies(&wire.policies)?, http, tcp })
        };
        parse().map_err(|fault| InvalidResource { name: key.to_string(), fault })
    }
}

impl TryFrom<wire::Destination> for Destination {
    type Error = InvalidResource;

    fn try_from(wire: wire::Destination) -> Result<Self, InvalidResource> {
        let key = ServiceKey::new(&wire.namespace, &wire.hostname);
        let parse = || {
            if wire.hostname.is_empty() {
                return Err(Problem::Missing.of("hostname"));
            }
            let subsets = wire.subsets.into_iter().enumerate();
            let subsets = subsets.map(|(place, wire)| {
                let name = wire.name.as_str().into();
                subset(wire).within("subsets", place).map(|subset| (name, subset))
            });
            Ok(Self {
                key: key.clone(),
                policy: traffic(wire.policy.unwrap_or_default())?,
                ports: port_policies(wire.ports)?,
                subsets: subsets.collect::<Result<_, _>>()?,
            })
        };
        parse().map_err(|fault| InvalidResource { name: key.to_string(), fault })
    }
}

fn subset(wire: wire::Subset) -> Result<Subset, InvalidField> {
    Ok(Subset {
        labels: wire.labels.into_iter().collect(),
        policy: wire.policy.map(traffic).transpose()?,
        ports: port_policies(wire.ports)?,
    })
}

fn port_policies(wire: Vec<wire::PortPolicy>) -> Result<BTreeMap<u16, Arc<TrafficPolicy>>, InvalidField> {
    let policies = wire.into_iter().map(|wire| {
        let port = invalid::port(wire.port).map_err(|problem| problem.of("ports.port"))?;
        Ok((port, traffic(wire.policy.unwrap_or_default())?))
    });
    policies.collect()
}

fn traffic(wire: wire::TrafficPolicy) -> Result<Arc<TrafficPolicy>, InvalidField> {
    use wire::traffic_policy::LoadBalancer as Wire;
    let load_balancer = match Wire::try_from(wire.load_balancer) {
        Ok(Wire::LeastRequest) => LoadBalancer::LeastRequest,
        Ok(Wire::RoundRobin) => LoadBalancer::RoundRobin,
        Ok(Wire::Random) => LoadBalancer::Random,
        Err(_) => return Err(Problem::Value(wire.load_balancer).of("load_balancer")),
    };
    Ok(Arc::new(TrafficPolicy {
        load_balancer,
        max_connections: NonZeroU32::new(wire.max_connections),
        connect_timeout: duration(wire.connect_timeout_ms),
        max_pending_requests: NonZeroU32::new(wire.max_pending_requests),
        max_requests: NonZeroU32::new(wire.max_requests),
        max_requests_per_connection: NonZeroU32::new(wire.max_requests_per_connection),
        max_retries: NonZeroU32::new(wire.max_retries),
        idle_timeout: duration(wire.idle_timeout_ms),
        max_concurrent_streams: NonZeroU32::new(wire.max_concurrent_streams),
        upgrade_to_h2: wire.upgrade_to_h2,
        outlier: wire.outlier.map(outlier),
    }))
}

fn outlier(wire: wire::OutlierDetection) -> Outlier {
    Outlier {
        consecutive_5xx: wire.consecutive_5xx,
        consecutive_gateway: wire.consecutive_gateway,
        consecutive_local: wire.consecutive_local,
        split_local: wire.split_local,
        interval: duration(wire.interval_ms).unwrap_or(OUTLIER_INTERVAL),
        base_ejection: duration(wire.base_ejection_ms).unwrap_or(BASE_EJECTION),
        max_ejection_percent: wire.max_ejection_percent,
        min_health_percent: wire.min_health_percent,
    }
}

impl TryFrom<wire::Workload> for Workload {
    type Error = InvalidResource;

    fn try_from(wire: wire::Workload) -> Result<Self, InvalidResource> {
        let name = wire.uid.clone();
        workload(wire).map_err(|fault| InvalidResource { name, fault })
    }
}

fn workload(wire: wire::Workload) -> Result<Workload, InvalidField> {
    if wire.uid.is_empty() {
        return Err(Problem::Missing.of("uid"));
    }
    let aliases = wire.port_aliases.iter().map(|wire| {
        let port = invalid::port(wire.port).map_err(|problem| problem.of("port_aliases.port"))?;
        Ok(PortAlias { port, targets: ports(&wire.targets, "port_aliases.targets")? })
    });
    let locks = wire.locks.iter().enumerate().map(|(place, wire)| lock(wire).within("locks", place));
    Ok(Workload {
        port_aliases: aliases.collect::<Result<_, _>>()?,
        locks: locks.collect::<Result<_, _>>()?,
        policies: policies(&wire.policies)?,
        uid: Uid(wire.uid.into()),
        labels: Arc::new(wire.labels.into_iter().collect()),
    })
}

fn lock(wire: &wire::Lock) -> Result<Lock, InvalidField> {
    Ok(Lock {
        port: port(wire.port, "port")?.map(NonZeroU16::get),
        service: service_key(&wire.service, "service")?,
        service_ports: ports(&wire.service_ports, "service_ports")?,
        policies: policies(&wire.policies)?,
    })
}
