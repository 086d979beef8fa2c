//! Attempts: how many, when, where, and with what body.

use std::time::{Duration, Instant};

use ambit_lab::load::{Load, Outcome, Protocol};
use http::{HeaderName, HeaderValue, Method};
use libtest_mimic::Failed;

use crate::routed::Mesh;
use crate::routes;
use crate::support::{Check, check};

/// Requests of each case.
const ASKED: u64 = 30;
/// Requests at once that wait for an answer in vain.
const CALLERS: u64 = 8;
/// The most of a body that is kept to be sent again.
const KEPT: usize = 64 << 10;

/// A request asks its endpoint to fail a number of times before it answers.
fn failing(load: &mut Load, times: u64, status: &str) {
    let header = |load: &mut Load, name: &'static str, value: &str| {
        let value: HeaderValue = value.parse().expect("a header's value");
        load.headers.insert(HeaderName::from_static(name), value);
    };
    header(load, "x-fail-first", &times.to_string());
    header(load, "x-fail-status", status);
    header(load, "x-fail-key", "{n}");
}

/// A load on the one endpoint, and how many requests it saw.
fn tried(mesh: &Mesh, change: impl FnOnce(&mut Load)) -> Result<(Outcome, u64), Failed> {
    let backend = mesh.pod("counts/tried")?;
    mesh.counted(&backend)?;
    let outcome = mesh.load(&mesh.pod("counts/client")?, "counts/tried", |load| {
        (load.count, load.width) = (ASKED, 4);
        change(load);
    })?;
    Ok((outcome, mesh.counted(&backend)?["requests"].as_u64().unwrap_or_default()))
}

/// Exactly so many attempts, whatever comes of them.
pub(crate) fn counted(mesh: &Mesh) -> Check {
    // Retries as the route says them, failures asked for and their status, attempts of each request, its answer.
    let table: [(&str, u64, &str, u64, &str); 12] = [
        ("retries: {attempts: 3, retryOn: 5xx}", 0, "503", 1, "200"),
        ("retries: {attempts: 3, retryOn: 5xx}", 2, "503", 3, "200"),
        ("retries: {attempts: 3, retryOn: 5xx}", 3, "500", 4, "200"),
        ("retries: {attempts: 3, retryOn: 5xx}", 9, "500", 4, "500"),
        ("retries: {attempts: 1, retryOn: 5xx}", 9, "503", 2, "503"),
        ("retries: {attempts: 0}", 9, "503", 1, "503"),
        ("retries: {attempts: 3, retryOn: gateway-error}", 9, "500", 1, "500"),
        ("retries: {attempts: 3, retryOn: gateway-error}", 2, "502", 3, "200"),
        ("retries: {attempts: 2, retryOn: '429'}", 1, "429", 2, "200"),
        ("retries: {attempts: 2, retryOn: retriable-4xx}", 1, "409", 2, "200"),
        // The mesh's own: only what no application has answered is tried again.
        ("timeout: 10s", 9, "503", 1, "503"),
        ("timeout: 10s", 9, "500", 1, "500"),
    ];
    for (retries, failures, status, attempts, answer) in table {
        mesh.apply(&routes("tried", &format!("[{{route: [{{destination: {{host: tried}}}}], {retries}}}]")))?;
        let (outcome, seen) = tried(mesh, |load| failing(load, failures, status))?;
        let case = format!("{retries}, {failures} × {status}");
        println!("{case}: {seen} attempts at {ASKED} requests, {:?}", outcome.statuses);
        check(seen == attempts * ASKED, || format!("{case}: {seen} attempts, not {attempts} × {ASKED}"))?;
        check(outcome.statuses.get(answer) == Some(&ASKED), || format!("{case}: {outcome:?}"))?;
    }
    Ok(())
}

/// An attempt that takes too long is followed by another, and all of them end with the time of the whole.
pub(crate) fn timed(mesh: &Mesh) -> Check {
    // Route, attempts of each request, least and most milliseconds. Where the whole ends the attempts, a busy machine may
    // not come to the last of them.
    let table = [
        ("retries: {attempts: 2, perTryTimeout: 200ms, retryOn: 5xx}", 3..=3, 600..1500),
        ("retries: {attempts: 5, perTryTimeout: 200ms, retryOn: 5xx}, timeout: 500ms", 2..=3, 500..1200),
        ("retries: {attempts: 0}, timeout: 300ms", 1..=1, 300..1000),
    ];
    for (retries, attempts, time) in table {
        mesh.apply(&routes("tried", &format!("[{{route: [{{destination: {{host: tried}}}}], {retries}}}]")))?;
        let start = Instant::now();
        let (outcome, seen) = tried(mesh, |load| {
            (load.count, load.width) = (CALLERS, CALLERS as usize);
            load.path = "/?delay=3000".to_owned();
        })?;
        let took = start.elapsed();
        println!("{retries}: {seen} attempts, {took:?}");
        check(outcome.statuses.get("504") == Some(&CALLERS), || format!("{retries}: {outcome:?}"))?;
        let allowed = attempts.start() * CALLERS..=attempts.end() * CALLERS;
        check(allowed.contains(&seen), || format!("{retries}: {seen} attempts, not {allowed:?}"))?;
        let (least, most) = (Duration::from_millis(time.start), Duration::from_millis(time.end));
        check((least..most).contains(&took), || format!("{retries}: {took:?}, not {least:?} to {most:?}"))?;
    }
    Ok(())
}

/// gRPC: a status in the place of an answer is tried again where the route names it.
pub(crate) fn calls(mesh: &Mesh) -> Check {
    for (retries, attempts, answer) in [
        ("retries: {attempts: 3, retryOn: unavailable}", 2, "grpc 0"),
        ("retries: {attempts: 3, retryOn: internal}", 1, "grpc 14"),
    ] {
        mesh.apply(&routes("tried", &format!("[{{route: [{{destination: {{host: tried}}}}], {retries}}}]")))?;
        let (outcome, seen) = tried(mesh, |load| {
            (load.protocol, load.path) = (Protocol::Grpc, "/a.Service/Method".to_owned());
            (load.body, load.expect) = ("said once".into(), String::new());
            load.to.set_port(90);
            failing(load, 1, "503");
        })?;
        check(seen == attempts * ASKED, || format!("{retries}: {seen} attempts, not {attempts} × {ASKED}"))?;
        check(outcome.statuses.get(answer) == Some(&ASKED), || format!("{retries}: {outcome:?}"))?;
    }
    Ok(())
}

/// Of two endpoints one does not listen: nobody notices, and each request arrives once.
pub(crate) fn elsewhere(mesh: &Mesh) -> Check {
    let good = mesh.pod("counts/half-v1")?;
    mesh.counted(&good)?;
    let outcome = mesh.load(&mesh.pod("counts/client")?, "counts/half", |load| {
        (load.count, load.width) = (200, 4);
    })?;
    let seen = mesh.counted(&good)?["requests"].as_u64().unwrap_or_default();
    check(outcome.good == 200 && seen == 200, || format!("{seen} arrived of {outcome:?}"))?;
    // Control: without further attempts about half of them fail.
    mesh.apply(&routes("half", "[{route: [{destination: {host: half}}], retries: {attempts: 0}}]"))?;
    let outcome = mesh.load(&mesh.pod("counts/client")?, "counts/half", |load| load.count = 200)?;
    let failed = outcome.statuses.get("503").copied().unwrap_or_default();
    check(failed >= 50 && failed + outcome.good == 200, || format!("without further attempts: {outcome:?}"))
}

/// A body of 64 KiB is sent again whole; one byte more, and it is sent once.
pub(crate) fn bodies(mesh: &Mesh) -> Check {
    mesh.apply(&routes(
        "tried",
        "[{route: [{destination: {host: tried}}], retries: {attempts: 3, retryOn: 5xx}}]",
    ))?;
    for (size, attempts) in [(1, 4), (KEPT - 1, 4), (KEPT, 4), (KEPT + 1, 1), (8 * KEPT, 1)] {
        let (outcome, seen) = tried(mesh, |load| {
            (load.method, load.body) = (Method::POST, vec![b'x'; size].into());
            // It fails once it has read all of the body, every time, and says how much that was.
            load.path = "/?status=503".to_owned();
        })?;
        println!("{size} bytes: {seen} attempts at {ASKED} requests");
        check(seen == attempts * ASKED, || {
            format!("{size} bytes: {seen} attempts, not {attempts} × {ASKED}")
        })?;
        check(outcome.statuses.get("503") == Some(&ASKED), || format!("{size} bytes: {outcome:?}"))?;
        if attempts > 1 {
            let (outcome, _) = tried(mesh, |load| {
                (load.method, load.body) = (Method::POST, vec![b'x'; size].into());
                load.expect = format!("\"bodyBytes\": {size},");
                failing(load, 2, "503");
            })?;
            check(outcome.good == ASKED, || format!("{size} bytes arrive in the end: {outcome:?}"))?;
        }
    }
    Ok(())
}
