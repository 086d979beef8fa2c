//! The lab itself, without a mesh: names, Services, readiness, exit codes, and that nothing stays behind.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ambit_lab::{Lab, LabOptions, sandbox};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Check, check, output};

/// Folder with that manifest.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/shop");
const SHOP: &str = include_str!("manifests/shop/shop.yaml");

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::test("names_and_addresses", || on_shop(names)),
        Trial::test("services_balance_over_ready_pods", || on_shop(balance)),
        Trial::test("readiness_is_honoured", || on_shop(readiness)),
        Trial::test("exit_codes_are_kept", || on_shop(exit_codes)),
        Trial::test("addresses_survive_the_way_between_nodes", || on_shop(sources)),
        Trial::test("live_changes", || on_shop(live)),
        Trial::test("bad_manifests_are_named_and_disturb_nothing", bad_manifests),
        Trial::test("capture_hears_the_wire", || on_shop(capture)),
        Trial::test("streams_and_load", || on_shop(load)),
        Trial::test("two_hundred_pods", two_hundred),
        Trial::test("nothing_stays_behind_after_a_kill", killed),
        Trial::test("commands_work_without_rights", without_rights),
        Trial::test("a_name_is_taken_until_its_lab_is_down", taken),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Every trial has a lab of its own, under a name of its own.
fn on_shop(trial: fn(&Lab) -> Check) -> Result<(), Failed> {
    let options = support::named(LabOptions::inline(SHOP).without_mesh());
    let start = Instant::now();
    let lab = Lab::up(options)?;
    check(start.elapsed() < Duration::from_secs(10), || format!("coming up took {:?}", start.elapsed()))?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    trial(&lab)
}

fn names(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
        let said = output(lab, &client, &["curl", "-sS", "-m", "3", name])?;
        check(said.starts_with("hello from v"), || format!("{name}: {said:?}"))?;
    }
    let six = output(lab, &client, &["curl", "-sS", "-6", "-m", "3", "web"])?;
    check(six.starts_with("hello from v"), || format!("over IPv6: {six:?}"))?;
    let none = lab.exec(&client, &["curl", "-sS", "-m", "3", "nowhere"])?;
    check(none.status.code() == Some(6), || format!("an unknown name: {none:?}"))?;
    let headless = output(lab, &client, &["getent", "ahostsv4", "db-1.db.shop.svc.cluster.local"])?;
    let expected = lab.pod("shop/db-1")?.address.v4.to_string();
    check(headless.starts_with(&expected), || format!("{headless:?} instead of {expected}"))
}

fn balance(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    let to = lab.service("shop/many")?.ok_or("no address")?.both();
    let counts = lab.in_pod(&client, move || {
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for index in 0..1000 {
            let answer =
                ambit_lab::http::request("GET", (to[index % 2], 80).into(), "/", Duration::from_secs(3));
            *counts
                .entry(answer.map_or_else(|error| error.to_string(), |answer| pod_of(&answer.body)))
                .or_default() += 1;
        }
        counts
    });
    check(counts.len() == 5, || format!("{counts:?}"))?;
    check(counts.values().all(|count| (120..=280).contains(count)), || format!("{counts:?}"))
}

fn pod_of(body: &str) -> String {
    serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|told| Some(told["pod"].as_str()?.to_owned()))
        .unwrap_or_else(|| body.to_owned())
}

fn readiness(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    let pods = lab.pods("shop/probed");
    check(pods.len() == 2, || format!("{pods:?}"))?;
    let first = pods[0].clone();
    let ask = format!("http://{}:8080/unready", first.address.v4);
    output(lab, &client, &["curl", "-sS", "-m", "3", &ask])?;
    lab.wait_readiness(&format!("shop/{}", first.name), false, Duration::from_secs(10))?;
    for _ in 0..40 {
        let said = output(lab, &client, &["curl", "-sS", "-m", "3", "probed"])?;
        check(pod_of(&said) == pods[1].name, || format!("an unready pod answered: {said}"))?;
    }
    let object = lab
        .pod_objects()
        .into_iter()
        .find(|pod| pod["metadata"]["name"] == first.name.as_str())
        .ok_or("no object")?;
    check(object["status"]["conditions"].to_string().contains(r#""status":"False","type":"Ready""#), || {
        object.to_string()
    })
}

fn exit_codes(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    for code in [0, 3, 77] {
        let output = lab.exec(&client, &["sh", "-c", &format!("exit {code}")])?;
        check(output.status.code() == Some(code), || format!("{output:?}"))?;
    }
    Ok(())
}

fn sources(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    for pod in lab.pods("shop/many") {
        let url = format!("http://{}:8080/", pod.address.v4);
        let said: serde_json::Value =
            serde_json::from_str(&output(lab, &client, &["curl", "-sS", "-m", "3", &url])?)?;
        let peer = said["peer"].as_str().unwrap_or_default().to_owned();
        check(peer.starts_with(&format!("{}:", client.address.v4)), || format!("{} saw {peer}", pod.name))?;
    }
    // A pod that reaches itself through its Service.
    let lone = lab.pod("shop/lone")?;
    let said = output(lab, &lone, &["curl", "-sS", "-m", "3", "lone"])?;
    check(pod_of(&said) == lone.name, || said)
}

fn live(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    lab.scale("deploy", "shop/many", 2)?;
    lab.wait_pods_ready(Duration::from_secs(10))?;
    check(lab.pods("shop/many").len() == 2, || lab.status())?;
    let faults = lab.apply("{kind: Service, apiVersion: v1, metadata: {name: other, namespace: shop}, spec: {selector: {app: web}, ports: [{port: 8000, targetPort: 5678}]}}")?;
    check(faults.is_empty(), || format!("{faults:?}"))?;
    let said = output(lab, &client, &["curl", "-sS", "-m", "3", "other:8000"])?;
    check(said.starts_with("hello"), || said)?;
    lab.delete(&[ambit_lab::key_of("svc", "shop/other")])?;
    let gone = lab.exec(&client, &["curl", "-sS", "-m", "3", "other:8000"])?;
    check(gone.status.code() == Some(6), || format!("{gone:?}"))?;
    lab.label("ns", "shop", &["istio.io/dataplane-mode=ambient"])?;
    let written = std::fs::read_to_string(lab.folder().join("applied/Namespace..shop.yaml"))?;
    check(written.contains("ambient"), || written.clone())?;
    lab.label("pod", &format!("shop/{}", lab.pods("shop/many")[0].name), &["app-", "x=y"])?;
    check(lab.pods("shop/many").len() == 2, || "a label must not replace a pod".to_owned())
}

fn bad_manifests() -> Result<(), Failed> {
    let bad = format!(
        "{SHOP}\n---\nkind: Pod\nmetadata: {{name: odd, namespace: shop}}\nspec: {{containers: [{{name: c, image: nginx}}]}}\n---\nkind: [\n"
    );
    let lab = Lab::up(support::named(LabOptions::inline(bad).without_mesh()))?;
    let faults: Vec<_> = lab.faults().iter().map(ToString::to_string).collect();
    check(faults.len() == 2, || format!("{faults:?}"))?;
    check(
        faults.iter().any(|fault| {
            ["inline-0.yaml", "shop/odd", "nginx", "command"].iter().all(|word| fault.contains(word))
        }),
        || format!("{faults:?}"),
    )?;
    names(&lab)
}

fn capture(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    let far = lab
        .pods("shop/many")
        .into_iter()
        .find(|pod| pod.node != client.node)
        .ok_or("no pod on the other node")?;
    let capture = ambit_lab::capture::Capture::start(lab.node(client.node)?)?;
    let url = format!("http://{}:8080/secret-word", far.address.v4);
    output(lab, &client, &["curl", "-sS", "-m", "3", &url])?;
    let packets = capture.finish();
    check(packets.shows("secret-word"), || format!("{} packets", packets.all.len()))?;
    let payloads = packets
        .payloads(client.address.v4.into(), far.address.v4.into(), |packet| packet.on_port(8080))
        .count();
    check(payloads >= 2, || format!("{payloads} payloads"))?;
    let streams = packets.streams();
    let said: Vec<_> =
        streams.values().flatten().filter(|said| said.bytes.starts_with(b"GET /secret-word")).collect();
    check(said.len() == 1 && said[0].from_start && !said[0].gap, || format!("{}", said.len()))
}

fn load(lab: &Lab) -> Check {
    let client = lab.pod("shop/client")?;
    let to = lab.service("shop/many")?.ok_or("no address")?.v4;
    let echo = lab.pod("shop/raw")?.address.v4;
    let stream = lab.in_pod(&client, move || {
        ambit_lab::stream::Stream::open(std::net::SocketAddr::from((echo, 9090)), Duration::from_millis(1))
    })?;
    let mut load = ambit_lab::load::Load::new(std::net::SocketAddr::from((to, 80)));
    (load.rate, load.count, load.width, load.expect) = (Some(500.0), 500, 8, "node-".to_owned());
    let outcome = lab.in_pod(&client, move || load.run())?;
    check(outcome.sent == 500 && outcome.good == 500 && outcome.seconds > 0.9, || format!("{outcome:?}"))?;
    let mut load = ambit_lab::load::Load::new(std::net::SocketAddr::from((to, 80)));
    (load.count, load.connections, load.expect) =
        (50, ambit_lab::load::Connections::OnePerRequest, "never".to_owned());
    let outcome = lab.in_pod(&client, move || load.run())?;
    check(outcome.failed.get("wrong body") == Some(&50), || format!("{outcome:?}"))?;
    let rounds = stream.finish()?;
    check(rounds > 10, || format!("{rounds} rounds"))
}

fn two_hundred() -> Result<(), Failed> {
    let many = "{kind: Deployment, metadata: {name: idle}, spec: {replicas: 200, template: {metadata: {labels: {app: idle}}, spec: {containers: [{name: c, image: x, command: [sleep, infinity]}]}}}}";
    let lab = Lab::up(support::named(LabOptions::inline(many).without_mesh()))?;
    check(lab.pods("default/idle").len() == 200, || lab.status())?;
    let last = &lab.pods("default/idle")[199];
    check(lab.exec(last, &["true"])?.status.success(), || last.name.clone())?;
    let mounts = Command::new("sh").args(["-c", "wc -l < /proc/self/mounts"]).output()?;
    check(mounts.status.success(), || format!("{mounts:?}"))
}

/// Processes of a process namespace.
fn processes(namespace: &Path) -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| std::fs::read_link(entry.path().join("ns/pid")).is_ok_and(|found| found == namespace))
        .count()
}

fn killed() -> Result<(), Failed> {
    let runs = PathBuf::from(format!("/tmp/ambit-lab-killed-{}", std::process::id()));
    let up = || -> Result<Child, Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-lab"));
        sandbox::forget_namespaces(&mut command);
        command.args(["up", MANIFESTS, "--no-mesh", "--name", "k"]).env("AMBIT_LAB_DIR", &runs);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut said)?;
        check(said.contains("is up"), || said)?;
        Ok(child)
    };
    let mut child = up()?;
    let pid = child.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", children.trim()))?;
    check(processes(&namespace) > 10, || format!("{} processes", processes(&namespace)))?;
    child.kill()?;
    child.wait()?;
    let end = Instant::now() + Duration::from_secs(10);
    while processes(&namespace) > 0 {
        check(Instant::now() < end, || format!("{} processes stayed", processes(&namespace)))?;
        std::thread::yield_now();
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    check(!mounts.contains(&runs.display().to_string()), || mounts)?;
    // The folder of the dead one is in the way of nobody.
    let mut child = up()?;
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
    child.wait()?;
    std::fs::remove_dir_all(&runs)?;
    Ok(())
}

fn without_rights() -> Result<(), Failed> {
    let program = Path::new(env!("CARGO_BIN_EXE_ambit-lab"));
    let lab = |words: &[&str]| -> Result<Output, Failed> {
        let mut command = sandbox::again_unprivileged(program).unwrap_or_else(|| {
            let mut command = Command::new(program);
            sandbox::forget_namespaces(&mut command);
            command
        });
        Ok(command.args(["--name", "nobody"]).args(words).output()?)
    };
    let up = lab(&["up", MANIFESTS, "--no-mesh", "--detach"])?;
    check(up.status.success(), || format!("{up:?}"))?;
    let outcome = (|| {
        let said = lab(&["exec", "shop/client", "--", "curl", "-sS", "-m", "3", "web"])?;
        check(said.stdout.starts_with(b"hello from v"), || format!("{said:?}"))?;
        let code = lab(&["exec", "shop/client", "--", "sh", "-c", "exit 42"])?;
        check(code.status.code() == Some(42), || format!("{code:?}"))?;
        let status = lab(&["status"])?;
        check(String::from_utf8_lossy(&status.stdout).contains("shop/client"), || format!("{status:?}"))
    })();
    let down = lab(&["down"])?;
    check(down.status.success(), || format!("{down:?}"))?;
    let gone = lab(&["status"])?;
    check(!gone.status.success(), || format!("{gone:?}"))?;
    outcome
}

fn taken() -> Check {
    let runs = PathBuf::from(format!("/tmp/ambit-lab-taken-{}", std::process::id()));
    let lab = |words: &[&str]| -> Result<(bool, String), Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-lab"));
        sandbox::forget_namespaces(&mut command);
        let output = command.args(words).args(["--name", "one"]).env("AMBIT_LAB_DIR", &runs).output()?;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into(),
        ))
    };
    let expect = |words: &[&str], well: bool, part: &str| -> Check {
        let (success, said) = lab(words)?;
        check(success == well && said.contains(part), || format!("{words:?}: {said}"))
    };
    let up = ["up", MANIFESTS, "--no-mesh", "--detach"];
    expect(&up, true, "is up")?;
    let outcome = (|| {
        expect(&up, false, "a lab named one is running; take it down first")?;
        expect(&up[..3], false, "a lab named one is running; take it down first")?;
        // The lab's own file may be lost; the lab is found all the same.
        std::fs::remove_file(runs.join("one/lab.json"))?;
        expect(&["status"], true, "shop/client")?;
        expect(&["break", "mend", "shop/client"], false, "kill, start, restart, flush")
    })();
    expect(&["down"], true, "")?;
    expect(&["status"], false, "no running lab named one")?;
    check(!runs.join("one").exists(), || "its folder stayed".to_owned())?;
    std::fs::remove_dir_all(&runs)?;
    outcome
}
