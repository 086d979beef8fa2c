//! Where the kubelet will connect to a pod by itself: its probes and the requests of its lifecycle hooks.

use ambit_crds::pod::{Container, HttpGet, IntOrString, Pod, Probe, Protocol};

use crate::redirect::rules::ProbePorts;

/// The TCP ports of a pod that the kubelet connects to. Commands need none; what names a host of its own is no business of
/// this pod's.
pub(super) fn ports(pod: &Pod) -> ProbePorts {
    ProbePorts(pod.serving_containers().flat_map(of_container).collect())
}

fn of_container(container: &Container) -> impl Iterator<Item = u16> {
    let probes = [&container.readiness_probe, &container.startup_probe, &container.liveness_probe];
    let hooks = container.lifecycle.iter().flat_map(|cycle| [&cycle.post_start, &cycle.pre_stop]);
    let hooks =
        hooks.flatten().filter_map(|hook| hook.http_get.as_ref()).filter_map(|get| http(container, get));
    probes.into_iter().flatten().filter_map(|probe| of_probe(container, probe)).chain(hooks)
}

fn of_probe(container: &Container, probe: &Probe) -> Option<u16> {
    let get = probe.http_get.as_ref().and_then(|get| http(container, get));
    let tcp = || {
        probe
            .tcp_socket
            .as_ref()
            .filter(|tcp| tcp.host.is_empty())
            .and_then(|tcp| number(container, &tcp.port))
    };
    let grpc = || probe.grpc.as_ref().map(|grpc| grpc.port);
    get.or_else(tcp).or_else(grpc).filter(|port| *port > 0)
}

fn http(container: &Container, get: &HttpGet) -> Option<u16> {
    if get.host.is_empty() { number(container, &get.port) } else { None }
}

/// A name is one of the container's own ports.
fn number(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Number(number) => Some(*number),
        IntOrString::Name(name) => {
            let named =
                |port: &&ambit_crds::pod::ContainerPort| port.name == *name && port.protocol == Protocol::Tcp;
            container.ports.iter().find(named).map(|port| port.container_port)
        }
    }
}

#[cfg(test)]
mod tests {
    use ambit_crds::pod::PodSpec;

    use super::*;

    fn ports_of(container: serde_json::Value) -> Vec<u16> {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod =
            Pod { spec: PodSpec { containers: vec![container], ..PodSpec::default() }, ..Pod::default() };
        ports(&pod).0.into_iter().collect()
    }

    #[test]
    fn every_kind_of_probe_tells_its_port() {
        let container = serde_json::json!({
            "name": "web",
            "ports": [{"name": "health", "containerPort": 8081}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "health"}},
            "livenessProbe": {"tcpSocket": {"port": 9000}},
            "startupProbe": {"grpc": {"port": 9001}},
            "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 9002}}, "postStart": {"exec": {"command": ["x"]}}},
        });
        assert_eq!(ports_of(container), [8081, 9000, 9001, 9002]);
    }

    #[test]
    fn what_needs_no_connection_to_the_pod_tells_none() {
        for probe in [
            serde_json::json!({"exec": {"command": ["true"]}}),
            serde_json::json!({"httpGet": {"port": 80, "host": "10.9.9.9"}}),
            serde_json::json!({"tcpSocket": {"port": 80, "host": "10.9.9.9"}}),
            serde_json::json!({"httpGet": {"port": "nowhere"}}),
            serde_json::json!({"tcpSocket": {"port": "dns"}}),
        ] {
            let container = serde_json::json!({
                "name": "web", "readinessProbe": probe,
                "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 80}],
            });
            assert_eq!(ports_of(container), [0_u16; 0], "{probe}");
        }
    }
}
