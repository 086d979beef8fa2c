//! Waypoints in the lab: what a container with the image ambit/waypoint is started with, and the folder in which the
//! controller leaves the Deployments it wants.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::address::CONTROL;
use crate::component::{Served, XDS_PORT};
use crate::error::LabError;
use crate::manifest::{text, texts};
use crate::state::Folders;
use crate::tokens::{Claims, Tokens};

/// Label that names the Gateway a pod serves.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// What every waypoint of a lab's mesh is started with.
#[derive(Debug)]
pub(crate) struct Waypoints {
    /// The program.
    pub(crate) file: PathBuf,
    /// Who issues their tokens.
    pub(crate) tokens: Arc<Tokens>,
    /// The lab's folders.
    pub(crate) folders: Folders,
    /// Settings on top of the lab's.
    pub(crate) settings: Vec<(String, String)>,
}

impl Waypoints {
    /// The command for a waypoint's pod, over its container's environment and with a fresh token.
    pub(crate) fn command(
        &self,
        pod: &Value,
        environment: &BTreeMap<String, String>,
    ) -> Result<Command, LabError> {
        if !self.file.is_file() {
            return Err(LabError::Program(self.file.clone()));
        }
        let claims = Claims::of_pod(pod);
        let token = self.folders.inside("tokens").join(&claims.pod.1);
        crate::manifest::write_whole(&token, &self.tokens.mint(&claims))
            .map_err(LabError::system("writing a token"))?;
        let mut command = Command::new(&self.file);
        command
            .env_clear()
            .envs(crate::settings::inherited())
            .env("RUST_LOG", crate::settings::log_filter())
            .envs(environment)
            .envs(self.environment(pod, &claims, token))
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn environment(&self, pod: &Value, claims: &Claims, token: PathBuf) -> BTreeMap<&'static str, OsString> {
        let address = format!("https://{}:{XDS_PORT}", CONTROL.v4);
        let root = self.folders.root();
        let gateway = texts(pod, &["metadata", "labels"]).remove(GATEWAY);
        BTreeMap::from([
            ("XDS_ADDRESS", address.clone().into()),
            ("CA_ADDRESS", address.into()),
            ("XDS_ROOT_CA", root.clone().into()),
            ("CA_ROOT_CA", root.into()),
            ("AUTH_TOKEN", token.into()),
            ("CLUSTER_ID", "Kubernetes".into()),
            ("CLUSTER_DOMAIN", "cluster.local".into()),
            ("TRUST_DOMAIN", "cluster.local".into()),
            ("NETWORK", "".into()),
            ("NODE_NAME", claims.node.clone().into()),
            ("POD_NAME", claims.pod.0.clone().into()),
            ("POD_NAMESPACE", claims.namespace.clone().into()),
            ("SERVICE_ACCOUNT", claims.service_account.clone().into()),
            ("INSTANCE_IP", text(pod, &["status", "podIP"]).unwrap_or_default().into()),
            ("GATEWAY_NAME", gateway.unwrap_or_else(|| claims.service_account.clone()).into()),
        ])
    }
}

/// Where a waypoint serves, in its pod's network namespace.
pub(crate) fn port(service: Served) -> u16 {
    match service {
        Served::Administration => 15000,
        Served::Metrics => 15020,
        Served::Readiness => 15021,
    }
}

/// The files of a folder as they are now: a file that was replaced has another inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(BTreeMap<PathBuf, (u64, i64, i64)>);

impl Stamp {
    /// Looks at the JSON files of a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let stamps = files.filter_map(|path| {
            let about = std::fs::metadata(&path).ok()?;
            Some((path, (about.ino(), about.mtime(), about.mtime_nsec())))
        });
        Stamp(stamps.collect())
    }
}
