//! Scenarios on a lab.

use std::path::Path;
use std::time::Duration;

use super::backend::Backend;
use super::file::Question;
use crate::Lab;
use crate::command::Said;
use crate::component::Component;
use crate::error::LabError;
use crate::manifest::parse;
use crate::metrics::Samples;

/// How long an expectation may take once every proxy has acknowledged everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running lab as scenarios see it.
pub struct OnLab<'a> {
    lab: &'a Lab,
}

impl<'a> OnLab<'a> {
    /// This lab.
    pub fn new(lab: &'a Lab) -> Self {
        Self { lab }
    }
}

impl Backend for OnLab<'_> {
    fn apply(&self, yaml: &str) -> Result<(), LabError> {
        let faults = self.lab.apply(yaml)?;
        faults.first().map_or(Ok(()), |fault| Err(LabError::Manifest(fault.to_string())))
    }

    fn delete(&self, yaml: &str) -> Result<(), LabError> {
        let (documents, faults) = parse(Path::new("scenario"), yaml);
        if let Some(fault) = faults.first() {
            return Err(LabError::Manifest(fault.to_string()));
        }
        self.lab.delete(&documents.into_iter().map(|document| document.key).collect::<Vec<_>>())
    }

    fn label(&self, kind: &str, name: &str, label: &str) -> Result<(), LabError> {
        self.lab.label(kind, name, &[label])
    }

    fn settled(&self) -> Result<(), LabError> {
        self.lab.settled()
    }

    fn exec(&self, pod: &str, words: &[&str]) -> Result<Said, LabError> {
        Ok(self.lab.exec(&self.lab.pod(pod)?, words)?.into())
    }

    fn secured(&self, client: &str, server: &str) -> Result<f64, LabError> {
        let labels = [
            ("reporter", "destination"),
            ("connection_security_policy", "mutual_tls"),
            ("source_principal", client),
            ("destination_principal", server),
        ];
        let count = |samples: Samples| samples.sum("istio_tcp_connections_opened_total", &labels);
        let ztunnels = self.lab.nodes().map(Component::Ztunnel);
        ztunnels.map(|ztunnel| self.lab.metrics(ztunnel).map(count)).sum()
    }

    fn explain(&self, question: &Question) -> Result<Said, LabError> {
        let Question { from, to, method, path } = question;
        let client = self.lab.pod(from)?;
        let from = format!("{}/{}", client.namespace, client.name);
        let mut command = std::process::Command::new(crate::settings::programs().join("ambit"));
        command.arg("explain");
        for folder in self.lab.sources() {
            command.arg("--dir").arg(folder);
        }
        command.args(["--from", &from, "--to", to, "--method", method, "--path", path]);
        Ok(command.output().map_err(LabError::system("running ambit explain"))?.into())
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
