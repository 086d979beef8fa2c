//! Answers to questions about small folders, as they are printed.

use std::path::PathBuf;

use ambit_crds::{Loaded, read};

use super::question::Question;
use super::show::Answer;
use crate::mesh::settle::settled;
use crate::mesh::world::World;
use crate::mesh::{Mesh, Where};

const SHOP: &str = include_str!("tests/shop.yaml");

fn world(more: &str) -> World {
    settled(Loaded { objects: read::objects(&format!("{SHOP}---\n{more}")), ..Loaded::default() }).world
}

/// The answer to a line, as people read it; without the first line, which is the question.
fn answer(world: &World, line: &str) -> String {
    let answer = Answer::new(world, Question::from_line(line));
    let mut text = Vec::new();
    answer.text(&mut text).expect("it is written");
    let text = String::from_utf8(text).expect("it is text");
    text.split_once('\n').expect("it has lines").1.to_owned()
}

fn line(from: &str, to: &str, more: &str) -> String {
    format!("{{\"from\": {from:?}, \"to\": {to:?}{more}}}")
}

#[test]
fn a_request_through_a_waypoint() {
    let world = world("");
    let routed = "  ztunnel of the caller: captured; the caller is spiffe://cluster.local/ns/shop/sa/ann
  ztunnel of the caller: 10.96.7.1:80 is behind a waypoint: mutual TLS to it
  waypoint shop/waypoint: route VirtualService/shop/web#0 (new) takes GET /new/a, rewrites it
  waypoint shop/waypoint: T: allowed by shop/web
  waypoint shop/waypoint: 100 % to web.shop.svc.cluster.local subset v2
";
    let cases = [
        (
            line("shop/ann", "web", r#", "path": "/new/a""#),
            format!(
                "{routed}  shop/web-v2-0:
    waypoint shop/waypoint: S: allowed (no ALLOW policy applies)
    ztunnel of the pod: connection allowed (no ALLOW policy applies)
    ztunnel of the pod: reaches the pod
ALLOWED
"
            ),
        ),
        // The rewrite leads to a path that the pod's own policy denies.
        (
            line("shop/ann", "web", r#", "path": "/new/admin""#),
            format!(
                "{}  shop/web-v2-0:
    waypoint shop/waypoint: denied layer=S reason=policy_denied policy=shop/admin rule=0
DENIED
",
                routed.replace("/new/a,", "/new/admin,")
            ),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(answer(&world, &line), expected, "{line}");
    }
}

#[test]
fn every_way_to_end() {
    let world = world("");
    let rows = [
        // (from, to, more of the question, what some line says, the verdict)
        (
            "shop/bob",
            "shop/web",
            "",
            "layer=T reason=policy_denied policy=shop/web rule=0 attribute=principals",
            "DENIED",
        ),
        ("shop/ann", "web", r#", "method": "PUT""#, "policy=shop/web rule=0 attribute=methods", "DENIED"),
        ("shop/ann", "web", r#", "path": "/a%00b""#, "fails reason=bad_request", "FAILED"),
        ("shop/ann", "web", r#", "path": "/old/x""#, "status 301", "ALLOWED"),
        ("shop/ann", "web", r#", "headers": {"x-lost": "1"}"#, "reason=backend_broken", "FAILED"),
        // Past the waypoint, where a DENY of paths denies everything.
        (
            "shop/ann",
            "10.244.9.1:5678",
            "",
            "layer=l4 reason=policy_denied policy=shop/admin rule=0",
            "DENIED",
        ),
        ("plain/eve", "shop/web", "", "layer=l4 reason=policy_denied policy=shop/admin rule=0", "DENIED"),
        ("plain/eve", "shop/free", "", "ztunnel of the pod: reaches the pod", "ALLOWED"),
        ("shop/ann", "plain/eve:1", "", "nobody judges there", "ALLOWED"),
        ("shop/ann", "192.0.2.1:443", "", "which is no pod", "ALLOWED"),
        ("shop/ann", "shop/empty", "", "fails reason=no_healthy_endpoint", "FAILED"),
        ("shop/ann", "shop/ann:15008", "", "fails reason=illegal_destination", "FAILED"),
        (
            "shop/ann",
            "shop/raw",
            r#", "tcp": true"#,
            "layer=T reason=policy_denied policy=shop/raw rule=0 attribute=methods",
            "DENIED",
        ),
        ("shop/nobody", "shop/web", "", "there is no running pod shop/nobody", "UNKNOWN"),
        ("shop/ann", "shop/nothing", "", "there is no Service or running pod shop/nothing", "UNKNOWN"),
        ("shop/ann", "shop/ann", "", "write its port too", "UNKNOWN"),
    ];
    for (from, to, more, says, verdict) in rows {
        let line = line(from, to, more);
        let text = answer(&world, &line);
        assert!(text.contains(says) && text.ends_with(&format!("{verdict}\n")), "{line}:\n{text}");
    }
}

#[test]
fn pods_of_different_labels_are_told_apart() {
    let world = world(
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: v1, namespace: shop}, \
         spec: {selector: {matchLabels: {version: v1}}, action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}}",
    );
    let text = answer(&world, &line("shop/ann", "web", ""));
    let (v1, v2) = (text.find("policy=shop/v1 rule=0"), text.find("reaches the pod"));
    assert!(v1.is_some() && v2.is_some() && text.ends_with("DEPENDS\n"), "{text}");
}

#[test]
fn lines_and_folders_that_are_none_are_told() {
    let text = answer(&world(""), "{\"from\": 1}");
    assert!(text.ends_with("UNKNOWN\n"), "{text}");
    let empty = Mesh::at(&Where::Folders(vec![PathBuf::from("/nonexistent")])).expect("a folder is read");
    assert_eq!(empty.world.remarks.len(), 1, "{:?}", empty.world.remarks);
}

#[test]
fn programs_read_the_words_of_the_engine() {
    let answer = Answer::new(&world(""), Question::from_line(&line("shop/bob", "shop/web", "")));
    let mut text = Vec::new();
    answer.json(&mut text).expect("it is written");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
    assert_eq!(
        json["outcomes"],
        serde_json::json!([{
            "verdict": "denied", "at": "waypoint shop/waypoint", "layer": "T", "reason": "policy_denied",
            "policy": "shop/web", "rule": 0, "attribute": "principals",
            "says": "layer=T reason=policy_denied policy=shop/web rule=0 attribute=principals",
        }])
    );
    assert_eq!((&json["verdict"], &json["from"]), (&"denied".into(), &"shop/bob".into()));
}
