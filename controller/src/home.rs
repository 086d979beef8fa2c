//! What differs between the two homes: where objects come from, who says whose a token is, where the CA's key lies, and what
//! is kept up besides. Nothing else asks where it runs.

#[cfg(feature = "kubernetes")]
mod cluster;

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use ambit_crds::origin::Origin;
use ambit_crds::source::Started;
use tokio::sync::watch;

use crate::ca::authority::Authority;
use crate::ca::keep::KeepError;
use crate::ca::signer::SignerError;
use crate::ca::tokens::Verifier;
use crate::gate::Vouching;
use crate::settings::{CaFiles, Settings};

/// Namespaces whose pods need the mesh's roots; `None` until the first listing is complete.
pub(crate) type Trusting = Option<BTreeSet<String>>;

/// Where the controller runs.
pub(crate) enum Home {
    /// Beside folders of manifests.
    Folders,
    /// In a cluster.
    #[cfg(feature = "kubernetes")]
    Cluster(cluster::Cluster),
}

/// Why the CA cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Its files.
    #[error("the CA's root: {0}")]
    Root(#[from] KeepError),
    /// Its Secret.
    #[error("Secret {name}: {cause}")]
    Secret {
        /// `namespace/name`.
        name: String,
        /// What is wrong with it.
        cause: SignerError,
    },
}

impl Home {
    /// Begins to read objects.
    pub(crate) async fn enter(settings: &Settings) -> io::Result<(Self, Started)> {
        match &settings.origin {
            Origin::Directories(_) => Ok((Self::Folders, settings.origin.clone().open().await?)),
            #[cfg(feature = "kubernetes")]
            Origin::Kubernetes { view, lease } => {
                let (cluster, started) = cluster::Cluster::enter(view, lease.as_ref(), settings).await?;
                Ok((Self::Cluster(cluster), started))
            }
        }
    }

    /// Who signs. In a cluster this waits for the API server.
    pub(crate) async fn authority(&self, settings: &Settings) -> Result<Authority, CaError> {
        match self {
            Self::Folders => {
                let CaFiles { dir, .. } = files(settings);
                Ok(Authority::open(&dir, &settings.ca.trust_domain, SystemTime::now())?)
            }
            #[cfg(feature = "kubernetes")]
            Self::Cluster(cluster) => cluster.signer(&settings.ca.trust_domain).await.map(Authority::new),
        }
    }

    /// Who says whose a token is.
    pub(crate) fn vouching(&self, settings: &Settings) -> Vouching {
        match self {
            Self::Folders => {
                let CaFiles { keys, tokens, .. } = files(settings);
                Vouching::Keys(Verifier::new(keys, tokens))
            }
            #[cfg(feature = "kubernetes")]
            Self::Cluster(cluster) => Vouching::Reviews(cluster.reviews(settings.ca.audience.clone())),
        }
    }

    /// Keeps up what nobody else does, for as long as we lead.
    #[cfg_attr(
        not(feature = "kubernetes"),
        expect(unused_variables, reason = "folders need nothing of the kind")
    )]
    pub(crate) fn keep_up(&self, roots: &str, trusting: watch::Receiver<Trusting>) {
        match self {
            Self::Folders => {}
            #[cfg(feature = "kubernetes")]
            Self::Cluster(cluster) => cluster.keep_up(roots, trusting),
        }
    }

    /// Lets another replica lead.
    pub(crate) async fn leave(self) {
        match self {
            Self::Folders => {}
            #[cfg(feature = "kubernetes")]
            Self::Cluster(cluster) => cluster.leave().await,
        }
    }
}

/// Settings have them wherever there is no cluster.
fn files(settings: &Settings) -> CaFiles {
    settings.ca.files.clone().expect("folders come with files of the CA")
}
