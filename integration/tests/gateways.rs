//! The lab as it takes up what the controller writes for Gateways: pods, addresses, settings, scaling and the end of all.
//! The objects are written by the test and the program is a script, so that nothing here depends on either.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ambit_lab::component::{Kind, Served};
use ambit_lab::{Component, Lab, LabOptions, MeshMode, PodHandle, Programs, standin};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check, output};

const LIMIT: Duration = Duration::from_secs(20);
const SHOP: &str = "
kind: Namespace
metadata: {name: shop}
---
kind: Pod
metadata: {name: client, namespace: shop}
spec: {containers: [{name: c, image: curlimages/curl, command: [sleep, infinity]}]}
";
/// What the controller writes for a Gateway shop/waypoint, one file for each object.
const OBJECTS: [(&str, &str); 3] = [
    ("ServiceAccount", "{}"),
    (
        "Service",
        r#"{"selector": {"gateway.networking.k8s.io/gateway-name": "waypoint"}, "ports": [{"name": "status-port", "port": 15021}, {"name": "mesh", "port": 15008}]}"#,
    ),
    (
        "Deployment",
        r#"{"replicas": 2, "template": {"metadata": {"labels": {"gateway.networking.k8s.io/gateway-name": "waypoint", "istio.io/dataplane-mode": "none"}}, "spec": {"serviceAccountName": "waypoint", "containers": [{"name": "istio-proxy", "image": "ambit/waypoint", "env": [{"name": "CA_ADDRESS", "value": "nowhere"}, {"name": "FROM_ITS_DEPLOYMENT", "value": "yes"}]}]}}}"#,
    ),
];

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let trials = vec![Trial::test("a_gateway_has_pods_while_its_deployment_exists", gateway)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn gateway() -> Result<(), Failed> {
    let folder = std::env::temp_dir().join(format!("ambit-lab-gateways-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = with_program(&folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn with_program(folder: &std::path::Path) -> Check {
    let script = folder.join("waypoint");
    let echo = standin::command(&["echo", "--port=15021", "--port=15020"]);
    let words: Vec<_> = std::iter::once(echo.get_program()).chain(echo.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    std::fs::write(&script, format!("#!/bin/sh\nenv\nexec {}\n", words.join(" ")))?;
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    let mut programs = Programs::default().set(Kind::Waypoint, "FROM_THE_TEST", "yes");
    programs.files.insert(Kind::Waypoint, script);
    let mut options = support::named(LabOptions::inline(SHOP));
    options.mesh = MeshMode::On(programs);
    let lab = Lab::up(options)?;
    let client = lab.pod("shop/client")?;
    let controller = output(
        &lab,
        &client,
        &[
            "curl",
            "-sk",
            "-m",
            "3",
            "-o",
            "/dev/null",
            "-w",
            "%{http_connect}%{errormsg}",
            "https://172.30.1.1:15012",
        ],
    )?;
    check(!controller.contains("connect"), || format!("the controller from a pod: {controller}"))?;
    // From here on the objects are the test's own.
    lab.kill(Component::Controller)?;
    let objects = lab.folder().join("state/objects");
    for (kind, spec) in OBJECTS {
        write(
            &objects,
            kind,
            &format!(
                r#"{{"kind": "{kind}", "metadata": {{"name": "waypoint", "namespace": "shop"}}, "spec": {spec}}}"#
            ),
        )?;
    }
    let pods = have(&lab, 2)?;
    check(pods[0].node != pods[1].node, || format!("{pods:?}"))?;
    lab.settled_within(LIMIT)?;
    told(&lab, &pods[0])?;
    reached(&lab, &client)?;
    scaled(&lab)?;
    std::fs::remove_file(objects.join("Deployment.shop.waypoint.json"))?;
    have(&lab, 0).map(drop)
}

/// The settings of a waypoint, and a token of its own.
fn told(lab: &Lab, pod: &PodHandle) -> Check {
    let said = lab.pod_logs(pod);
    let expected = [
        "CA_ADDRESS=https://172.30.1.1:15012".to_owned(),
        "SERVICE_ACCOUNT=waypoint".to_owned(),
        "GATEWAY_NAME=waypoint".to_owned(),
        format!("POD_NAME={}", pod.name),
        format!("INSTANCE_IP={}", pod.address.v4),
        "FROM_ITS_DEPLOYMENT=yes".to_owned(),
        "FROM_THE_TEST=yes".to_owned(),
    ];
    for line in expected {
        check(said.lines().any(|said| said == line), || format!("{line} is missing in {said}"))?;
    }
    let file = said.lines().find_map(|line| line.strip_prefix("AUTH_TOKEN=")).ok_or("no token")?;
    check(std::fs::read_to_string(file)?.split('.').count() == 3, || file.to_owned())
}

/// By its Service, and by the test.
fn reached(lab: &Lab, client: &PodHandle) -> Check {
    let address = lab.service("shop/waypoint")?.ok_or("no address")?.v4;
    let published = std::fs::read_to_string(lab.folder().join("generated/Service.shop.waypoint.yaml"))?;
    check(published.contains(&address.to_string()), || published)?;
    output(lab, client, &["getent", "hosts", "waypoint.shop.svc.cluster.local"])?;
    let pod = &lab.waypoints()[0];
    let answer = lab.ask_pod(pod, Served::Readiness, "GET", "/healthz/ready")?;
    check(answer.status == 200, || format!("{answer:?}"))
}

/// The object itself is changed, as it would be in a cluster; what is killed comes back.
fn scaled(lab: &Lab) -> Check {
    lab.scale("Deployment", "shop/waypoint", 3)?;
    let pods = have(lab, 3)?;
    let before = lab.processes(&pods[0]);
    lab.kill_pod(&pods[0])?;
    until("another process", || {
        let now = lab.processes(&pods[0]);
        !now.is_empty() && now != before
    })?;
    lab.settled_within(LIMIT)?;
    lab.delete_pod(&pods[1])?;
    let after = have(lab, 3)?;
    check(after.iter().all(|pod| pod.uid != pods[1].uid), || format!("{after:?}"))?;
    lab.scale("Deployment", "shop/waypoint", 1)?;
    have(lab, 1)?;
    let file = lab.folder().join("state/objects/Deployment.shop.waypoint.json");
    let written = std::fs::read_to_string(file)?;
    check(written.contains("\"replicas\":1"), || written)
}

fn have(lab: &Lab, count: usize) -> Result<Vec<PodHandle>, Failed> {
    until(&format!("{count} pods"), || lab.pods("shop/waypoint").len() == count)?;
    Ok(lab.pods("shop/waypoint"))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Check {
    let end = Instant::now() + LIMIT;
    while !holds() {
        check(Instant::now() < end, || format!("{what} within {LIMIT:?}"))?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Old or new, never a part.
fn write(folder: &std::path::Path, kind: &str, text: &str) -> std::io::Result<()> {
    let new = folder.join("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, folder.join(format!("{kind}.shop.waypoint.json")))
}
