//! Mirrors: how many, of what, and that nobody waits for them.

use crate::routed::{Mesh, PATIENCE, all_good, allowed, of_version};
use crate::support::{Check, check};
use crate::{routes, traffic};
use std::time::Instant;

const ASKED: u64 = 1000;

/// Copies in their share go to the other version, with `-shadow` at the host; what answers is the first alone.
pub(crate) fn counted(mesh: &Mesh) -> Check {
    let client = mesh.pod("counts/client")?;
    let (first, second) = (mesh.pod("counts/copied-v1")?, mesh.pod("counts/copied-v2")?);
    mesh.apply(&traffic(
        "copied",
        "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: nobody, labels: {version: none}}]",
    ))?;
    let copy = |subset: &str, share: &str| {
        routes(
            "copied",
            &format!(
                "[{{route: [{{destination: {{host: copied, subset: v1}}}}], mirror: {{host: copied, subset: {subset}}}, mirrorPercentage: {{value: {share}}}}}]"
            ),
        )
    };
    for (subset, share) in [("v2", 30.0), ("v2", 100.0), ("v2", 0.0), ("nobody", 100.0)] {
        mesh.apply(&copy(subset, &share.to_string()))?;
        mesh.counted(&first)?;
        mesh.counted(&second)?;
        // The copies take long, the answers do not wait for them.
        let outcome = mesh.load(&client, "counts/copied", |load| {
            (load.count, load.width, load.rate) = (ASKED, 16, Some(500.0));
            (load.method, load.body) = (http::Method::POST, "to be copied".into());
        })?;
        all_good(subset, &outcome)?;
        check(of_version(&outcome, "v1") == ASKED, || format!("{outcome:?}"))?;
        let seen = mesh.counted(&first)?;
        check(seen["requests"] == ASKED && seen["mirrors"] == 0, || format!("the first: {seen}"))?;
        let copies = arrived(mesh)?;
        let share = if subset == "v2" { share / 100.0 } else { 0.0 };
        allowed(&format!("copies to {subset}"), copies, ASKED, share)?;
    }
    Ok(())
}

/// Copies that are on their way arrive within this.
const QUIET: std::time::Duration = std::time::Duration::from_secs(1);

/// Copies that arrived, once none has come for a while: nobody says which was the last.
fn arrived(mesh: &Mesh) -> Result<u64, libtest_mimic::Failed> {
    let second = mesh.pod("counts/copied-v2")?;
    let (mut copies, mut last, end) = (0, Instant::now(), Instant::now() + PATIENCE);
    loop {
        let seen = mesh.counted(&second)?;
        check(seen["requests"] == seen["mirrors"], || format!("not copies: {seen}"))?;
        let more = seen["requests"].as_u64().unwrap_or_default();
        copies += more;
        if more > 0 {
            last = Instant::now();
        }
        if last.elapsed() > QUIET {
            return Ok(copies);
        }
        check(Instant::now() < end, || format!("copies still come: {copies} so far"))?;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
