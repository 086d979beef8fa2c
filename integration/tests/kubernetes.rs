//! Ambit on a real cluster: what people do with kubectl, and what then has to be seen. `cargo xtask test --kubernetes` brings
//! up one cluster for all trials and gives it the images; they run one after another on it.

#[path = "support/check.rs"]
mod support;

#[path = "kubernetes/guided.rs"]
mod guided;
#[path = "kubernetes/identity.rs"]
mod identity;
#[path = "kubernetes/kinds.rs"]
mod kinds;
#[path = "kubernetes/leave.rs"]
mod leave;
#[path = "kubernetes/mesh.rs"]
mod mesh;
#[path = "kubernetes/nodes.rs"]
mod nodes;
#[path = "kubernetes/outage.rs"]
mod outage;
#[path = "kubernetes/refusals.rs"]
mod refusals;
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

/// In this order; the last takes away what the first has installed.
const TRIALS: [Named; 17] = [
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
    ("the_api_server_may_be_away", outage::outage),
    ("certificates_and_configuration_are_for_whom_they_are", identity::certificates),
    ("accounts_may_do_what_their_files_say", identity::rights),
    ("a_waypoints_identity_is_not_to_be_had", identity::forgeries),
    ("wrong_objects_are_refused_or_close_what_they_name", refusals::refused),
    ("an_install_twice_changes_nothing", leave::twice),
    ("an_uninstall_leaves_nothing_behind", leave::uninstall),
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
