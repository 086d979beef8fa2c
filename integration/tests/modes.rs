//! STRICT, PERMISSIVE and port exceptions, at every level, on new connections and on open ones.

#[path = "support/callers.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod callers;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ambit_lab::settings::left_out;
use callers::{Open, Room, SECOND};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const KIND: &str = "PeerAuthentication";
/// alice, bob and carol are in the mesh, dave and erin are not.
const ALL: &str = "a123 b123 c123 d123 e123";
const MTLS: &str = "a123 b123 c123";

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all, and times are measured.
    arguments.test_threads = Some(1);
    let room = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Room) -> Check| {
        let room = Arc::clone(&room);
        Trial::test(name, move || {
            let up = room.get_or_init(|| Room::up().map_err(|error| format!("{error:?}")));
            let room: &Room = up.as_ref()?;
            room.clear()?;
            run(room)
        })
    };
    let trials = vec![
        trial("modes_and_their_precedence", precedence),
        trial("a_switch_acts_on_open_connections", switch),
        trial("a_port_exception_spares_open_connections", exception),
        trial("refused_plaintext_is_logged", logged),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// (what is applied: name and spec; who gets through)
const MODES: &[(&[(&str, &str)], &str)] = &[
    (&[("shop/default", "{mtls: {mode: PERMISSIVE}}")], ALL),
    (&[("istio-system/default", "{mtls: {mode: STRICT}}")], MTLS),
    (&[("shop/default", "{mtls: {mode: STRICT}}")], MTLS),
    (&[("other/default", "{mtls: {mode: STRICT}}")], ALL),
    (&[("shop/web", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}")], "a123 b123 c123 d3 e3"),
    (&[("shop/web", "{selector: {matchLabels: {app: nobody}}, mtls: {mode: STRICT}}")], ALL),
    (
        &[("istio-system/default", "{mtls: {mode: STRICT}}"), ("shop/default", "{mtls: {mode: PERMISSIVE}}")],
        ALL,
    ),
    (
        &[("istio-system/default", "{mtls: {mode: PERMISSIVE}}"), ("shop/default", "{mtls: {mode: STRICT}}")],
        MTLS,
    ),
    (&[("istio-system/default", "{mtls: {mode: STRICT}}"), ("shop/default", "{mtls: {mode: UNSET}}")], MTLS),
    (&[("istio-system/default", "{mtls: {mode: STRICT}}"), ("shop/default", "{}")], MTLS),
    (
        &[
            ("istio-system/default", "{mtls: {mode: STRICT}}"),
            ("shop/default", "{mtls: {mode: PERMISSIVE}}"),
            ("shop/web", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}"),
        ],
        "a123 b123 c123 d3 e3",
    ),
    (
        &[
            ("shop/default", "{mtls: {mode: STRICT}}"),
            ("shop/web", "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}}"),
        ],
        "a123 b123 c123 d12 e12",
    ),
    // DISABLE cannot be had inside the mesh and means PERMISSIVE.
    (&[("istio-system/default", "{mtls: {mode: STRICT}}"), ("shop/default", "{mtls: {mode: DISABLE}}")], ALL),
    // A strict default with an open port, at the workload and inherited.
    (
        &[(
            "shop/web",
            "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8081: {mode: PERMISSIVE}}}",
        )],
        "a123 b123 c123 d23 e23",
    ),
    (
        &[
            ("shop/default", "{mtls: {mode: STRICT}}"),
            ("shop/web", "{selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: PERMISSIVE}}}"),
        ],
        "a123 b123 c123 d1 e1",
    ),
    // The reverse: an open default with a strict port.
    (
        &[(
            "shop/web",
            "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {8080: {mode: STRICT}}}",
        )],
        "a123 b123 c123 d23 e23",
    ),
    (
        &[
            ("istio-system/default", "{mtls: {mode: STRICT}}"),
            (
                "shop/web",
                "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {8081: {mode: STRICT}}}",
            ),
        ],
        "a123 b123 c123 d1 e1",
    ),
];

fn precedence(room: &Room) -> Check {
    let (mut slowest, mut back) = (Duration::ZERO, Duration::ZERO);
    for (documents, expected) in MODES {
        for (name, spec) in *documents {
            room.put(KIND, name, spec)?;
        }
        let took = room.comes_to(expected, 3 * SECOND).map_err(|error| with(documents, error))?;
        room.lab.settled()?;
        let found = room.admitted();
        check(found == *expected, || {
            format!("{documents:?}: [{found}] after settling instead of [{expected}]")
        })?;
        back = back.max(room.clear()?);
        slowest = slowest.max(took);
    }
    println!("{} modes: acted within {slowest:?}, and back within {back:?}", MODES.len());
    check(slowest.max(back) < SECOND, || format!("acted only after {slowest:?}, back after {back:?}"))
}

fn with(documents: &[(&str, &str)], error: Failed) -> Failed {
    format!("{documents:?}: {}", error.message().unwrap_or_default()).into()
}

/// Istio's ztunnel asks open connections again when a policy changes, not when the pod they lead to does.
const STAYS: &str = "open plaintext is cut within a second: Istio's does not act on open connections when a Workload alone changes";

/// Waits until connections are cut; none when that is left out.
fn all_cut(trial: &str, open: Vec<Open>, since: Instant) -> Result<Option<Duration>, Failed> {
    if left_out(trial, STAYS) {
        return Ok(None);
    }
    let cut = open.into_iter().map(|one| one.cut_within(since, SECOND)).collect::<Result<Vec<_>, _>>()?;
    Ok(cut.into_iter().max())
}

fn switch(room: &Room) -> Check {
    let (mesh, plain, near) = (room.open('a')?, room.open('d')?, room.open('e')?);
    let start = Instant::now();
    room.put(KIND, "shop/default", "{mtls: {mode: STRICT}}")?;
    let cut = all_cut("a_switch_acts_on_open_connections", vec![plain, near], start)?;
    let new = start.elapsed().max(room.comes_to(MTLS, SECOND)?);
    mesh.goes_on()?;
    println!(
        "STRICT cut open plaintext connections: last after {cut:?}; new ones refused after {new:?} at most"
    );
    let start = Instant::now();
    room.put(KIND, "shop/default", "{mtls: {mode: PERMISSIVE}}")?;
    room.comes_to(ALL, SECOND)?;
    println!("PERMISSIVE admits again within {:?}", start.elapsed());
    room.open('d')?.finish()?;
    room.open('e')?.finish()?;
    mesh.finish()
}

fn exception(room: &Room) -> Check {
    let (mesh, plain) = (room.open('a')?, room.open('d')?);
    let web = |ports: &str| {
        format!("{{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: STRICT}}, portLevelMtls: {ports}}}")
    };
    room.put(KIND, "shop/web", &web("{9090: {mode: PERMISSIVE}}"))?;
    room.comes_to("a123 b123 c123 d3 e3", SECOND)?;
    room.lab.settled()?;
    plain.goes_on()?;
    let start = Instant::now();
    room.put(KIND, "shop/web", &web("{8080: {mode: PERMISSIVE}}"))?;
    let cut = all_cut("a_port_exception_spares_open_connections", vec![plain], start)?;
    println!("a connection lived by the exception for its port; cut after it moved: {cut:?}");
    room.comes_to("a123 b123 c123 d13 e13", SECOND)?;
    mesh.finish()?;
    room.clear().map(drop)
}

fn logged(room: &Room) -> Check {
    room.put(KIND, "shop/default", "{mtls: {mode: STRICT}}")?;
    room.comes_to(MTLS, SECOND)?;
    let address = room.caller('d')?.address.v4.to_string();
    let words = "the line of a refused connection names the policy: Istio's has other words";
    if left_out("refused_plaintext_is_logged", words) {
        let line = room.logged(&["inbound", "error=", &format!("src.addr={address}:")])?;
        println!("{line}");
        check(!line.contains("src.identity"), || format!("plaintext has no identity: {line}"))?;
        return room.clear().map(drop);
    }
    let line =
        room.logged(&["connection failed", "policy_denied", "istio_converted_static_strict", &address])?;
    println!("{line}");
    check(!line.contains("src.identity"), || format!("plaintext has no identity: {line}"))?;
    room.clear().map(drop)
}
