//! `/config_dump`: what this proxy knows and does, in the shape that `istioctl ztunnel-config` reads.

use std::collections::BTreeMap;

use ambit_discovery::view::Snapshot;
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::pods::Pods;
use crate::report::{Direction, LiveConnection};

/// Everything, as one JSON value.
pub fn dump(mesh: &Mesh, pods: &Pods) -> Value {
    let snapshot = mesh.view.load();
    json!({
        "workloads": workloads(&snapshot),
        "services": services(&snapshot),
        "policies": snapshot.policies.iter().collect::<Vec<_>>(),
        "certificates": mesh.credentials.dump(),
        "workloadState": states(mesh, pods),
        "config": settings(mesh),
        "limits": { "connections": mesh.limits.process, "connectionsPerPod": mesh.limits.pod },
        "overload": {
            "level": mesh.overload.level().to_string(),
            "memoryUsed": mesh.overload.used(),
            "memoryCharged": mesh.overload.charged(),
            "memoryCeiling": mesh.overload.ceiling(),
        },
        "version": { "version": env!("CARGO_PKG_VERSION") },
    })
}

fn settings(mesh: &Mesh) -> Value {
    let rows = mesh.settings.table.iter();
    Value::Object(rows.map(|row| (row.name.to_string(), Value::String(row.value.to_string()))).collect())
}

fn workloads(snapshot: &Snapshot) -> Value {
    snapshot
        .workloads
        .iter()
        .map(|workload| {
            json!({
                "uid": workload.uid,
                "name": workload.name,
                "namespace": workload.namespace,
                "serviceAccount": workload.service_account,
                "trustDomain": workload.trust_domain,
                "workloadIps": workload.addresses,
                "protocol": match workload.tunnel {
                    ambit_api::workload::TunnelProtocol::Hbone => "HBONE",
                    ambit_api::workload::TunnelProtocol::Plain => "TCP",
                },
                "waypoint": workload.waypoint,
                "node": workload.node,
                "canonicalName": workload.canonical_name,
                "canonicalRevision": workload.canonical_revision,
                "workloadName": workload.workload_name,
                "workloadType": workload.workload_type,
                "status": workload.health,
                "clusterId": workload.cluster,
                "network": workload.network,
                "services": workload.services.keys().map(ToString::to_string).collect::<Vec<_>>(),
                "authorizationPolicies": workload.policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn services(snapshot: &Snapshot) -> Value {
    snapshot
        .services
        .iter()
        .map(|entry| {
            let service = &entry.service;
            let ports: BTreeMap<_, _> =
                service.ports.iter().map(|port| (port.service_port.to_string(), port.target_port)).collect();
            json!({
                "name": service.name,
                "namespace": service.key.namespace,
                "hostname": service.key.hostname,
                "vips": service.vips.iter().map(|vip| format!("{}/{}", vip.network.0, vip.prefix)).collect::<Vec<_>>(),
                "ports": ports,
                "waypoint": service.waypoint,
                "endpoints": entry.endpoints.endpoints().iter()
                    .map(|endpoint| endpoint.workload.uid.to_string()).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn states(mesh: &Mesh, pods: &Pods) -> Value {
    let live = mesh.report.live();
    let connections = |uid: &str, direction: Direction| -> Vec<Value> {
        live.iter().filter(|live| *live.pod == *uid && live.direction == direction).map(connection).collect()
    };
    let states: serde_json::Map<String, Value> = pods
        .list()
        .into_iter()
        .map(|pod| {
            let state = json!({
                "state": *pod.phase.borrow(),
                "info": {
                    "name": pod.name.name,
                    "namespace": pod.name.namespace,
                    "serviceAccount": pod.name.service_account,
                },
                "openConnections": pod.open_connections(),
                "connections": {
                    "inbound": connections(&pod.uid, Direction::Inbound),
                    "outbound": connections(&pod.uid, Direction::Outbound),
                },
            });
            (pod.uid.to_string(), state)
        })
        .collect();
    Value::Object(states)
}

fn connection(live: &LiveConnection) -> Value {
    json!({
        "src": live.client,
        "originalDst": live.dialled,
        "actualDst": live.target,
        "protocol": if live.secured { "HBONE" } else { "TCP" },
        "seconds": live.begun.elapsed().as_secs(),
        "nearToFarBytes": live.counters.sent(),
        "farToNearBytes": live.counters.received(),
    })
}
