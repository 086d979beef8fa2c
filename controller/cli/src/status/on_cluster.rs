//! The programs of a cluster's mesh, as its API server knows them.

use serde_json::Value;

use super::{Program, Ready, Status, Sync};
use crate::check;
use crate::cluster::{Cluster, label, name, namespace};
use crate::failure::Failure;
use crate::version;

/// On a waypoint's pod: its Gateway.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// Everything that runs, and what is wrong with it.
pub(super) fn gather(cluster: &Cluster) -> Result<Status, Failure> {
    let mut programs: Vec<Program> =
        version::pods(cluster)?.iter().map(|(program, pod)| row(program, pod)).collect();
    programs.sort_by(|one, other| {
        (&one.program, &one.node, &one.pod).cmp(&(&other.program, &other.node, &other.pod))
    });
    Ok(Status { generation: None, programs, waiting: check::unwell(cluster)? })
}

fn row(program: &str, pod: &Value) -> Program {
    let gateway = label(pod, GATEWAY).filter(|_| program == "waypoint");
    let conditions = pod["status"]["conditions"].as_array();
    let is_ready =
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
    Program {
        program: gateway
            .map_or_else(|| program.to_owned(), |name| format!("waypoint {}/{name}", namespace(pod))),
        node: pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
        pod: format!("{}/{}", namespace(pod), name(pod)),
        version: version::of(pod),
        ready: if is_ready { Ready::Yes } else { Ready::No },
        // Proxies tell the controller alone what they have acknowledged.
        sync: Sync::None,
        acknowledged: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake::Fake;
    use crate::output::Row;
    use crate::version::{MANAGED, MANAGED_BY_US};

    fn pod(place: (&str, &str), labels: Value, ready: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": place.0, "name": place.1, "labels": labels },
            "spec": { "nodeName": "n1", "containers": [{ "image": "ambit/x:0.1" }] },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] } })
    }

    #[test]
    fn programs_are_told_with_what_is_wrong() {
        let own = |app: &str| json!({ "app": app, "app.kubernetes.io/part-of": "ambit" });
        let server = Fake::with(&[
            pod(("ambit-system", "z1"), own("ztunnel"), "True"),
            pod(("ambit-system", "c1"), own("ambit-controller"), "False"),
            pod(("shop", "w1"), json!({ (MANAGED): MANAGED_BY_US, (GATEWAY): "way" }), "True"),
        ]);
        let status = gather(&Cluster::of(server)).unwrap();
        let rows: Vec<String> = status.programs.iter().map(|one| one.cells().join(" ")).collect();
        let expected = [
            "controller n1 ambit-system/c1 0.1 no - -",
            "waypoint shop/way n1 shop/w1 0.1 yes - -",
            "ztunnel n1 ambit-system/z1 0.1 yes - -",
        ];
        assert_eq!(rows, expected);
        assert_eq!(status.waiting, ["there is no deployment ambit-system/ambit-controller; ambit install"]);
    }
}
