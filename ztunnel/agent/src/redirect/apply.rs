//! Puts a ruleset into a pod's network, reads back what stands there, and takes it away. Blocking: `nft` and `ip` run as
//! children of a thread that has entered the namespace.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use ambit_transport::socket::Netns;

use crate::redirect::command::{CommandError, Program};
use crate::redirect::rules::{
    CONNECTION_MARK, Found, MARK_MASK, ROUTE_PREFERENCE, ROUTE_TABLE, Ruleset, TABLE, found, removal,
};

/// How both tools say that something is there already, or is gone already.
const ALREADY_THERE: &str = "File exists";
const ALREADY_GONE: [&str; 3] = ["No such file or directory", "No such process", "FIB table does not exist"];

/// The tools this node has.
#[derive(Clone, Debug)]
pub struct Redirector {
    /// `nft`, by path or by a name that PATH finds.
    pub nft: PathBuf,
    /// `ip` of iproute2.
    pub ip: PathBuf,
    /// How long one call of either may take.
    pub within: Duration,
}

/// What stands in a pod's network: kept after every change, and compared later to notice somebody else's edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    listing: String,
}

/// Why the rules of a pod could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The pod's network could not be entered.
    #[error("cannot enter the pod's network: {0}")]
    Enter(io::Error),
    /// `nft` failed.
    #[error("rules: {0}")]
    Rules(CommandError),
    /// `ip` failed.
    #[error("policy routing: {0}")]
    Routing(CommandError),
    /// The rules were accepted, and yet something else stands there.
    #[error("rules were accepted, but {found:?} stands where {wanted:?} was written")]
    NotThere {
        /// What was written.
        wanted: Found,
        /// What was read back.
        found: Found,
    },
}

/// The two address families of policy routing.
#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

impl Standing {
    /// Which kind of ruleset this is.
    pub fn kind(&self) -> Found {
        found(&self.listing)
    }
}

impl Redirector {
    /// Makes `ruleset` what stands in the pod's network. Idempotent; routing first, since the marks rely on it.
    pub fn apply(&self, netns: &Netns, ruleset: &Ruleset) -> Result<Standing, RedirectError> {
        inside(netns, || {
            for family in families() {
                self.route(family)?;
            }
            self.nft(&["-f", "-"], &ruleset.script())?;
            let standing = self.list()?;
            if standing.kind() == ruleset.kind() {
                Ok(standing)
            } else {
                Err(RedirectError::NotThere { wanted: ruleset.kind(), found: standing.kind() })
            }
        })
    }

    /// What stands in the pod's network now.
    pub fn standing(&self, netns: &Netns) -> Result<Standing, RedirectError> {
        inside(netns, || {
            let tables = self.nft(&["list", "tables", "inet"], "")?;
            if tables.lines().any(|line| line.trim() == format!("table {TABLE}")) {
                self.list()
            } else {
                Ok(Standing { listing: String::new() })
            }
        })
    }

    /// Takes rules and routing away. Redirected connections that are still open would be reset.
    pub fn remove(&self, netns: &Netns) -> Result<(), RedirectError> {
        inside(netns, || {
            self.nft(&["-f", "-"], &removal())?;
            for family in families() {
                self.unroute(family)?;
            }
            Ok(())
        })
    }

    fn list(&self) -> Result<Standing, RedirectError> {
        let mut arguments = vec!["-s", "list", "table"];
        arguments.extend(TABLE.split(' '));
        Ok(Standing { listing: self.nft(&arguments, "")? })
    }

    fn route(&self, family: Family) -> Result<(), RedirectError> {
        self.ip(family, &rule("add"), &[ALREADY_THERE])?;
        self.ip(family, &local_route("replace"), &[])
    }

    fn unroute(&self, family: Family) -> Result<(), RedirectError> {
        self.ip(family, &rule("del"), &ALREADY_GONE)?;
        self.ip(family, &local_route("del"), &ALREADY_GONE)
    }

    fn nft(&self, arguments: &[&str], input: &str) -> Result<String, RedirectError> {
        Program { path: &self.nft, arguments, input, within: self.within }.run().map_err(RedirectError::Rules)
    }

    /// Runs `ip`; a failure whose complaint holds one of `tolerated` means there was nothing to do.
    fn ip(&self, family: Family, arguments: &str, tolerated: &[&str]) -> Result<(), RedirectError> {
        let arguments: Vec<&str> = std::iter::once(family.option()).chain(arguments.split(' ')).collect();
        match (Program { path: &self.ip, arguments: &arguments, input: "", within: self.within }).run() {
            Err(CommandError::Failed { complaint, .. })
                if tolerated.iter().any(|word| complaint.contains(word)) =>
            {
                Ok(())
            }
            outcome => outcome.map(drop).map_err(RedirectError::Routing),
        }
    }
}

impl Family {
    fn option(self) -> &'static str {
        match self {
            Family::V4 => "-4",
            Family::V6 => "-6",
        }
    }
}

fn inside<T>(netns: &Netns, action: impl FnOnce() -> Result<T, RedirectError>) -> Result<T, RedirectError> {
    netns.run(|| Ok(action())).map_err(RedirectError::Enter)?
}

/// IPv6 only where the loopback of the network we are in has it.
fn families() -> Vec<Family> {
    let disabled = fs::read_to_string(Path::new("/proc/sys/net/ipv6/conf/lo/disable_ipv6"));
    match disabled.as_deref().map(str::trim) {
        Ok("0") => vec![Family::V4, Family::V6],
        _ => vec![Family::V4],
    }
}

fn rule(verb: &str) -> String {
    format!(
        "rule {verb} pref {ROUTE_PREFERENCE} fwmark {CONNECTION_MARK:#x}/{MARK_MASK:#x} lookup {ROUTE_TABLE}"
    )
}

fn local_route(verb: &str) -> String {
    format!("route {verb} local default dev lo table {ROUTE_TABLE}")
}
