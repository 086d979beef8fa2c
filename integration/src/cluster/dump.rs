//! Everything that one would ask a cluster after something went wrong, as one text.

use super::{Cluster, SYSTEM};

/// What marks waypoints' pods.
const WAYPOINTS: &str = "gateway.networking.k8s.io/gateway-name";
/// Lines of each log, and of the events.
const LINES: &str = "120";

impl Cluster {
    /// Pods, events, and the ends of the logs of the mesh's programs.
    pub fn dump(&self) -> String {
        let logs = ["logs", "--all-containers", "--prefix", "--tail", LINES, "--max-log-requests=20"];
        let mut questions: Vec<Vec<&str>> = vec![
            vec!["get", "nodes,pods", "--all-namespaces", "-o", "wide"],
            vec!["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
            [&logs[..], &["-n", SYSTEM, "-l", "app.kubernetes.io/part-of=ambit"]].concat(),
        ];
        let placed = "jsonpath={range .items[*]}{.metadata.namespace}{\"\\n\"}{end}";
        let waypoints = self.must(&["get", "pods", "--all-namespaces", "-l", WAYPOINTS, "-o", placed]);
        let waypoints = waypoints.unwrap_or_default();
        let namespaces: std::collections::BTreeSet<_> = waypoints.lines().collect();
        questions.extend(
            namespaces.iter().map(|namespace| [&logs[..], &["-n", namespace, "-l", WAYPOINTS]].concat()),
        );
        let answers = questions.iter().map(|words| {
            let said = self.kubectl(words).map_or_else(|error| error.to_string(), |said| said.all());
            format!("$ kubectl {}\n{}\n", words.join(" "), said.trim_end())
        });
        answers.collect()
    }
}
