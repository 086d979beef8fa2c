//! Where a policy is enforced, and how, as traffic through ztunnels and waypoint: every rule of the semantics with its
//! control, refusals with the layer, policy, rule and attribute that the log names.

#[path = "waypoint_policy/change.rs"]
mod change;
#[path = "support/controller.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod controller;
#[path = "waypoint_policy/endpoints.rs"]
mod endpoints;
#[path = "support/hbone.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod hbone;
#[path = "waypoint_policy/identity.rs"]
mod identity;
#[path = "support/judged.rs"]
mod judged;
#[path = "waypoint_policy/missing.rs"]
mod missing;
#[path = "waypoint_policy/shop.rs"]
mod shop;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;
#[path = "waypoint_policy/tables.rs"]
mod tables;

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};
use shop::Shop;
use support::Check;

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all, and times are measured.
    arguments.test_threads = Some(1);
    let shop = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Shop) -> Check| {
        let shop = Arc::clone(&shop);
        Trial::test(name, move || {
            let up = shop.get_or_init(|| Shop::up().map_err(|error| format!("{error:?}")));
            let shop: &Shop = up.as_ref()?;
            shop.clear()?;
            run(shop)
        })
    };
    let trials = vec![
        trial("both_layers_must_allow", |shop| shop.rows(tables::BOTH)),
        trial("every_attribute_at_the_waypoint", |shop| shop.rows(tables::ATTRIBUTES)),
        trial("what_each_stage_sees", |shop| shop.rows(tables::STAGES)),
        trial("locked_ports", |shop| shop.rows(tables::LOCKS)),
        trial("client_and_waypoint_as_sources", |shop| shop.rows(tables::SOURCES)),
        trial("ports_and_methods_with_and_without_a_waypoint", |shop| shop.rows(tables::PLACES)),
        trial("one_more_name_of_the_trust_domain", |shop| shop.rows(tables::ALIASES)),
        trial("without_mutual_tls", |shop| shop.rows(tables::PLAIN)),
        trial("services_that_disagree_about_a_port", endpoints::ambiguous),
        trial("pods_outside_the_mesh", missing::outside),
        trial("from_one_waypoint_through_another", identity::beyond),
        trial("connections_without_http", |shop| shop.rows(tables::CONNECTIONS)),
        trial("policies_that_never_were_valid", |shop| shop.rows(tables::INVALID)),
        trial("policies_keep_their_last_good_version", change::last_good),
        trial("pods_of_one_service_with_different_labels", endpoints::labels),
        trial("a_retry_meets_a_forbidden_pod", endpoints::retries),
        trial("a_mirror_meets_a_forbidden_pod", endpoints::mirrors),
        trial("a_pod_behind_a_waypoint_of_its_own", endpoints::workload),
        trial("who_is_no_waypoint", identity::strangers),
        trial("who_gets_a_waypoint_s_certificate", identity::certificates),
        trial("a_waypoint_that_is_not_named", missing::unnamed),
        trial("services_for_waypoints_only", missing::annotated),
        trial("a_waypoint_that_never_was_ready", missing::unready),
        trial("a_waypoint_that_goes", missing::gone),
        trial("attaching_and_detaching_under_load", change::attach),
        trial("connections_kept_while_detaching", change::detach),
        trial("label_and_policy_at_once", change::at_once),
        trial("what_is_open_is_cut", change::open),
        trial("istio_s_placement", change::placement),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
