//! The state of a lab as a table for people, and as the dump of a failed wait.

use std::fmt::Write;

use serde_json::Value;

use super::Lab;
use crate::component::Component;
use crate::manifest::text;
use crate::process::lock;

/// Most conditions and events shown.
const SHOWN: usize = 40;

impl Lab {
    /// Nodes, programs, pods with their enrolment, faults and conditions.
    pub fn status(&self) -> String {
        let mut table = String::new();
        for node in self.network.nodes.keys().copied() {
            let programs =
                [Component::Agent(node), Component::Ztunnel(node)].map(|component| self.runs(component));
            let _written = writeln!(
                table,
                "{}  {}  agent {}  ztunnel {}",
                node.name(),
                node.address().v4,
                programs[0],
                programs[1]
            );
        }
        let _written = writeln!(table, "controller {}\n", self.runs(Component::Controller));
        let _written = writeln!(
            table,
            "{:<44} {:<8} {:<14} {:<9} {:<6} MESH",
            "POD", "NODE", "ADDRESS", "PHASE", "READY"
        );
        for pod in self.pod_objects() {
            let of = |path: &[&str]| text(&pod, path).unwrap_or("-").to_owned();
            let ready =
                lock(&self.shared.state).pods.get(&of(&["metadata", "uid"])).is_none_or(|pod| pod.ready);
            let mesh = self.redirection(&pod).unwrap_or_else(|| "-".to_owned());
            let name = format!("{}/{}", of(&["metadata", "namespace"]), of(&["metadata", "name"]));
            let (node, address, phase) =
                (of(&["spec", "nodeName"]), of(&["status", "podIP"]), of(&["status", "phase"]));
            let _written = writeln!(table, "{name:<44} {node:<8} {address:<14} {phase:<9} {ready:<6} {mesh}");
        }
        let services = lock(&self.shared.state).services.clone();
        let _written = writeln!(table, "\n{:<44} ADDRESS", "SERVICE");
        for service in services {
            let address = service.address.map_or("None".to_owned(), |address| address.v4.to_string());
            let _written =
                writeln!(table, "{:<44} {address}", format!("{}/{}", service.namespace, service.name));
        }
        for fault in self.faults() {
            let _written = writeln!(table, "fault: {fault}");
        }
        table.push_str(&self.conditions());
        table
    }

    /// Events the mesh has written, oldest first.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder().join("state/events.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn runs(&self, component: Component) -> &'static str {
        if self.pid(component).is_some() { "running" } else { "off" }
    }

    /// Conditions and the last events the mesh has written.
    fn conditions(&self) -> String {
        let mut lines = String::new();
        let files = std::fs::read_dir(self.folder().join("state/status")).into_iter().flatten().flatten();
        for file in files.take(SHOWN) {
            let Ok(Ok(status)) =
                std::fs::read_to_string(file.path()).map(|text| serde_json::from_str::<Value>(&text))
            else {
                continue;
            };
            let conditions =
                status.get("conditions").unwrap_or(&status).as_array().cloned().unwrap_or_default();
            for condition in conditions {
                let of = |field: &str| text(&condition, &[field]).unwrap_or("-").to_owned();
                let name = file.file_name().to_string_lossy().trim_end_matches(".json").to_owned();
                let _written = writeln!(
                    lines,
                    "{name}: {}={} {} {}",
                    of("type"),
                    of("status"),
                    of("reason"),
                    of("message")
                );
            }
        }
        let events = std::fs::read_to_string(self.folder().join("state/events.jsonl")).unwrap_or_default();
        lines + &crate::component::tail(&events, SHOWN / 2)
    }
}
