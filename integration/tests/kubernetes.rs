//! Ambit on a real cluster: what people do with kubectl, and what then has to be seen. `cargo xtask test --kubernetes` brings
//! up one cluster for all trials and gives it the images; they run one after another on it.

#[path = "support/check.rs"]
mod support;

#[path = "kubernetes/guided.rs"]
mod guided;
#[path = "kubernetes/kinds.rs"]
mod kinds;
#[path = "kubernetes/mesh.rs"]
mod mesh;
#[path = "kubernetes/nodes.rs"]
mod nodes;
#[path = "kubernetes/rollout.rs"]
mod rollout;
#[path = "kubernetes/shop.rs"]
mod shop;
#[path = "kubernetes/sources.rs"]
mod sources;
#[path = "kubernetes/strict.rs"]
mod strict;
#[path = "kubernetes/waypoint.rs"]
mod waypoint;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ambit_lab::cluster::Cluster;
use libtest_mimic::{Arguments, Trial};
use support::Check;

/// A trial's name and what it does.
type Named = (&'static str, fn(&Cluster) -> Check);

/// In this order.
const TRIALS: [Named; 10] = [
    ("from_nothing_to_an_encrypted_shop", shop::from_nothing),
    ("every_guides_manifest_passes_strict_validation", strict::manifests),
    ("the_guided_path_is_the_same_on_a_cluster", guided::path),
    ("a_waypoint_serves_within_seconds_and_says_what_it_does", waypoint::by_kubectl),
    ("jobs_sets_and_nodes_pods_do_as_everywhere", kinds::all),
    ("pods_start_once_the_mesh_has_them", nodes::starts),
    ("the_kubelet_and_nobody_else_reaches_what_is_denied", nodes::probes),
    ("a_nodes_power_cut_leaves_no_pod_outside", nodes::power_cut),
    ("a_rolling_restart_loses_no_request", rollout::restart),
    ("from_one_pod_to_many_and_back_loses_no_request", rollout::scale),
];

fn main() -> ExitCode {
    let Some(cluster) = Cluster::of_this_machine() else {
        println!(
            "SKIPPED kubernetes: AMBIT_CLUSTER names no cluster; cargo xtask test --kubernetes brings one up"
        );
        return ExitCode::SUCCESS;
    };
    let mut arguments = Arguments::from_args();
    // Trials share the cluster.
    arguments.test_threads = Some(1);
    let trials = TRIALS.map(|named| trial(&cluster, named));
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A trial that tells all about the cluster when it fails.
fn trial(cluster: &Cluster, (name, run): Named) -> Trial {
    let cluster = cluster.clone();
    Trial::test(name, move || {
        let outcome = run(&cluster);
        if outcome.is_err() {
            println!("{}", cluster.dump());
        }
        outcome
    })
}

/// A file of the repository, from its root.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
