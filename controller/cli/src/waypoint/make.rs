//! Waypoints made and removed.

use serde_json::{Value, json};

use super::list::{condition, waypoints};
use super::{Applied, CLASS, Deleted, Described, REVISION, USE_WAYPOINT, WAYPOINT_FOR};
use crate::cluster::{Cluster, Verb, annotation, kinds, label, name, told};
use crate::enroll;
use crate::failure::{End, Failure};
use crate::install::Waiter;
use crate::output;

/// Prints the Gateway.
pub(super) fn generate(described: &Described) -> Result<End, Failure> {
    let gateway = gateway(described)?;
    let text = serde_saphyr::to_string(&gateway).map_err(|error| output::unprintable(&error))?;
    output::text(&text)?;
    Ok(End::Yes)
}

/// The Gateway of a waypoint.
pub(super) fn gateway(described: &Described) -> Result<Value, Failure> {
    if described.name == "none" {
        let says = "no waypoint may be called none: a label with that value means to have none";
        return Err(Failure::new(says, "name it otherwise: --name waypoint"));
    }
    let mut labels = json!({});
    if let Some(traffic) = described.traffic {
        labels[WAYPOINT_FOR] = json!(traffic.word());
    }
    if let Some(revision) = &described.revision {
        labels[REVISION] = json!(revision);
    }
    Ok(json!({
        "apiVersion": kinds::GATEWAY.api_version,
        "kind": kinds::GATEWAY.kind,
        "metadata": { "name": described.name, "namespace": described.namespace, "labels": labels },
        "spec": {
            "gatewayClassName": CLASS,
            "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }],
        },
    }))
}

/// Makes or changes one.
pub(super) fn apply(applied: &Applied) -> Result<End, Failure> {
    let gateway = gateway(&applied.described)?;
    let cluster = applied.to.open()?;
    put(&cluster, &gateway, applied)?;
    if applied.wait {
        let late = Waiter::new(&cluster, applied.timeout).until_nothing_lags(|| lags(&cluster, &gateway));
        late.map_err(|lags| {
            let mend = format!(
                "see what holds it up: ambit waypoint status -n {}{}",
                applied.described.namespace, cluster.flags
            );
            Failure::new(
                format!("not ready after {} s: {}", applied.timeout.as_secs(), lags.join("; ")),
                mend,
            )
        })?;
        output::line(&format!("{} is ready", told(&gateway)))?;
    }
    Ok(End::Yes)
}

pub(super) fn put(cluster: &Cluster, gateway: &Value, applied: &Applied) -> Result<(), Failure> {
    let described = &applied.described;
    let namespace = cluster.get(&kinds::NAMESPACE, "", &described.namespace);
    let namespace = namespace.map_err(|refused| cluster.failed("namespace", &refused))?;
    let namespace = namespace.ok_or_else(|| {
        let says = format!("there is no namespace {}", described.namespace);
        Failure::new(
            says,
            format!("make it: kubectl{} create namespace {}", cluster.flags, described.namespace),
        )
    })?;
    // Before anything is changed.
    let other = label(&namespace, USE_WAYPOINT).filter(|other| *other != described.name);
    if let Some(other) = other.filter(|_| applied.enroll_namespace && !applied.overwrite) {
        let says = format!("namespace {} has another waypoint: {other}", described.namespace);
        return Err(Failure::new(
            says,
            "replace it: --overwrite; or use that one: leave out --enroll-namespace",
        ));
    }
    let verb = if applied.overwrite { Verb::ApplyForced } else { Verb::Apply };
    cluster.apply(gateway, verb).map_err(|refused| match refused.code {
        404 => Failure::new(
            "the cluster has no Gateway API",
            format!("install it with Ambit: ambit install{}", cluster.flags),
        ),
        409 => Failure::new(
            format!("{}: somebody else has set fields of it: {refused}", told(gateway)),
            "take them over: --overwrite",
        ),
        _ => cluster.failed(&told(gateway), &refused),
    })?;
    output::line(&format!("{} is applied", told(gateway)))?;
    if applied.enroll_namespace {
        let change = json!({ "metadata": { "labels": { USE_WAYPOINT: described.name } } });
        let changed = cluster.merge(&namespace, &change);
        changed.map_err(|refused| cluster.failed(&told(&namespace), &refused))?;
        let named = format!("namespace {} has waypoint {}", described.namespace, described.name);
        output::line(&named)?;
        if !enroll::is_enrolled(&namespace) {
            eprintln!(
                "ambit: namespace {0} is not in the mesh, so nothing goes by its waypoint; ambit enroll {0}{1}",
                described.namespace, cluster.flags
            );
        }
    }
    Ok(())
}

/// What a waypoint still lacks.
pub(super) fn lags(cluster: &Cluster, gateway: &Value) -> Result<Vec<String>, Failure> {
    let held = cluster.held(gateway).map_err(|refused| cluster.failed(&told(gateway), &refused))?;
    let programmed = held.as_ref().and_then(|held| condition(held, "Programmed"));
    // A condition of an earlier generation says nothing about this one.
    let generation = held.as_ref().map(|held| held["metadata"]["generation"].clone()).unwrap_or_default();
    let is_current = |observed: &Value| observed.is_null() || *observed == generation;
    let current = programmed.filter(|one| is_current(&one["observedGeneration"]));
    Ok(match current {
        Some(one) if one["status"] == "True" => Vec::new(),
        Some(one) => vec![format!("{}: {}", told(gateway), one["message"].as_str().unwrap_or_default())],
        None => vec![format!("{}: no controller has taken it up yet", told(gateway))],
    })
}

/// Removes some, or all of a namespace.
pub(super) fn delete(deleted: &Deleted) -> Result<End, Failure> {
    let cluster = deleted.to.open()?;
    let held = waypoints(&cluster, &deleted.namespace)?;
    for wanted in &deleted.names {
        if !held.iter().any(|gateway| name(gateway) == wanted) {
            let says = format!("there is no waypoint {wanted} in namespace {}", deleted.namespace);
            let mend = format!("see which there are: ambit waypoint list -A{}", cluster.flags);
            return Err(Failure::new(says, mend));
        }
    }
    let named = |gateway: &&Value| deleted.all || deleted.names.iter().any(|wanted| name(gateway) == wanted);
    remove(&cluster, &deleted.namespace, &held.iter().filter(named).collect::<Vec<_>>())?;
    Ok(End::Yes)
}

/// First nobody names it any more, then it goes: no traffic is sent to one that is gone.
pub(super) fn remove(cluster: &Cluster, namespace: &str, gateways: &[&Value]) -> Result<(), Failure> {
    let held = cluster.get(&kinds::NAMESPACE, "", namespace);
    let held = held.map_err(|refused| cluster.failed("namespace", &refused))?.unwrap_or_default();
    for gateway in gateways {
        if annotation(gateway, "ambit.mesh/auto").is_some() {
            eprintln!(
                "ambit: the controller made {} because the namespace asks for it, and may make it anew",
                told(gateway)
            );
        }
        if label(&held, USE_WAYPOINT) == Some(name(gateway)) {
            let change = json!({ "metadata": { "labels": { USE_WAYPOINT: null } } });
            cluster.merge(&held, &change).map_err(|refused| cluster.failed(&told(&held), &refused))?;
            output::line(&format!("namespace {namespace} has no waypoint any more"))?;
        }
        cluster.delete(gateway).map_err(|refused| cluster.failed(&told(gateway), &refused))?;
        output::line(&format!("{} is removed", told(gateway)))?;
    }
    Ok(())
}
