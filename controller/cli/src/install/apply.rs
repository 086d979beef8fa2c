//! One object after the other: made, changed or as it was, and never taken from somebody else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::chart;
use crate::cluster::{Cluster, Refused, Verb, kinds, label, told, whose};
use crate::failure::Failure;
use crate::output;

/// Who looks after an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It was not there.
    Created,
    /// It was another.
    Changed,
    /// It was as it should be.
    Unchanged,
    /// It is no longer part of the installation.
    Removed,
    /// It is somebody else's, and will do.
    LeftAlone,
}

/// What became of each.
#[derive(Debug, Default)]
pub(super) struct Report {
    counts: BTreeMap<Outcome, usize>,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
            Self::LeftAlone => "left alone",
        }
    }
}

impl Report {
    /// Takes note of one object, and says so.
    pub(super) fn add(&mut self, object: &Value, outcome: Outcome) -> Result<(), Failure> {
        *self.counts.entry(outcome).or_default() += 1;
        output::line(&format!("{:<10} {}", outcome.word(), told(object)))
    }

    /// How many of each.
    pub(super) fn summary(&self) -> String {
        let parts = self.counts.iter().map(|(outcome, count)| format!("{count} {}", outcome.word()));
        parts.collect::<Vec<_>>().join(", ")
    }

    #[cfg(test)]
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.counts.get(&outcome).copied().unwrap_or_default()
    }
}

/// Applies one object.
pub(super) fn apply(cluster: &Cluster, manifest: &Value, verb: Verb) -> Result<Outcome, Failure> {
    let failed = |refused: Refused| match refused.code {
        409 => conflict(cluster, manifest, &refused),
        _ => cluster.failed(&told(manifest), &refused),
    };
    let held = cluster.held(manifest).map_err(failed)?;
    if let Some(held) = &held {
        may_take(cluster, held)?;
    }
    let applied = cluster.apply(manifest, verb).map_err(failed)?;
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    Ok(match held {
        None => Outcome::Created,
        Some(held) if version(&held) == version(&applied) => Outcome::Unchanged,
        Some(_) => Outcome::Changed,
    })
}

/// A namespace may have been made beforehand; everything else must be ours already.
fn may_take(cluster: &Cluster, held: &Value) -> Result<(), Failure> {
    if held["kind"] == "Namespace" {
        return Ok(());
    }
    match (label(held, "app.kubernetes.io/part-of"), label(held, MANAGED_BY)) {
        (Some("ambit"), Some("Helm")) => Err(Failure::new(
            format!("{} was installed by Helm", told(held)),
            "change that installation: helm upgrade ambit deploy/chart -n ambit-system",
        )),
        (Some("ambit"), _) => Ok(()),
        _ => {
            let kind = held["kind"].as_str().unwrap_or_default().to_lowercase();
            let (namespace, name) = (crate::cluster::namespace(held), crate::cluster::name(held));
            let place = if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") };
            Err(Failure::new(
                format!(
                    "{} exists and is not Ambit's (it has no label app.kubernetes.io/part-of=ambit)",
                    told(held)
                ),
                format!("remove it if nobody needs it: kubectl{} delete {kind} {name}{place}", cluster.flags),
            ))
        }
    }
}

/// The server names the other owner and the field.
fn conflict(cluster: &Cluster, manifest: &Value, refused: &Refused) -> Failure {
    Failure::new(
        format!("{}: somebody else has set fields of it: {refused}", told(manifest)),
        format!(
            "say the same in values, or take the fields over: ambit install --force-conflicts{}",
            cluster.flags
        ),
    )
}

/// Objects of an earlier installation that are part of this one no longer.
pub(super) fn left_over(cluster: &Cluster, objects: &[Value]) -> Result<Vec<Value>, Failure> {
    let wanted: BTreeSet<String> = objects.iter().map(told).collect();
    let mut left = Vec::new();
    for kind in [
        &kinds::WEBHOOK,
        &kinds::ADMISSION_BINDING,
        &kinds::ADMISSION_POLICY,
        &kinds::NETWORK_POLICY,
        &kinds::DISRUPTION_BUDGET,
        &kinds::RESOURCE_QUOTA,
    ] {
        let held = cluster.list(kind, chart::NAMESPACE, chart::LABELS);
        let held = held.map_err(|refused| cluster.failed(&format!("list of {}", kind.plural()), &refused))?;
        left.extend(held);
    }
    left.retain(|object| !wanted.contains(&told(object)) && whose(object).is_ok());
    Ok(left)
}
