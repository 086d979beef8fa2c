//! Which source a program reads: a choice of its settings, the same for every program.

use std::io;

use ambit_process::settings::Reader;

use crate::directory::DirectorySource;
#[cfg(feature = "kubernetes")]
use crate::kubernetes::{self, lease::Terms};
use crate::source::{Source, Started};

/// What a program looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// The whole mesh. Of several replicas one writes; it answers routes of Gateways of these classes.
    Mesh {
        /// The classes.
        classes: Vec<String>,
    },
    /// One node, by name.
    Node(String),
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Folders of manifests.
    Directories(DirectorySource),
    /// The cluster that the program runs in, or that `KUBECONFIG` names.
    #[cfg(feature = "kubernetes")]
    Kubernetes {
        /// What is read of it.
        view: View,
        /// By which lease a writer is chosen among replicas.
        lease: Option<Terms>,
    },
}

impl Origin {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>, view: View) -> Self {
        let doc = "Where objects come from: directories or kubernetes";
        match reader.text("AMBIT_SOURCE", "directories", doc).as_str() {
            "directories" => Self::directories(reader),
            "kubernetes" => Self::kubernetes(reader, view),
            other => {
                reader.fault("AMBIT_SOURCE", other, "must be directories or kubernetes");
                Self::Directories(DirectorySource::default())
            }
        }
    }

    fn directories(reader: &mut Reader<'_>) -> Self {
        let listed =
            reader.required("AMBIT_SOURCE_DIRS", "Folders of manifests, separated by colons; later ones win");
        let state =
            reader.path("AMBIT_STATE_DIR", "/var/lib/ambit/state", "Where status and events are written");
        let directories = std::env::split_paths(&listed).filter(|dir| !dir.as_os_str().is_empty()).collect();
        Self::Directories(DirectorySource { directories, state })
    }

    #[cfg(feature = "kubernetes")]
    fn kubernetes(reader: &mut Reader<'_>, view: View) -> Self {
        let lease = match &view {
            View::Node(_) => None,
            View::Mesh { .. } => Some(Terms {
                namespace: reader.text("POD_NAMESPACE", "ambit-system", "Namespace of the leader's lease"),
                name: reader.text("AMBIT_LEASE", "ambit-controller", "Name of the leader's lease"),
                me: reader.required("POD_NAME", "Our name among the replicas, on the leader's lease"),
            }),
        };
        Self::Kubernetes { view, lease }
    }

    #[cfg(not(feature = "kubernetes"))]
    fn kubernetes(reader: &mut Reader<'_>, _: View) -> Self {
        let problem = "this program was built without it; build it with --features kubernetes";
        reader.fault("AMBIT_SOURCE", "kubernetes", problem);
        Self::Directories(DirectorySource::default())
    }

    /// The namespace that the program runs in, if objects come from a cluster.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Directories(_) => None,
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes { lease, .. } => lease.as_ref().map(|terms| terms.namespace.as_str()),
        }
    }

    /// Begins to read. Must be called within a runtime. It takes part in no choice of a leader: who has a lease to lead by begins
    /// with [`crate::kubernetes::lease::lead`].
    pub async fn open(self) -> io::Result<Started> {
        match self {
            Self::Directories(source) => Box::new(source).start(),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes { view, .. } => {
                let client = kubernetes::client().await?;
                Box::new(kubernetes::KubernetesSource::new(client, view, None)).start()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    fn read(pairs: &[(&str, &str)], view: View) -> Result<Origin, String> {
        let environment: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut reader = Reader::new(&environment);
        let origin = Origin::read(&mut reader, view);
        reader.finish().map(|_| origin).map_err(|error| error.to_string())
    }

    #[test]
    fn folders_come_in_order() {
        let expected = Origin::Directories(DirectorySource {
            directories: vec![PathBuf::from("/a"), PathBuf::from("/b")],
            state: PathBuf::from("/s"),
        });
        let pairs = [("AMBIT_SOURCE_DIRS", "/a::/b"), ("AMBIT_STATE_DIR", "/s")];
        assert_eq!(read(&pairs, View::Node("n1".to_owned())), Ok(expected));
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        let node = || View::Node("n1".to_owned());
        assert!(read(&[], node()).unwrap_err().contains("AMBIT_SOURCE_DIRS"));
        assert!(read(&[("AMBIT_SOURCE", "etcd")], node()).unwrap_err().contains("directories or kubernetes"));
    }

    #[cfg(not(feature = "kubernetes"))]
    #[test]
    fn a_build_without_clusters_says_so() {
        let fault = read(&[("AMBIT_SOURCE", "kubernetes")], View::Node("n1".to_owned())).unwrap_err();
        assert!(fault.contains("--features kubernetes"), "{fault}");
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn only_who_reads_the_mesh_needs_a_name_to_lead_by() {
        let cluster = ("AMBIT_SOURCE", "kubernetes");
        let node = View::Node("n1".to_owned());
        let without = Origin::Kubernetes { view: node.clone(), lease: None };
        assert_eq!(read(&[cluster], node), Ok(without));
        let mesh = || View::Mesh { classes: vec!["ambit-waypoint".to_owned()] };
        assert!(read(&[cluster], mesh()).unwrap_err().contains("POD_NAME"));
        let Ok(Origin::Kubernetes { lease: Some(terms), .. }) = read(&[cluster, ("POD_NAME", "a")], mesh())
        else {
            panic!("a lease")
        };
        assert_eq!((terms.namespace.as_str(), terms.me.as_str()), ("ambit-system", "a"));
    }
}
