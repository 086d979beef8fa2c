//! What the mesh's own programs on a cluster say.

use super::Cluster;
use crate::error::LabError;
use crate::metrics::Samples;

/// Where they are.
pub const SYSTEM: &str = "ambit-system";

/// What marks ztunnels, and the port of their metrics.
const ZTUNNELS: &str = "app=ztunnel";
const METRICS: u16 = 15020;

impl Cluster {
    /// Connections that servers' ztunnels have counted as mutual TLS between two identities (`spiffe://…`).
    pub fn secured(&self, client: &str, server: &str) -> Result<f64, LabError> {
        let labels = [
            ("reporter", "destination"),
            ("connection_security_policy", "mutual_tls"),
            ("source_principal", client),
            ("destination_principal", server),
        ];
        let samples = self.ztunnels()?;
        Ok(samples.iter().map(|samples| samples.sum("istio_tcp_connections_opened_total", &labels)).sum())
    }

    /// The metrics of every ztunnel.
    pub fn ztunnels(&self) -> Result<Vec<Samples>, LabError> {
        let pods = self.must(&["get", "pods", "-n", SYSTEM, "-l", ZTUNNELS, "-o", "name"])?;
        let ask = |pod: &str| {
            let pod = pod.trim_start_matches("pod/");
            let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:{METRICS}/proxy/metrics");
            Ok(Samples::parse(&self.must(&["get", "--raw", &path])?))
        };
        pods.lines().map(ask).collect()
    }
}
