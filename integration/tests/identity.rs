//! Identities: what proves one, where it shows, and who gets neither certificate nor configuration.

#[path = "support/callers.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod callers;
#[path = "support/controller.rs"]
mod controller;
#[path = "support/hbone.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod hbone;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_lab::settings::left_out;
use ambit_lab::tokens::{Claims, Tokens};
use ambit_lab::{Component, NodeNumber};
use callers::{PATIENCE, Room, SECOND};
use controller::{ADDRESSES, Controller, claims};
use hbone::{Met, Papers, Signer, Try};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const ALICE: &str = "spiffe://cluster.local/ns/shop/sa/alice";
const BOB: &str = "spiffe://cluster.local/ns/shop/sa/bob";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const HOUR: (i64, i64) = (-60, 3600);
const ONE: NodeNumber = NodeNumber(1);
const TWO: NodeNumber = NodeNumber(2);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all, whose logs and counters are read.
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
        trial("logs_and_metrics_name_the_peer", named),
        trial("the_certificate_counts_not_the_address", borrowed),
        trial("bad_certificates_are_refused", bad_certificates),
        trial("nothing_without_a_verified_token", bad_tokens),
        trial("only_identities_of_the_caller_s_node", bad_identities),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Connections opened to web, as its node's ztunnel counts them.
fn opened(room: &Room, reporter: &str, labels: &[(&str, &str)]) -> Result<f64, Failed> {
    let node = if reporter == "source" { ONE } else { TWO };
    let samples = room.lab.metrics(Component::Ztunnel(node))?;
    let mut all = vec![("reporter", reporter), ("destination_workload", "web")];
    all.extend_from_slice(labels);
    Ok(samples.sum("istio_tcp_connections_opened_total", &all))
}

fn named(room: &Room) -> Check {
    let mtls: &[(&str, &str)] = &[
        ("source_principal", ALICE),
        ("destination_principal", WEB),
        ("connection_security_policy", "mutual_tls"),
    ];
    let mut plain = vec![("source_workload", "dave"), ("connection_security_policy", "unknown")];
    let supposed =
        "plaintext is counted without principals: Istio's counts the ones that the pods' accounts would have";
    if !left_out("logs_and_metrics_name_the_peer", supposed) {
        plain.extend([("source_principal", "unknown"), ("destination_principal", "unknown")]);
    }
    let count = || {
        Ok::<_, Failed>([
            opened(room, "source", mtls)?,
            opened(room, "destination", mtls)?,
            opened(room, "destination", &plain)?,
        ])
    };
    let before = count()?;
    let found = room.admitted();
    check(found == room.everybody(), || found)?;
    let after = count()?;
    println!("opened before {before:?}, after one connection to each of two ports {after:?}");
    for index in 0..3 {
        check(after[index] - before[index] == 2.0, || format!("{before:?} → {after:?}"))?;
    }
    let identities = format!("src.identity={ALICE}");
    let server = format!("dst.identity={WEB}");
    for (node, direction) in [(ONE, "direction=outbound"), (TWO, "direction=inbound")] {
        let words = ["connection complete", &identities, &server, direction];
        let all = |line: &str| words.iter().all(|word| unquoted(line).contains(word));
        println!("{}", room.lab.wait_log(Component::Ztunnel(node), PATIENCE, all)?);
    }
    let dave = format!("src.addr={}:", room.caller('d')?.address.v4);
    let line = logged(room, &["connection complete", &dave])?;
    check(!line.contains("spiffe://"), || format!("plaintext with an identity: {line}"))
}

/// Istio's ztunnel puts values in quotation marks.
fn unquoted(line: &str) -> String {
    line.replace('"', "")
}

/// Waits for a line of the log of web's ztunnel that holds all these words, quotation marks apart.
fn logged(room: &Room, words: &[&str]) -> Result<String, Failed> {
    let all = |line: &str| words.iter().all(|word| unquoted(line).contains(word));
    Ok(room.lab.wait_log(Component::Ztunnel(room.web.node), PATIENCE, all)?)
}

/// Alice's pod shows a certificate of bob's, both from the real authority: she is bob, and logged so.
fn borrowed(room: &Room) -> Check {
    let controller = Controller::of(&room.lab);
    let token = || room.lab.token(&claims(&room.lab, ONE)?).map_err(Failed::from);
    let own = controller.certificate(ONE, Some(token()?), ALICE)?;
    let other = controller.certificate(ONE, Some(token()?), BOB)?;
    let pod = room.caller('a')?;
    let says = |papers: &Papers| Try::to(&room.web, 8080).from(&room.lab, pod, papers);
    let principal = |identity: &str| {
        let principal = identity.trim_start_matches("spiffe://");
        format!(
            "{{selector: {{matchLabels: {{app: web}}}}, action: ALLOW, rules: [{{from: [{{source: {{principals: [{principal}]}}}}]}}]}}"
        )
    };
    let answered = |met: &Met| matches!(met, Met::Application(_));
    for (papers, whose) in [(&own, ALICE), (&other, BOB)] {
        let met = says(papers);
        check(answered(&met), || format!("without a policy, as {whose}: {met:?}"))?;
    }
    let mtls = ("connection_security_policy", "mutual_tls");
    let carried_alone = "what is refused is not counted as opened: Istio's counts it";
    let refused_is_opened = left_out("the_certificate_counts_not_the_address", carried_alone);
    let by_bob = || opened(room, "destination", &[("source_principal", BOB), mtls]);
    // (whom the policy admits, how the callers without tricks fare, what alice's own and bob's certificate meet)
    for (admitted, plainly, as_alice, as_bob) in
        [(ALICE, "a123 b3 c3 d3 e3", true, false), (BOB, "a3 b123 c3 d3 e3", false, true)]
    {
        room.put("AuthorizationPolicy", "shop/only", &principal(admitted))?;
        room.comes_to(plainly, SECOND)?;
        room.lab.settled()?;
        let before = by_bob()?;
        for (papers, expected) in [(&own, as_alice), (&other, as_bob)] {
            let met = says(papers);
            let as_expected = if expected { answered(&met) } else { met == Met::Status(401) };
            check(as_expected, || format!("only {admitted} admitted: {met:?}"))?;
        }
        let after = by_bob()?;
        println!("only {admitted} admitted: connections opened by bob {before} → {after}");
        let counted = as_bob || refused_is_opened;
        check(after - before == f64::from(u8::from(counted)), || format!("{before} → {after}"))?;
        room.clear()?;
    }
    let address = format!("src.addr={}:", pod.address.v4);
    let words = "the line of a refused connection names the policy and never the address's pod: Istio's has other words";
    let identity = format!("src.identity={BOB}");
    if left_out("the_certificate_counts_not_the_address", words) {
        println!("{}", logged(room, &["error=", &address, &identity])?);
        println!("{}", logged(room, &["connection complete", &address, &identity])?);
        return Ok(());
    }
    let refused = logged(room, &["connection failed", &address, &identity, "policy=shop/only"])?;
    let carried = logged(room, &["connection complete", &address, &identity])?;
    for line in [refused, carried] {
        println!("{line}");
        check(!line.contains("src.workload=alice"), || format!("named after the address: {line}"))?;
    }
    Ok(())
}

const TWO_IDENTITIES: &str = "another trust domain first";

fn bad_certificates(room: &Room) -> Check {
    let authority = Signer::of(&room.lab)?;
    let foreign = "spiffe://other.domain/ns/shop/sa/alice";
    // (what, papers, what the log of web's ztunnel says)
    let table = [
        ("another trust domain", authority.sign(&[foreign], HOUR)?, "trust domain is not cluster.local"),
        (TWO_IDENTITIES, authority.sign(&[foreign, ALICE], HOUR)?, "trust domain is not cluster.local"),
        ("expired", authority.sign(&[ALICE], (-7200, -3600))?, "certificate expired"),
        ("not valid yet", authority.sign(&[ALICE], (3600, 7200))?, "certificate not valid yet"),
        ("self-signed", Papers::self_signed(ALICE)?, "unknown issuer"),
        ("of an impostor", Signer::impostor()?.sign(&[ALICE], HOUR)?, "certificate"),
        ("no identity", authority.sign(&["https://example.com/alice"], HOUR)?, "without a SPIFFE identity"),
        ("no name", authority.sign(&[], HOUR)?, "without a SPIFFE identity"),
        ("none", Papers::none(), "presented no certificate"),
    ];
    let good = authority.sign(&[ALICE], HOUR)?;
    let several = "a certificate with two identities is refused: Istio's takes whichever of them fits";
    let any_of_them = left_out("bad_certificates_are_refused", several);
    let words = "the log says why, with the address: Istio's has other words and not for every handshake";
    let says_why = !left_out("bad_certificates_are_refused", words);
    // From in and out of the mesh, from this node and the other.
    for letter in ['a', 'd', 'e'] {
        let pod = room.caller(letter)?;
        let says = |papers: &Papers| Try::to(&room.web, 8080).from(&room.lab, pod, papers);
        for (what, papers, reason) in &table {
            if any_of_them && *what == TWO_IDENTITIES {
                continue;
            }
            let before = refusals(room, reason, &pod.address.v4.to_string()).len();
            let met = says(papers);
            check(matches!(met, Met::Closed(_)), || format!("{what}: {met:?}"))?;
            if !says_why {
                println!("{what}: {met:?}");
                continue;
            }
            let line =
                eventually(|| refusals(room, reason, &pod.address.v4.to_string()).into_iter().nth(before));
            let line = line.ok_or_else(|| format!("{what}: no line with {reason:?} in the log"))?;
            if letter == 'a' {
                println!("{what}: {line}");
            }
        }
        let met = says(&good);
        check(matches!(met, Met::Application(_)), || format!("the good one from {letter}: {met:?}"))?;
    }
    Ok(())
}

/// Refused tunnels from an address, with this reason.
fn refusals(room: &Room, reason: &str, address: &str) -> Vec<String> {
    let from = format!("src.addr={address}:");
    let words = ["connection failed", "reason=tls_failed", reason, &from];
    let log = room.lab.logs(Component::Ztunnel(room.web.node));
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}

/// Waits until there is something.
fn eventually<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let start = std::time::Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() > PATIENCE {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The controller's refusals of a service with a reason.
fn turned_away(room: &Room, service: &str, reason: &str) -> Vec<String> {
    let words = ["refused", &format!("service={service}"), &format!("reason={reason}")].map(str::to_owned);
    let log = room.lab.logs(Component::Controller);
    let all = |line: &&str| words.iter().all(|word| line.contains(word.as_str()));
    log.lines().filter(all).map(str::to_owned).collect()
}

/// Asks and expects a refusal with a reason in the log.
fn refused<T>(room: &Room, service: &str, reason: &str, ask: impl FnOnce() -> Result<T, String>) -> Check {
    let before = turned_away(room, service, reason).len();
    let Err(answer) = ask() else { return Err(format!("{service} for {reason} was granted").into()) };
    let line = eventually(|| turned_away(room, service, reason).into_iter().nth(before));
    let line = line
        .ok_or_else(|| format!("answered {answer:?}, but no line for {service} and {reason} in the log"))?;
    println!("{reason}: {answer:?}; {line}");
    Ok(())
}

fn bad_tokens(room: &Room) -> Check {
    let good = claims(&room.lab, ONE)?;
    let mint = |claims: Claims| room.lab.token(&claims).map(Some).map_err(Failed::from);
    let application = room.lab.pod_objects().into_iter().find(|pod| pod["metadata"]["name"] == "alice");
    let application = Claims::of_pod(&application.ok_or("no pod alice")?);
    let table = [
        ("token_missing", None),
        ("token_malformed", Some("not.a.token".to_owned())),
        ("token_expired", mint(Claims { lifetime: -3600, ..good.clone() })?),
        ("token_audience", mint(Claims { audiences: vec!["kubernetes".to_owned()], ..good.clone() })?),
        ("token_audience", mint(Claims { audiences: Vec::new(), ..good.clone() })?),
        ("token_issuer", mint(Claims { issuer: "https://elsewhere".to_owned(), ..good.clone() })?),
        ("token_unknown_key", Some(Tokens::create()?.mint(&good))),
        ("pod_replaced", mint(Claims { pod: (good.pod.0.clone(), "another".to_owned()), ..good.clone() })?),
        (
            "pod_gone",
            mint(Claims { pod: ("ztunnel-node-9".to_owned(), "another".to_owned()), ..good.clone() })?,
        ),
        ("other_node", mint(Claims { node: TWO.name(), ..good.clone() })?),
        ("application_token", mint(application.clone())?),
        (
            "other_account",
            mint(Claims { pod: application.pod.clone(), namespace: "shop".to_owned(), ..good.clone() })?,
        ),
    ];
    let controller = Controller::of(&room.lab);
    for (reason, token) in table {
        // A ztunnel's account in another namespace is no ztunnel's.
        let reason = if reason == "other_account" { "application_token" } else { reason };
        refused(room, "Certificates", reason, || controller.certificate(ONE, token.clone(), ALICE))?;
        refused(room, "Discovery", reason, || controller.configuration(ONE, token.clone(), ADDRESSES))?;
    }
    // A good token of a changed body.
    let token = room.lab.token(&good)?;
    let forged = forge(&token, &room.lab.token(&claims(&room.lab, TWO)?)?)?;
    refused(room, "Certificates", "token_unknown_key", || {
        controller.certificate(ONE, Some(forged.clone()), ALICE)
    })?;
    refused(room, "Discovery", "token_unknown_key", || {
        controller.configuration(ONE, Some(forged), ADDRESSES)
    })?;
    // Control.
    let papers = controller.certificate(ONE, Some(token.clone()), ALICE)?;
    let met = Try::to(&room.web, 8080).from(&room.lab, room.caller('a')?, &papers);
    check(matches!(met, Met::Application(_)), || format!("with the good token: {met:?}"))?;
    let resources = controller.configuration(ONE, Some(token), ADDRESSES)?;
    println!("with the good token: a certificate that works, and {} resources", resources.len());
    check(resources.len() >= 8, || format!("only {} resources", resources.len()))
}

/// Head and signature of one token around the body of another.
fn forge(one: &str, other: &str) -> Result<String, Failed> {
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    match (parts(one).as_slice(), parts(other).as_slice()) {
        ([head, _, signature], [_, body, _]) => Ok(format!("{head}.{body}.{signature}")),
        _ => Err("a token has three parts".into()),
    }
}

fn bad_identities(room: &Room) -> Check {
    let controller = Controller::of(&room.lab);
    let token = |node| Ok::<_, Failed>(Some(room.lab.token(&claims(&room.lab, node)?)?));
    // Alice and bob run on the first node, web on the second.
    refused(room, "Certificates", "not_on_node", || {
        controller.certificate(TWO, token(TWO).ok().flatten(), ALICE)
    })?;
    refused(room, "Certificates", "not_on_node", || {
        controller.certificate(ONE, token(ONE).ok().flatten(), WEB)
    })?;
    let nobody = "spiffe://cluster.local/ns/shop/sa/nobody";
    refused(room, "Certificates", "not_on_node", || {
        controller.certificate(ONE, token(ONE).ok().flatten(), nobody)
    })?;
    let foreign = "spiffe://other.domain/ns/shop/sa/alice";
    refused(room, "Certificates", "trust_domain", || {
        controller.certificate(ONE, token(ONE).ok().flatten(), foreign)
    })?;
    // The second node's token does not make its bearer the first node's proxy.
    refused(room, "Discovery", "other_node", || {
        controller.configuration(ONE, token(TWO).ok().flatten(), ADDRESSES)
    })?;
    controller.certificate(ONE, token(ONE)?, ALICE)?;
    controller.certificate(TWO, token(TWO)?, WEB)?;
    Ok(())
}
