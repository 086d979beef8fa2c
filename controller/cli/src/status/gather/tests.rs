//! What programs say, put together.

use serde_json::json;

use super::{Expected, put_together, synced};
use crate::failure::Failure;
use crate::golden;
use crate::mesh::http::Answer;

fn answer(status: u16, body: &str) -> Result<Answer, Failure> {
    Ok(Answer { status, body: body.to_owned() })
}

fn expected(program: &str, node: &str, pod: &str) -> Expected {
    let [program, node, pod] = [program, node, pod].map(str::to_owned);
    Expected { ask: format!("{program}/{node}"), program, node, pod }
}

fn proxy(node: &str, pod: &str, more: &serde_json::Value) -> serde_json::Value {
    let mut proxy = json!({
        "node": node, "pod": pod, "version": "0.1.0", "generation_sent": 7, "generation_acked": 7,
        "overdue": null, "nacks": [],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        proxy[key] = value.clone();
    }
    proxy
}

fn syncz(settled: bool, proxies: &[serde_json::Value]) -> super::Synced {
    let body = json!({ "generation": 7, "settled": settled, "proxies": proxies }).to_string();
    synced(&Answer { status: 200, body }).expect("a controller says so")
}

#[test]
fn all_is_well() {
    let told = syncz(true, &[proxy("node-1", "ambit-system/ztunnel-node-1", &json!({}))]);
    let asked = vec![
        (expected("ztunnel", "node-1", ""), answer(200, "ready\n")),
        (expected("agent", "node-1", ""), answer(200, "ready\n")),
    ];
    let status = put_together(&told, answer(200, "ready\n"), asked);
    assert!(status.waiting.is_empty(), "{status:?}");
    golden::check("status-well", &status);
}

#[test]
fn whatever_waits_is_named() {
    let waypoint = |name: &str, more: serde_json::Value| {
        let mut more = more;
        more["waypoint"] = "shop/waypoint".into();
        proxy("node-1", &format!("shop/{name}"), &more)
    };
    let told = syncz(
        false,
        &[
            proxy("node-1", "ambit-system/ztunnel-node-1", &json!({"generation_acked": 6})),
            proxy("node-2", "ambit-system/ztunnel-node-2", &json!({"generation_acked": null})),
            proxy("node-9", "istio-system/ztunnel-x", &json!({"overdue": "Address", "version": ""})),
            waypoint(
                "waypoint-a",
                json!({"nacks": [{"type": "Policy", "generation": 5, "message": "rule 0: no methods"}]}),
            ),
        ],
    );
    let down = || Err(Failure::new("refused", "start it"));
    let asked = vec![
        (expected("ztunnel", "node-1", ""), answer(200, "ready\n")),
        (expected("ztunnel", "node-2", ""), answer(500, "not ready, pending: xds, certificates\n")),
        (expected("ztunnel", "node-3", ""), down()),
        (expected("agent", "node-1", ""), down()),
        (expected("waypoint shop/waypoint", "node-1", "shop/waypoint-a"), answer(200, "ready\n")),
        (expected("waypoint shop/waypoint", "node-2", "shop/waypoint-b"), answer(200, "ready\n")),
    ];
    golden::check("status-waiting", &put_together(&told, answer(200, "ready\n"), asked));
}

#[test]
fn what_is_no_controller_is_named() {
    let failure = synced(&Answer { status: 404, body: String::new() }).unwrap_err().to_string();
    assert!(failure.contains("no controller") && failure.ends_with("--live ADDRESS"), "{failure}");
}
