//! Our waypoint against Envoy, written by other people: the same tables of routes and policies, the same requests, and
//! the answers compared one by one. Tables are written down twice, as a user's manifests and as Envoy's configuration;
//! whatever differs and is not on the list in `differential/compare.rs` fails.
//!
//! What no request has, because we differ on purpose, and other tests show how: capitals in the host (we compare hosts in any
//! case of letters, Envoy does not), and escapes that lead nowhere and bytes that belong in no path (we refuse them).

#[path = "differential/ask.rs"]
mod ask;
#[path = "differential/client.rs"]
mod client;
#[path = "differential/compare.rs"]
mod compare;
#[path = "differential/envoy.rs"]
mod envoy;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/manifests.rs"]
mod manifests;
#[path = "differential/shares.rs"]
mod shares;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;
#[path = "differential/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_lab::{Lab, LabOptions};
use ask::{Answers, answers};
use client::{Answer, Way};
use compare::Difference;
use envoy::Envoy;
use generate::Dice;
use libtest_mimic::{Arguments, Failed, Trial};
use rand::Rng;
use serde_json::Value;
use support::{Check, check};
use table::{CLIENTS, Form, Request, Table};

/// Tables that are the same in every run, and tables that no run had before.
const FIXED: u64 = 40;
const FRESH: u64 = 8;
/// Requests for each table.
const REQUESTS: usize = 200;
/// Each has so many requests at least, or the alphabets no longer fit each other.
const LEAST: usize = 100;
const SETTLED: Duration = Duration::from_secs(60);
/// Differences of one sort that are told in full.
const TOLD: usize = 3;

fn main() -> std::process::ExitCode {
    // First, since the pods' programs are this one, with an environment of their own.
    ambit_lab::sandbox::enter();
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let Some(program) = variable("AMBIT_ENVOY").map(PathBuf::from) else {
        let reason = variable("AMBIT_ENVOY_MISSING").map(|reason| reason.to_string_lossy().into_owned());
        let reason =
            reason.unwrap_or_else(|| "AMBIT_ENVOY names no program; cargo xtask test fetches it".to_owned());
        println!("SKIPPED differential: {}", reason.replace('\n', " "));
        return std::process::ExitCode::SUCCESS;
    };
    let trials = vec![Trial::test("the_waypoint_decides_as_envoy_does", move || compared(&program))];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A table and what is sent to it.
struct Case {
    table: Table,
    requests: Vec<Request>,
}

fn cases() -> Vec<Case> {
    let fresh: u64 = rand::rng().random::<u64>() >> 16;
    println!(
        "{FIXED} tables of fixed seeds, {FRESH} of fresh ones from {fresh} on, {REQUESTS} requests each"
    );
    let seeds = (0..FIXED).chain((0..FRESH).map(|more| fresh + more));
    let case = |(place, seed): (usize, u64)| {
        let table = generate::table(format!("t{place}"), seed);
        let mut dice = Dice::new(seed ^ 0x5eed);
        let requests = (0..REQUESTS).map(|_| generate::request(&mut dice, &table)).collect();
        Case { table, requests }
    };
    seeds.enumerate().map(case).collect()
}

/// A lab in which every table is in force at once, each on a Service of its own.
fn room(cases: &[Case]) -> Result<Lab, Failed> {
    let tables = cases.iter().flat_map(|case| manifests::table(&case.table));
    let objects: Vec<_> =
        manifests::room().into_iter().chain(tables).map(|object| object.to_string()).collect();
    let lab = Lab::up(support::named(LabOptions::inline(objects.join("\n---\n"))))?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    // The controller makes the waypoint, so its pod may come after the first look.
    lab.settled_within(SETTLED)?;
    lab.wait_pods_ready(SETTLED)?;
    lab.settled_within(SETTLED)?;
    cases.iter().try_for_each(|case| in_force(&lab, &case.table))?;
    Ok(lab)
}

fn compared(program: &Path) -> Check {
    let cases = Arc::new(cases());
    let lab = room(&cases)?;
    let begun = Instant::now();
    let ours = answers(&lab, &cases, |client, place, port| {
        let (namespace, name) = CLIENTS[client];
        let service = lab.service(&format!("diff/{}", cases[place].table.name))?.ok_or("no address")?;
        let way = Way { to: SocketAddr::new(service.v4.into(), port), tls: None };
        Ok((lab.pod(&format!("{namespace}/{name}"))?, way))
    })?;
    let envoys = by_envoy(program, &lab, &cases, Clone::clone)?;
    println!("{} requests to both in {:.1?}", cases.len() * REQUESTS, begun.elapsed());
    judge(&cases, &ours, &envoys)?;
    shares::check(&cases, &ours, "ours")?;
    shares::check(&cases, &envoys, "Envoy's")?;
    let altered = by_envoy(program, &lab, &cases, altered)?;
    noticed(&cases, &ours, &altered)
}

fn by_envoy(
    program: &Path,
    lab: &Lab,
    cases: &Arc<Vec<Case>>,
    table: impl Fn(&Table) -> Table,
) -> Result<Answers, Failed> {
    let beside = lab.pod("plain/envoy")?;
    let tables: Vec<_> = cases.iter().map(|case| table(&case.table)).collect();
    let envoy = Envoy::start(program, lab, &beside, &tables)?;
    answers(lab, cases, |client, place, port| {
        let tls = Some(Arc::clone(&envoy.clients[client]));
        Ok((beside.clone(), Way { to: envoy::address(place, port), tls }))
    })
}

/// The table without its first rule, and with every policy the other way round.
fn altered(table: &Table) -> Table {
    let mut table = table.clone();
    table.rules.remove(0);
    table.policies.iter_mut().for_each(|policy| policy.deny = !policy.deny);
    table
}

/// The control: tables that do differ are told apart; all but a few, whose first rule no request could reach.
fn noticed(cases: &[Case], ours: &Answers, altered: &Answers) -> Check {
    let differs = |place: &usize| {
        let pairs = ours[*place].iter().zip(&altered[*place]);
        pairs
            .into_iter()
            .any(|(one, other)| !compare::differences(&cases[*place].table, one, other).is_empty())
    };
    let count = (0..cases.len()).filter(differs).count();
    println!("{count} of {} altered tables noticed", cases.len());
    check(count * 4 >= cases.len() * 3, || format!("only {count} of {} altered tables noticed", cases.len()))
}

/// Everything a table says must be taken: what the controller refuses would be compared with nothing.
fn in_force(lab: &Lab, table: &Table) -> Check {
    let kind = match table.form {
        Form::VirtualService => "VirtualService",
        Form::HttpRoute => "HttpRoute",
    };
    let policies =
        (0..table.policies.len()).map(|number| format!("AuthorizationPolicy.diff.{}-{number}", table.name));
    let end = Instant::now() + SETTLED;
    for object in std::iter::once(format!("{kind}.diff.{}", table.name)).chain(policies) {
        let file = lab.folder().join("state/status").join(format!("{object}.json"));
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let status: Value = serde_json::from_str(&text).unwrap_or_default();
            let all = status.get("conditions").unwrap_or(&status).as_array().cloned().unwrap_or_default();
            let taken = |one: &Value| one["status"] == "True" || one["reason"] == "DryRun";
            if all.iter().any(|one| one["type"] == "Enforced" && taken(one)) {
                break;
            }
            check(Instant::now() < end, || format!("{object} is not in force: {text}"))?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Every pair of answers; and that each outcome came often enough for that to mean something.
fn judge(cases: &[Case], ours: &Answers, envoys: &Answers) -> Check {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    let mut closed = 0;
    for (place, case) in cases.iter().enumerate() {
        for (number, request) in case.requests.iter().enumerate() {
            let (one, other) = (&ours[place][number], &envoys[place][number]);
            *counts.entry(outcome(other)).or_default() += 1;
            if compare::closed_reading(&case.table, request, one, other) {
                closed += 1;
                continue;
            }
            for difference in compare::differences(&case.table, one, other) {
                let (count, told) = found.entry(difference.what.clone()).or_default();
                *count += 1;
                if told.len() < TOLD {
                    told.push(explained(&case.table, request, &difference, [one, other]));
                }
            }
        }
    }
    println!("{counts:?}");
    println!("known difference, {closed} times: {}", compare::CLOSED_READING);
    for known in compare::KNOWN {
        println!("known difference: {}: {}", known.what, known.reason);
    }
    check(found.is_empty(), || {
        let kinds = found.iter().map(|(what, (count, told))| format!("{what}: {count}\n{}", told.join("\n")));
        kinds.collect::<Vec<_>>().join("\n")
    })?;
    let rare: Vec<_> = ["forwarded", "redirected", "answered", "refused", "no route"]
        .into_iter()
        .filter(|name| counts.get(name).copied().unwrap_or(0) < LEAST)
        .collect();
    check(rare.is_empty(), || format!("hardly a request was {rare:?}: {counts:?}"))
}

/// A difference with what it takes to understand it.
fn explained(table: &Table, request: &Request, difference: &Difference, answers: [&Answer; 2]) -> String {
    let rules = answers.map(compare::rule).into_iter().flatten().collect::<BTreeSet<_>>();
    let rules: Vec<_> =
        rules.into_iter().map(|place| format!("{place}: {:?}", table.rules.get(place))).collect();
    let policies =
        if difference.what == "status" { format!("\n    {:?}", table.policies) } else { String::new() };
    let Difference { ours, envoys, .. } = difference;
    let (name, seed) = (&table.name, table.seed);
    format!(
        "  ours {ours}\n  Envoy's {envoys}\n    {name} of seed {seed}: {request:?}\n    {rules:?}{policies}"
    )
}

fn outcome(answer: &Answer) -> &'static str {
    match answer.status {
        _ if answer.seen.is_some() => "forwarded",
        403 => "refused",
        300..400 => "redirected",
        _ if compare::rule(answer).is_some() => "answered",
        404 => "no route",
        _ => "otherwise",
    }
}
