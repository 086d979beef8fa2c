//! The `ambit` command on a running lab: what it says is so, names that are none are told with a mend, and programs can read
//! every answer.

#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::{Component, Lab, LabOptions, answers};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/cli.yaml");
/// Longest time until something is seen.
const ANSWERING: Duration = Duration::from_secs(10);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all, and one trial stops a program of it.
    arguments.test_threads = Some(1);
    let room = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Room) -> Check| {
        let room = Arc::clone(&room);
        Trial::test(name, move || {
            run(room.get_or_init(|| Room::up().map_err(|error| format!("{error:?}"))).as_ref()?)
        })
    };
    let trials = vec![
        trial("tls_check_says_what_plain_text_and_mutual_tls_meet", tls_check),
        trial("describe_tells_all_of_a_pod_and_a_service", describe),
        trial("explain_agrees_with_the_traffic_through_lab_and_controller", explain),
        trial("ztunnels_show_what_they_know_and_carry", ztunnel),
        trial("every_answer_is_json_and_yaml_too", formats),
        trial("names_and_places_that_are_none_are_told_with_a_mend", none),
        trial("a_ztunnel_that_is_down_is_named", down),
        trial("shells_complete_the_command", completions),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Ok(room)) = room.get() {
        room.lab.end();
    }
    conclusion.exit_code()
}

/// A running lab that answers commands.
struct Room {
    lab: Arc<Lab>,
    _serving: JoinHandle<()>,
}

/// What the command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Room {
    fn up() -> Result<Self, Failed> {
        let lab = Arc::new(Lab::up(support::named(LabOptions::inline(MANIFESTS)))?);
        lab.wait_pods_ready(Duration::from_secs(30))?;
        lab.settled()?;
        let serving = Arc::clone(&lab);
        let serving = std::thread::spawn(move || {
            if let Err(error) = serving.serve() {
                eprintln!("{error}");
            }
        });
        until("an answer of the lab", || answers(lab.folder()))?;
        Ok(Self { lab, _serving: serving })
    }

    /// Runs the command about this lab.
    fn ambit(&self, words: &str) -> Result<Said, Failed> {
        let lab = self.lab.folder().to_string_lossy().into_owned();
        let words = words.split_whitespace().chain(["--lab", &lab]);
        Said::of(&Command::new(program()?).args(words).output()?)
    }

    /// The answer as JSON.
    fn json(&self, words: &str) -> Result<(i32, Value), Failed> {
        let said = self.ambit(&format!("{words} -o json"))?;
        let value = serde_json::from_str(&said.out)
            .map_err(|error| format!("{words}: {error} in {:?} {:?}", said.out, said.err))?;
        Ok((said.code, value))
    }

    /// Whether a pod gets an answer of 200 from a Service.
    fn reaches(&self, pod: &str, method: &str, url: &str) -> Result<String, Failed> {
        let pod = self.lab.pod(pod)?;
        let words = ["curl", "-s", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}", "-X", method, url];
        Ok(String::from_utf8_lossy(&self.lab.exec(&pod, &words)?.stdout).into_owned())
    }
}

impl Said {
    fn of(output: &Output) -> Result<Self, Failed> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().ok_or_else(|| format!("ended by a signal: {output:?}"))?;
        Ok(Self { code, out: text(&output.stdout), err: text(&output.stderr) })
    }
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) -> Check {
    let end = Instant::now() + ANSWERING;
    while !holds() {
        check(Instant::now() < end, || format!("{what}: not within {ANSWERING:?}"))?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The `ambit` command that was built beside this test.
fn program() -> Result<PathBuf, Failed> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("no folder of programs")?;
    let program = folder.join("ambit");
    check(program.is_file(), || format!("{} is missing; build the programs first", program.display()))?;
    Ok(program)
}

fn tls_check(room: &Room) -> Check {
    let (code, web) = room.json("tls-check shop/client web")?;
    check(code == 0 && web["verdict"] == "mutual-tls", || format!("{code} {web}"))?;
    let ids = |leg: &Value| format!("{} {}", leg["clientIdentity"], leg["serverIdentities"]);
    let legs: Vec<String> = web["legs"].as_array().into_iter().flatten().map(ids).collect();
    let id = |account: &str| format!("\"spiffe://cluster.local/ns/shop/sa/{account}\"");
    let expected = [("client", "waypoint"), ("waypoint", "web")];
    let expected = expected.map(|(client, server)| format!("{} [{}]", id(client), id(server)));
    check(legs == expected, || format!("{legs:?}"))?;
    let (code, out) = room.json("tls-check shop/client outside/web")?;
    check(code == 1 && out["verdict"] == "plain-text", || format!("{code} {out}"))?;
    // What it says of plain text is what plain text meets.
    for (service, accepted, mode, because) in [
        ("open", true, "PERMISSIVE", "no PeerAuthentication"),
        ("strict", false, "STRICT", "PeerAuthentication shop/strict"),
        ("web", false, "PERMISSIVE", "only waypoint shop/waypoint"),
    ] {
        let (code, said) = room.json(&format!("tls-check outside/eve shop/{service}"))?;
        check(code == 1 && said["caller"]["inMesh"] == false, || format!("{service}: {code} {said}"))?;
        let plain = &said["plaintext"][0];
        let right = plain["accepted"] == accepted
            && plain["mode"] == mode
            && plain["because"].as_str().is_some_and(|why| why.contains(because));
        check(right, || format!("{service}: {said}"))?;
        let met = room.reaches("outside/eve", "GET", &format!("http://{service}.shop/"))?;
        check((met == "200") == accepted, || format!("{service} in plain text: {met}, but {said}"))?;
    }
    Ok(())
}

fn describe(room: &Room) -> Check {
    let pod = room.ambit("describe pod shop/strict")?;
    let says = ["yes: namespace shop has the label", "PeerAuthentication shop/strict", "node-2", "sa/web"];
    let missing = says.iter().find(|text| !pod.out.contains(**text));
    check(pod.code == 0 && missing.is_none(), || format!("{missing:?} in {}", pod.out))?;
    let (code, service) = room.json("describe service shop/web")?;
    let policy = &service["policies"][0];
    let right = code == 0
        && service["waypoint"] == "shop/waypoint"
        && service["waypoints"][0]["ready"] == true
        && service["locked"].is_string()
        && service["pods"].as_array().is_some_and(|pods| pods.len() == 2)
        && (&policy["layer"], &policy["policy"], &policy["enforcedBy"])
            == (&"T".into(), &"shop/web".into(), &"waypoint shop/waypoint".into());
    check(right, || format!("{code} {service}"))?;
    let idle = service["notInEffect"].to_string();
    check(idle.contains("RequestAuthentication shop/tokens") && idle.contains("NotYetEnforced"), || idle)?;
    // What it lists is what the controller wrote.
    let written = std::fs::read_to_string(room.lab.folder().join("state/status/Service.shop.web.json"))?;
    let written: Value = serde_json::from_str(&written)?;
    let said = service["conditions"].to_string();
    for condition in written["conditions"].as_array().into_iter().flatten() {
        check(said.contains(&condition["message"].to_string()), || format!("{condition} is not in {said}"))?;
    }
    Ok(())
}

/// By the lab, and by the admin port of the controller as a port-forward would show it.
fn explain(room: &Room) -> Check {
    let live = |words: &str| -> Result<Said, Failed> {
        let mut command = Command::new(program()?);
        command.args(words.split_whitespace()).args(["--live", "127.0.0.1:15014"]);
        Said::of(&room.lab.control().run(move || command.output())?)
    };
    for (from, to, method, code, status) in [
        ("shop/client", "shop/web", "GET", 0, "200"),
        ("shop/client", "shop/web", "POST", 1, "403"),
        ("outside/eve", "shop/strict", "GET", 1, "000"),
        ("outside/eve", "shop/open", "GET", 0, "200"),
    ] {
        let words = format!("explain --from {from} --to {to} --method {method}");
        let (service, namespace) = to.split_once('/').map(|(one, other)| (other, one)).unwrap_or_default();
        let met = room.reaches(from, method, &format!("http://{service}.{namespace}/"))?;
        check(met == status, || format!("{words}: {met} instead of {status}"))?;
        let (here, there) = (room.ambit(&words)?, live(&words)?);
        check((here.code, there.code) == (code, code), || format!("{words}: {} {}", here.out, there.err))?;
        check(here.out == there.out, || format!("{words}: {}\ndiffers from {}", here.out, there.out))?;
    }
    let refused = live("explain --from shop/client --to shop/web --method POST")?;
    check(refused.out.contains("layer=T reason=policy_denied policy=shop/web"), || refused.out.clone())?;
    let status = live("status")?;
    check(status.code == 0 && status.out.contains("waypoint shop/waypoint"), || status.out + &status.err)?;
    let tls = live("tls-check shop/client shop/web")?;
    check(tls.code == 0 && tls.out.contains("MUTUAL TLS"), || tls.out + &tls.err)?;
    let objects = live("describe shop/web")?;
    check(objects.code == 2 && objects.err.contains("--lab LAB"), || objects.err)
}

fn ztunnel(room: &Room) -> Check {
    let find = |rows: &Value, wanted: &dyn Fn(&Value) -> bool| {
        rows.as_array().into_iter().flatten().find(|row| wanted(row)).cloned()
    };
    let (code, workloads) = room.json("ztunnel workload")?;
    for (namespace, name, protocol) in [("shop", "strict", "HBONE"), ("outside", "web", "TCP")] {
        let row = find(&workloads, &|row| row["namespace"] == namespace && row["name"] == name);
        let right = row.as_ref().is_some_and(|row| row["protocol"] == protocol && row["node"] == "node-2");
        check(code == 0 && right, || format!("{row:?} in {workloads}"))?;
    }
    let (_, services) = room.json("ztunnel service --node node-2 -n shop")?;
    let web = find(&services, &|row| row["name"] == "web");
    let right = web.is_some_and(|row| row["waypoint"] == "shop/waypoint" && row["endpoints"] == 2);
    check(right, || services.to_string())?;
    let (_, policies) = room.json("ztunnel policy")?;
    let strict = find(&policies, &|row| row["name"] == "istio_converted_static_strict");
    check(strict.is_some_and(|row| row["action"] == "Deny"), || policies.to_string())?;
    let (_, certificates) = room.json("ztunnel certificate -n shop")?;
    let leaf = find(&certificates, &|row| {
        row["node"] == "node-1"
            && row["name"] == "spiffe://cluster.local/ns/shop/sa/client"
            && row["kind"] == "Leaf"
    });
    check(leaf.is_some_and(|row| row["valid"] == true), || certificates.to_string())?;
    // Held until it has been seen on both sides.
    let client = room.lab.pod("shop/client")?;
    let to = room.lab.service("shop/open")?.ok_or("the Service has no address")?.v4;
    let held = room.lab.in_pod(&client, move || TcpStream::connect((to, 80)))?;
    until("the connection on both sides", || {
        let rows = room.json("ztunnel connections").map(|(_, rows)| rows).unwrap_or_default();
        let side = |workload: &str, node: &str, direction: &str| {
            find(&rows, &|row| {
                row["workload"] == workload && row["node"] == node && row["direction"] == direction
            })
            .is_some_and(|row| row["protocol"] == "HBONE")
        };
        side("shop/client", "node-1", "Outbound") && side("shop/open", "node-2", "Inbound")
    })?;
    drop(held);
    let table = room.ambit("ztunnel workload -n nowhere")?;
    check((table.code, table.out.as_str()) == (0, "no workload in namespace nowhere\n"), || table.out)
}

fn formats(room: &Room) -> Check {
    for words in [
        "tls-check shop/client web",
        "describe pod shop/open",
        "describe service shop/open",
        "status",
        "explain --from shop/client --to shop/web",
        "ztunnel workload",
        "ztunnel service",
        "ztunnel policy",
        "ztunnel certificate",
        "ztunnel connections",
    ] {
        let (json_code, _value) = room.json(words)?;
        let yaml = room.ambit(&format!("{words} -o yaml"))?;
        let table = room.ambit(words)?;
        check([json_code, yaml.code, table.code] == [0; 3], || {
            format!("{words}: {}{}", table.out, table.err)
        })?;
        serde_saphyr::from_str::<Value>(&yaml.out)
            .map_err(|error| format!("{words}: {error} in {}", yaml.out))?;
        let ragged = table.out.lines().find(|line| line.ends_with(' ') || line.contains('\t'));
        check(ragged.is_none() && table.err.is_empty(), || format!("{words}: {ragged:?} {}", table.err))?;
    }
    Ok(())
}

fn none(room: &Room) -> Check {
    for (words, says) in [
        (
            "describe shop/nobody",
            "there is no pod or Service nobody in namespace shop (there is pod shop/client, ",
        ),
        (
            "describe outside/strict",
            "in namespace outside (there is pod shop/strict, service shop/strict); ambit describe pod shop/strict --lab",
        ),
        (
            "describe web",
            "web may be any of 3 (pod outside/web, service outside/web, service shop/web); ambit describe pod outside/web",
        ),
        ("describe pod shop/web", "shop/web may be any of 2 (pod shop/web-"),
        ("describe node shop/web", "ambit describe pod shop/web, or ambit describe service shop/web"),
        ("tls-check shop/nobody web", "); ambit tls-check shop/client web --lab"),
        (
            "tls-check shop/client nothing",
            "there is no Service or running pod shop/nothing; there is shop/open",
        ),
        ("ztunnel workload --node node-9", "name another one: --node node-1, or --node node-2"),
    ] {
        let said = room.ambit(words)?;
        let right = said.code == 2 && said.out.is_empty() && said.err.contains(says);
        check(right, || format!("{words}: {} {}{}", said.code, said.out, said.err))?;
    }
    let labs = std::env::temp_dir().join(format!("ambit-cli-{}", std::process::id()));
    std::fs::create_dir_all(&labs)?;
    let beside = |words: &[&str]| {
        Said::of(&Command::new(program()?).args(words).env("AMBIT_LAB_DIR", &labs).output()?)
    };
    let outcome = (|| {
        let no_lab = beside(&["status"])?;
        check(no_lab.code == 2 && no_lab.err.contains("ambit-lab up DIR --detach"), || no_lab.err)?;
        let other = beside(&["status", "--lab", "nope"])?;
        let says = "there is no running lab nope (none runs); ambit-lab up DIR --name nope --detach";
        check(other.code == 2 && other.err.contains(says), || other.err)?;
        let dead = beside(&["explain", "--from", "a/b", "--to", "c", "--live", "127.0.0.1:1"])?;
        check(dead.code == 2 && dead.err.contains("kubectl port-forward"), || dead.err)?;
        let folder = beside(&["status", "--dir", "."])?;
        check(folder.code == 2 && folder.err.contains("nothing runs in a folder"), || folder.err)?;
        // The only one that runs needs no name.
        std::os::unix::fs::symlink(room.lab.folder(), labs.join("only"))?;
        let only = beside(&["status"])?;
        check(only.code == 0 && only.out.contains("nothing waits"), || format!("{}{}", only.out, only.err))
    })();
    std::fs::remove_dir_all(&labs)?;
    outcome
}

fn down(room: &Room) -> Check {
    let node = "node-2";
    let component: Component = format!("ztunnel/{node}").parse()?;
    let (code, well) = room.json("status")?;
    let synced = |program: &Value| {
        program["ready"] == "yes" && (program["sync"] == "synced" || program["sync"] == "none")
    };
    let programs = well["programs"].as_array().cloned().unwrap_or_default();
    // Controller, two agents, two ztunnels, one waypoint.
    let right = code == 0 && programs.len() == 6 && programs.iter().all(synced);
    check(right && well["waiting"].as_array().is_some_and(Vec::is_empty), || format!("{code} {well}"))?;
    room.lab.kill(component)?;
    let outcome = (|| {
        until("the lost ztunnel in the status", || {
            room.ambit("status").is_ok_and(|said| {
                said.code == 1
                    && said.out.contains(&format!("ztunnel of {node}: it is not connected to the controller"))
            })
        })?;
        let status = room.ambit("status")?;
        check(status.out.contains(&format!("ztunnel of {node}: it does not answer")), || status.out)?;
        let alone = room.ambit(&format!("ztunnel certificate --node {node}"))?;
        let says = alone.err.contains(&format!("cannot ask ztunnel/{node}"))
            && alone.err.contains("ambit status --lab");
        check(alone.code == 2 && alone.out.is_empty() && says, || alone.err)?;
        let (code, rest) = room.json("ztunnel certificate")?;
        let of_rest = rest
            .as_array()
            .is_some_and(|rows| !rows.is_empty() && rows.iter().all(|row| row["node"] == "node-1"));
        check(code == 2 && of_rest, || format!("{code} {rest}"))
    })();
    room.lab.start(component)?;
    room.lab.wait_ready(component)?;
    room.lab.settled()?;
    outcome?;
    let mended = room.ambit("status")?;
    check(mended.code == 0, || mended.out)
}

fn completions(_room: &Room) -> Check {
    for shell in ["bash", "zsh", "fish"] {
        let said = Said::of(&Command::new(program()?).args(["completions", shell]).output()?)?;
        let right = said.code == 0 && said.out.contains("tls-check") && said.out.contains("connections");
        check(right, || format!("{shell}: {}{}", said.out, said.err))?;
    }
    let other = Said::of(&Command::new(program()?).args(["completions", "cmd"]).output()?)?;
    check(other.code == 2 && other.err.contains("bash"), || other.err)
}
