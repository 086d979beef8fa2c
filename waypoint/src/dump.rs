//! `/config_dump`: what this waypoint knows and does.

use serde_json::{Value, json};

use crate::mesh::Mesh;

/// Everything, as one JSON value.
pub fn dump(mesh: &Mesh) -> Value {
    let snapshot = mesh.view.load();
    let waypoint = &snapshot.waypoint;
    let rows = mesh.settings.rows.iter();
    let config = rows.map(|row| (row.name.to_string(), Value::String(row.value.to_string())));
    json!({
        "gateway": waypoint.gateway.as_ref().map(|gateway| json!({
            "namespace": gateway.namespace,
            "name": gateway.name,
            "policies": names(&gateway.policies),
            "listeners": gateway.listeners.iter().map(|listener| listener.port).collect::<Vec<_>>(),
        })),
        "services": waypoint.services.values().map(|service| json!({
            "name": service.key.to_string(),
            "policies": names(&service.policies),
            "http": service.http.rules.iter().map(|rule| &*rule.origin).collect::<Vec<_>>(),
            "tcp": service.tcp.rules.iter().map(|rule| &*rule.origin).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "destinations": waypoint.destinations.values().map(|destination| json!({
            "name": destination.key.to_string(),
            "subsets": destination.subsets.keys().map(|name| &**name).collect::<Vec<_>>(),
            "endpoints": snapshot.services.get(&destination.key).into_iter()
                .flat_map(|entry| entry.endpoints.endpoints())
                .map(|endpoint| endpoint.workload.uid.to_string()).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "workloads": waypoint.workloads.values().map(|workload| json!({
            "uid": workload.uid.to_string(),
            "labels": *workload.labels,
            "policies": names(&workload.policies),
            "locks": workload.locks.iter().map(|lock| lock.service.to_string()).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "policies": waypoint.policies.values().map(|policy| json!({
            "name": policy.key.to_string(),
            "action": format!("{:?}", policy.action),
            "dryRun": policy.dry_run,
            "closed": policy.closed,
            "rules": policy.rules.len(),
        })).collect::<Vec<_>>(),
        "certificates": mesh.credentials.dump(),
        "openConnections": mesh.open.now(),
        "overload": {
            "level": mesh.overload.level().to_string(),
            "memoryUsed": mesh.overload.used(),
            "memoryCharged": mesh.overload.charged(),
            "memoryCeiling": mesh.overload.ceiling(),
        },
        "config": Value::Object(config.collect()),
        "version": { "version": env!("CARGO_PKG_VERSION") },
    })
}

fn names(policies: &[ambit_api::policy::PolicyKey]) -> Vec<String> {
    policies.iter().map(ToString::to_string).collect()
}
