//! Manifests of the guides' shape work as they are written, with `ambit.mesh/waypoint: auto` on the namespace as the only
//! addition: shares, policies by selector, matching, a canary in steps, faults; what comes later says so in its status.

#[path = "waypoint_routes/guides.rs"]
mod guides;
#[path = "support/routed.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod routed;
mod support;

use std::time::Duration;

use ambit_lab::load::{Connections, Outcome};
use libtest_mimic::{Arguments, Failed};
use routed::{Mesh, Shared, all_good, allowed, of_version};
use support::{Check, check};

const WORKLOADS: &str = include_str!("manifests/waypoint/routes.yaml");
const WEB: &str = include_str!("manifests/waypoint/web.yaml");
const BACKEND: &str = include_str!("manifests/waypoint/backend.yaml");
const MYAPP: &str = include_str!("manifests/waypoint/myapp.yaml");
const REVIEWS: &str = include_str!("manifests/waypoint/reviews.yaml");
const LATER: &str = include_str!("manifests/waypoint/later.yaml");
/// Requests whose shares are counted.
const SHARED: u64 = 2000;
/// Requests a second of a measured load, and of each that must not fail.
const RATES: (f64, f64) = (500.0, 100.0);
/// A request that a fault delays is given up after this; the delay is much longer.
const GIVEN_UP: Duration = Duration::from_secs(1);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // Trials share a mesh, and loads are timed.
    arguments.test_threads = Some(1);
    let shared = Shared::new(WORKLOADS.to_owned());
    let mut trials = vec![
        shared.trial("two_versions_share_ninety_to_ten", two_versions),
        shared.trial("a_selector_and_paths_of_one_account", one_account),
        shared.trial("a_browser_is_told_by_a_regex", browser),
        shared.trial("a_canary_goes_from_five_to_a_hundred_and_nothing_fails", canary),
        shared.trial("one_in_ten_waits_and_one_in_twenty_fails", faults),
        shared.trial("what_comes_later_says_so", later),
    ];
    if let Some(folder) = guides::folder() {
        let shared = Shared::new(guides::workloads());
        trials.push(
            shared
                .trial("the_guides_documents_one_at_a_time", move |mesh| guides::all(mesh, folder.as_ref())),
        );
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Documents of a file, one applied after another.
fn one_at_a_time(mesh: &Mesh, documents: &str) -> Check {
    documents.split("\n---\n").try_for_each(|document| mesh.apply(document))
}

/// 90/10, retries, timeout, connection pool, outlier detection, STRICT, a policy by selector, namespace and port.
fn two_versions(mesh: &Mesh) -> Check {
    let before = mesh.lab.pods("web/waypoint");
    check(before.is_empty(), || format!("a waypoint before anything needs one: {before:?}"))?;
    one_at_a_time(mesh, WEB)?;
    mesh.waypoint("web")?;
    let client = mesh.pod("web/client")?;
    for (connections, count) in [(Connections::Kept, SHARED), (Connections::OnePerRequest, SHARED / 2)] {
        let outcome = mesh.load(&client, "web/web", |load| {
            (load.connections, load.count) = (connections, count);
            (load.rate, load.width) = (Some(RATES.0), 16);
            load.expect = "Hello from v".to_owned();
        })?;
        all_good("the client", &outcome)?;
        check(outcome.versions.values().sum::<u64>() == count, || format!("{outcome:?}"))?;
        allowed(&format!("{connections:?}, v2"), of_version(&outcome, "v2"), count, 0.1)?;
    }
    // The pods' own address and port is what `ports: ["80"]` of their Service means.
    let direct = format!("http://{}:5678/", mesh.pod("web/web-v1")?.address.v4);
    check(mesh.curl(&client, &[], &direct)?.status == 200, || format!("{direct} from the client"))?;
    for (from, namespace) in [("elsewhere/stranger", "elsewhere"), ("web/outsider", "web")] {
        let from = mesh.pod(from)?;
        for url in ["http://web.web.svc.cluster.local/", &direct] {
            let got = mesh.lab.exec(&from, &["curl", "-s", "-m", "5", "-w", "%{http_code}", url])?;
            let said = String::from_utf8_lossy(&got.stdout);
            let refused = matches!(got.status.code(), Some(7 | 52 | 56)) || said == "RBAC: access denied403";
            check(refused, || format!("{} of {namespace} asked {url}: {got:?}", from.name))?;
        }
    }
    // Control of the port: another one lets nobody in, though all else is the same.
    mesh.apply(&WEB.split("\n---\n").last().unwrap_or_default().replace("\"80\"", "\"81\""))?;
    let refused = mesh.curl(&client, &[], "http://web/")?;
    check(refused.status == 403, || format!("{refused:?}"))?;
    mesh.apply(WEB.split("\n---\n").last().unwrap_or_default())?;
    check(mesh.curl(&client, &[], "http://web/")?.status == 200, || "not let in again".to_owned())?;
    enforced(
        mesh,
        &[
            ("VirtualService", "web/web"),
            ("DestinationRule", "web/web"),
            ("AuthorizationPolicy", "web/web-allow-same-namespace"),
            ("PeerAuthentication", "web/default"),
        ],
    )
}

fn enforced(mesh: &Mesh, objects: &[(&str, &str)]) -> Check {
    for (kind, name) in objects {
        mesh.comes_to(kind, name, "Enforced", |status, _, _| status == "True")?;
    }
    Ok(())
}

/// GET and POST of `/api/*` for one service account, by selector.
fn one_account(mesh: &Mesh) -> Check {
    let open = mesh.curl(&mesh.pod("production/other")?, &[], "http://backend/other")?;
    check(open.status == 200, || format!("without a policy: {open:?}"))?;
    one_at_a_time(mesh, BACKEND)?;
    mesh.waypoint("production")?;
    let table: [(&str, &str, &str, u16); 12] = [
        ("frontend", "GET", "/api/orders", 200),
        ("frontend", "POST", "/api/orders?of=today", 200),
        ("frontend", "GET", "/api/", 200),
        ("frontend", "GET", "/x/../api/orders", 200),
        ("frontend", "GET", "/api", 403),
        ("frontend", "GET", "/orders", 403),
        ("frontend", "GET", "/api/../orders", 403),
        ("frontend", "GET", "/orders?x=/api/orders", 403),
        ("frontend", "DELETE", "/api/orders", 403),
        ("frontend", "PUT", "/api/orders", 403),
        ("other", "GET", "/api/orders", 403),
        ("other", "POST", "/api/orders", 403),
    ];
    for (from, method, path, status) in table {
        let from = mesh.pod(&format!("production/{from}"))?;
        let got = mesh.curl(&from, &["-X", method], &format!("http://backend{path}"))?;
        let body = status != 403 || got.body.starts_with("RBAC: access denied");
        check(got.status == status && body, || format!("{} {method} {path}: {got:?}", from.name))?;
    }
    // Nobody gets round the waypoint.
    let direct = format!("http://{}:8080/api/orders", mesh.pod("production/backend")?.address.v4);
    for from in ["production/frontend", "production/other", "elsewhere/stranger"] {
        let got = mesh.lab.exec(&mesh.pod(from)?, &["curl", "-s", "-m", "5", &direct])?;
        check(matches!(got.status.code(), Some(7 | 52 | 56)), || format!("{from} asked the pod: {got:?}"))?;
    }
    enforced(mesh, &[("AuthorizationPolicy", "production/allow-frontend-to-backend")])
}

/// `user-agent` by regex, with a third version that no rule names.
fn browser(mesh: &Mesh) -> Check {
    one_at_a_time(mesh, REVIEWS)?;
    mesh.waypoint("default")?;
    let client = mesh.pod("default/client")?;
    let agents = [
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/126.0 Safari/537.36", "v2"),
        ("Chrome", "v2"),
        ("Mozilla/5.0 (X11; Linux x86_64) Firefox/127.0", "v1"),
        ("chrome", "v1"),
    ];
    for (agent, version) in agents {
        let outcome = mesh.load(&client, "default/reviews", |load| {
            load.headers.insert("user-agent", agent.parse().expect("a value"));
            load.count = 100;
        })?;
        all_good(agent, &outcome)?;
        check(of_version(&outcome, version) == 100, || format!("{agent}: {outcome:?}"))?;
    }
    enforced(
        mesh,
        &[("VirtualService", "default/reviews-routing"), ("DestinationRule", "default/reviews-destination")],
    )
}

fn split(first: u32, second: u32) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1beta1, kind: VirtualService, metadata: {{name: myapp, namespace: default}}, \
         spec: {{hosts: [myapp], http: [{{route: [{{destination: {{host: myapp, subset: v1}}, weight: {first}}}, \
         {{destination: {{host: myapp, subset: v2}}, weight: {second}}}]}}]}}}}"
    )
}

/// Everything that asks all the time is answered, and each step's share is what its weights say.
fn canary(mesh: &Mesh) -> Check {
    one_at_a_time(mesh, MYAPP)?;
    mesh.apply(&split(95, 5))?;
    mesh.waypoint("default")?;
    let client = mesh.pod("default/client")?;
    let kept = mesh.beside(&client, "default/myapp", ("kept connections", Connections::Kept, RATES.1))?;
    let new =
        mesh.beside(&client, "default/myapp", ("one per request", Connections::OnePerRequest, RATES.1))?;
    for (first, second) in [(95, 5), (50, 50), (0, 100)] {
        mesh.apply(&split(first, second))?;
        let outcome = mesh.load(&client, "default/myapp", |load| {
            (load.rate, load.width, load.count) = (Some(RATES.0), 16, SHARED / 2);
        })?;
        all_good(&format!("{first}/{second}"), &outcome)?;
        let share = f64::from(second) / 100.0;
        allowed(&format!("{first}/{second}, v2"), of_version(&outcome, "v2"), SHARED / 2, share)?;
        kept.goes_on(10)?;
        new.goes_on(10)?;
    }
    for load in [kept, new] {
        load.end()?;
    }
    Ok(())
}

/// A tenth waits five seconds, and a twentieth, of those that wait and those that do not, is answered with 500.
fn faults(mesh: &Mesh) -> Check {
    one_at_a_time(mesh, MYAPP)?;
    mesh.apply(
        "{apiVersion: networking.istio.io/v1beta1, kind: VirtualService, metadata: {name: myapp, namespace: default}, spec: {hosts: [myapp], http: [{fault: {delay: {percentage: {value: 10}, fixedDelay: 5s}, abort: {percentage: {value: 5}, httpStatus: 500}}, route: [{destination: {host: myapp}}]}]}}",
    )?;
    mesh.waypoint("default")?;
    let pods = mesh.lab.pods("default/myapp");
    let client = mesh.pod("default/client")?;
    // From here on they count.
    pods.iter().try_for_each(|pod| mesh.counted(pod).map(drop))?;
    let outcome = mesh.load(&client, "default/myapp", |load| {
        (load.rate, load.width, load.count) = (Some(RATES.0 / 2.0), 64, SHARED / 2);
        load.timeout = GIVEN_UP;
    })?;
    let failed = |kind: &str| outcome.failed.get(kind).copied().unwrap_or_default();
    let (waited, aborted) = (failed("timeout"), failed("status 500"));
    check(outcome.good + waited + aborted == outcome.sent, || format!("{outcome:?}"))?;
    allowed("delayed", waited, SHARED / 2, 0.1)?;
    allowed("aborted at once", aborted, SHARED / 2, 0.05 * 0.9)?;
    let arrived: u64 = pods
        .iter()
        .map(|pod| Ok(mesh.counted(pod)?["requests"].as_u64().unwrap_or_default()))
        .sum::<Result<_, Failed>>()?;
    check(arrived == outcome.good, || format!("{arrived} arrived of {outcome:?}"))?;
    mesh.delete(&[("VirtualService", "default/myapp")])?;
    // Control: without the faults nothing waits or fails.
    let outcome: Outcome = mesh.load(&client, "default/myapp", |load| {
        (load.count, load.width, load.timeout) = (200, 4, GIVEN_UP);
    })?;
    all_good("without faults", &outcome)
}

/// What nothing obeys yet is neither silently ignored nor in the way of what is obeyed.
fn later(mesh: &Mesh) -> Check {
    one_at_a_time(mesh, MYAPP)?;
    mesh.apply(&split(0, 100))?;
    one_at_a_time(mesh, LATER)?;
    for (kind, name) in [
        ("IstioGateway", "default/myapp-gateway"),
        ("VirtualService", "default/myapp-external"),
        ("RequestAuthentication", "default/jwt-auth"),
        ("Telemetry", "default/access-logging"),
        ("TrafficSplit", "default/web-split"),
        ("IstioOperator", "default/control-plane"),
    ] {
        mesh.comes_to(kind, name, "Enforced", |status, reason, message| {
            status == "False" && reason == "NotYetEnforced" && !message.is_empty()
        })?;
    }
    mesh.waypoint("default")?;
    let outcome = mesh.load(&mesh.pod("default/client")?, "default/myapp", |load| load.count = 50)?;
    all_good("beside it", &outcome)?;
    check(of_version(&outcome, "v2") == 50, || format!("{outcome:?}"))
}
