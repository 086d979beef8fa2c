//! Definitions: the API server knows every field that the guides' manifests use, and says so of those that nobody knows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ambit_lab::cluster::Cluster;
use ambit_lab::manifest::{Document, parse};

use crate::mesh::installed;
use crate::support::{Check, check};

/// Manifests of the guides' shape.
const OWN: [(&str, &str); 5] = [
    ("web.yaml", include_str!("../manifests/waypoint/web.yaml")),
    ("backend.yaml", include_str!("../manifests/waypoint/backend.yaml")),
    ("myapp.yaml", include_str!("../manifests/waypoint/myapp.yaml")),
    ("reviews.yaml", include_str!("../manifests/waypoint/reviews.yaml")),
    ("later.yaml", include_str!("../manifests/waypoint/later.yaml")),
];
/// What no cluster has a definition for: an installation file is given to `ambit install`, and weights of SMI come later.
const ELSEWHERE: [&str; 2] = ["IstioOperator", "TrafficSplit"];
/// A field that nobody knows, and a value of the wrong type.
const WRONG: [(&str, &str); 2] =
    [("{mtls: {mode: STRICT}, selecter: {}}", "selecter"), ("{mtls: {mode: [STRICT]}}", "spec.mtls.mode")];

pub(crate) fn manifests(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let mut files: Vec<_> = OWN.map(|(name, text)| (PathBuf::from(name), text.to_owned())).into();
    if let Some(folder) = std::env::var_os("AMBIT_GUIDES") {
        files.extend(read(Path::new(&folder))?);
    }
    let mut count = 0;
    for (path, text) in &files {
        let (mut documents, faults) = parse(path, text);
        check(faults.is_empty(), || format!("{faults:?}"))?;
        documents.retain(|document| !ELSEWHERE.contains(&document.key.kind.as_str()));
        if !documents.is_empty() {
            apply(cluster, path, &documents)?;
        }
        count += documents.len();
    }
    println!("{count} manifests");
    refused(cluster)
}

fn read(folder: &Path) -> Result<Vec<(PathBuf, String)>, libtest_mimic::Failed> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    check(!files.is_empty(), || format!("no guide in {}", folder.display()))?;
    files.into_iter().map(|file| Ok((file.clone(), std::fs::read_to_string(file)?))).collect()
}

/// Applies a file's documents, each as it stands, and takes them away again.
fn apply(cluster: &Cluster, path: &Path, documents: &[Document]) -> Check {
    let namespaces: BTreeSet<_> = documents.iter().map(|document| document.key.namespace.as_str()).collect();
    let spaces = namespaces
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"));
    cluster.apply(&spaces.collect::<Vec<_>>().join("\n---\n"))?;
    let texts: Vec<_> = documents.iter().map(|document| document.value.to_string()).collect();
    let text = texts.join("\n---\n");
    let said = cluster.fed(&["apply", "--validate=strict", "-f", "-"], &text)?;
    check(said.well(), || format!("{}: {}", path.display(), said.all()))?;
    let named = said.out.lines().count();
    check(named == documents.len(), || format!("{}: {named} of {}", path.display(), documents.len()))?;
    // Some files give an object twice, as steps of a story.
    cluster.fed(&["delete", "--ignore-not-found", "--wait=false", "-f", "-"], &text)?;
    Ok(())
}

/// The controls: the same command refuses what is wrong, and names the field.
fn refused(cluster: &Cluster) -> Check {
    for (spec, field) in WRONG {
        let text = format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: wrong, namespace: default}}, spec: {spec}}}"
        );
        let said = cluster.fed(&["apply", "--validate=strict", "-f", "-"], &text)?;
        check(!said.well() && said.err.contains(field), || format!("{spec}: {}", said.all()))?;
    }
    Ok(())
}
