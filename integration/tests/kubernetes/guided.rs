//! The guided path on a cluster, from the same scenario file as in the lab.

use ambit_lab::cluster::Cluster;
use ambit_lab::scenario::{OnCluster, Scenario, follow};

use crate::file;
use crate::mesh::installed;
use crate::support::{Check, check};

const PATH: &str = "deploy/samples/guides/path.yaml";

pub(crate) fn path(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let scenario = Scenario::read(&file(PATH))?;
    let place = OnCluster::begin(cluster, &scenario)?;
    let (mut taken, mut broken) = (0, None);
    let followed = follow(&scenario, &place, |outcome| {
        println!("{}: {:?}", outcome.step, outcome.seen);
        taken += 1;
        broken = outcome.seen.as_ref().err().map(|why| format!("{}: {why}", outcome.step));
    });
    place.end()?;
    followed?;
    check(broken.is_none() && taken == scenario.steps.len(), || format!("after {taken} steps: {broken:?}"))
}
