//! Where the mesh is that is asked about.

use std::path::PathBuf;

use clap::Args;

use super::http::{self, Answer};
use super::lab::Lab;
use crate::failure::Failure;

/// Where the mesh is. Without any of these: the lab that runs on this machine, if it is the only one.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct Place {
    /// Folder of manifests; later ones override earlier ones. They are read as a cluster would have them once everything
    /// has settled: pods of Deployments and StatefulSets exist, every pod runs and is ready unless its status says
    /// otherwise, pods that ask for the mesh are captured, waypoints are up, and what has no address yet is given one.
    /// Nothing is remembered: a policy that is invalid now has no earlier version.
    #[arg(short, long = "dir", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// A lab that runs on this machine, by its name or its state folder.
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// What a running controller tells the data plane, asked at its admin port
    /// (`kubectl port-forward` to port 15014 of the controller).
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:15014")]
    live: Option<String>,
}

/// A place that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// Folders of manifests: nothing runs.
    Folders(Vec<PathBuf>),
    /// A running lab.
    Lab(Lab),
    /// The admin port of a controller: its objects are not shown there.
    Controller(String),
}

impl Place {
    /// Whether one is named.
    pub(crate) fn is_named(&self) -> bool {
        !self.directories.is_empty() || self.lab.is_some() || self.live.is_some()
    }

    /// Finds it.
    pub(crate) fn find(&self) -> Result<Where, Failure> {
        match (&self.lab, &self.live) {
            (Some(name), _) => Ok(Where::Lab(Lab::find(name)?)),
            (_, Some(address)) => Ok(Where::Controller(address.clone())),
            _ if self.directories.is_empty() => Ok(Where::Lab(Lab::only()?)),
            _ => Ok(Where::Folders(self.directories.clone())),
        }
    }
}

impl Where {
    /// What the controller shows at a path of its admin port.
    pub(crate) fn controller(&self, path: &str) -> Result<Answer, Failure> {
        match self {
            Self::Lab(lab) => lab.ask("controller", path),
            Self::Controller(address) => http::get(address, path),
            Self::Folders(_) => Err(Failure::new(
                "nothing runs in a folder of manifests",
                "bring it up and ask again: ambit-lab up DIR --detach && ambit status",
            )),
        }
    }

    /// The flags that name it, for commands that are suggested.
    pub(crate) fn flags(&self) -> String {
        match self {
            Self::Folders(folders) => {
                let each = folders.iter().map(|one| format!("--dir {}", one.display()));
                each.collect::<Vec<_>>().join(" ")
            }
            Self::Lab(lab) => format!("--lab {}", lab.name),
            Self::Controller(address) => format!("--live {address}"),
        }
    }
}
