//! What a waypoint does to requests, counted at the backends: attempts and bodies sent again, mirrors, ejections, limits;
//! and Gateway API's routes on Services, by the same engine.

#[path = "waypoint_counts/attempts.rs"]
mod attempts;
#[path = "waypoint_counts/ejections.rs"]
mod ejections;
#[path = "waypoint_counts/gateway_api.rs"]
mod gateway_api;
#[path = "waypoint_counts/limits.rs"]
mod limits;
#[path = "waypoint_counts/mirrors.rs"]
mod mirrors;
#[path = "support/routed.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod routed;
mod support;

use libtest_mimic::Arguments;
use routed::{Mesh, Shared};
use support::Check;

const WORKLOADS: &str = include_str!("manifests/waypoint/counts.yaml");

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // Trials share a mesh, and loads are timed.
    arguments.test_threads = Some(1);
    let shared = Shared::new(WORKLOADS.to_owned());
    let trial = |name: &str, run: fn(&Mesh) -> Check| {
        shared.trial(name, move |mesh| {
            mesh.waypoint("counts")?;
            run(mesh)
        })
    };
    let trials = vec![
        trial("attempts_are_as_many_as_the_route_says", attempts::counted),
        trial("attempts_end_with_their_time", attempts::timed),
        trial("attempts_of_calls", attempts::calls),
        trial("what_cannot_be_reached_is_left_for_another", attempts::elsewhere),
        trial("a_body_is_sent_again_up_to_what_is_kept", attempts::bodies),
        trial("mirrors_are_as_many_as_their_share", mirrors::counted),
        trial("requests_at_once", limits::requests),
        trial("connections_and_those_who_wait", limits::connections),
        trial("calls_on_one_connection", limits::calls),
        trial("five_failures_eject_and_time_brings_back", ejections::consecutive_5xx),
        trial("gateway_errors_eject_by_a_count_of_their_own", ejections::consecutive_errors),
        trial("http_routes_on_services", gateway_api::http),
        trial("http_routes_by_weight", gateway_api::weights),
        trial("grpc_routes_on_services", gateway_api::grpc),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A VirtualService of one Service in the namespace of the trials, its rules as YAML on one line.
fn routes(service: &str, rules: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {service}, namespace: counts}}, \
         spec: {{hosts: [{service}], http: {rules}}}}}"
    )
}

/// A DestinationRule, the same way.
fn traffic(service: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {service}, namespace: counts}}, \
         spec: {{host: {service}, {spec}}}}}"
    )
}
