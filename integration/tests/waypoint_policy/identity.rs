//! Who is a waypoint, and who is not (rules 1 and 2).

use std::time::Instant;

use ambit_lab::tokens::Claims;
use ambit_lab::{Component, NodeNumber, key_of};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::controller::{Controller, claims};
use crate::hbone::{Met, Try};
use crate::judged::{Marks, PATIENCE};
use crate::shop::Shop;
use crate::support::{Check, check};

const WAYPOINT: &str = "spiffe://cluster.local/ns/shop/sa/waypoint";
const ALICE: &str = "spiffe://cluster.local/ns/shop/sa/alice";
const LISTENERS: &str = "listeners: [{name: mesh, port: 15008, protocol: HBONE}]";
/// What the controller labels a waypoint's pods with.
const LABELS: &str = "gateway.networking.k8s.io/gateway-name: waypoint, gateway.networking.k8s.io/gateway-class-name: ambit-waypoint, gateway.istio.io/managed: ambit.mesh-waypoint-controller, istio.io/dataplane-mode: none";

/// A Gateway that would get somebody else's identity, one that somebody else runs, and one of another class: no waypoints,
/// so what names them stays closed, to those identities too.
pub(crate) fn strangers(shop: &Shop) -> Check {
    // (name, specification, condition Accepted)
    let table = [
        ("alice", format!("gatewayClassName: ambit-waypoint, {LISTENERS}"), Some(("False", "Invalid"))),
        (
            "elsewhere",
            format!("gatewayClassName: ambit-waypoint, addresses: [{{value: 192.0.2.1}}], {LISTENERS}"),
            Some(("False", "UnsupportedAddress")),
        ),
        ("foreign", format!("gatewayClassName: somebody-elses, {LISTENERS}"), None),
        ("fresh", format!("gatewayClassName: ambit-waypoint, {LISTENERS}"), Some(("True", "Accepted"))),
    ];
    for (name, spec, accepted) in table {
        shop.put(&format!("Gateway shop/{name}: {spec}"))?;
        shop.mark(("svc", "shop/bare"), "labels", "istio.io/use-waypoint", Some(name))?;
        shop.put("shop/t: T(bare), action: ALLOW, rules: [{}]")?;
        if let Some((status, reason)) = accepted {
            let found = shop.condition(("Gateway", &format!("shop/{name}")), ("Accepted", reason))?;
            println!("Gateway {name}: Accepted={} {}", found.0, found.1);
            check(found.0 == status, || format!("{name}: {found:?}"))?;
        }
        if name == "fresh" {
            shop.lab.settled()?;
            shop.comes_to("behind the new waypoint", &["alice GET bare/ = 200", "bob GET bare/ = 200"])?;
            shop.calls(&["alice GET bare-1:5678/ = l4 shop/lock~5678"])?;
            check(!shop.lab.pods("shop/fresh").is_empty(), || "no pod of the new waypoint".to_owned())?;
        } else {
            shop.lab.settled()?;
            shop.calls(&[
                "alice GET bare/ = l4 shop/lock~5678",
                "bob GET bare/ = l4 shop/lock~5678",
                "alice GET bare-1:5678/ = l4 shop/lock~5678",
                "dave GET bare/ = l4 shop/lock~5678",
            ])?;
            // A policy with HTTP in it counts nobody of that name as a waypoint.
            shop.put("shop/t: S(bare), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]")?;
            shop.lab.settled()?;
            shop.calls(&["alice GET bare/ = l4 shop/t", "bob GET bare/ = l4 shop/t"])?;
            check(shop.lab.waypoints().iter().all(|pod| !pod.name.starts_with(name)), || {
                format!("{name} was deployed")
            })?;
        }
        shop.clear()?;
    }
    Ok(())
}

/// A route of one waypoint leads to a Service behind another (rule 14): its requests go through that one, which sees the
/// first as their client.
pub(crate) fn beyond(shop: &Shop) -> Check {
    shop.put(&format!("Gateway shop/second: gatewayClassName: ambit-waypoint, {LISTENERS}"))?;
    shop.mark(("svc", "shop/bare"), "labels", "istio.io/use-waypoint", Some("second"))?;
    let route = "match: [{uri: {prefix: /on}}], route: [{destination: {host: bare}}]";
    shop.put(&format!(
        "VirtualService shop/web: hosts: [web], http: [{{{route}}}, {{route: [{{destination: {{host: web}}}}]}}]"
    ))?;
    let only = |who| {
        format!(
            "shop/t: T(bare), action: ALLOW, rules: [{{from: [{{source: {{serviceAccounts: [{who}]}}}}]}}]"
        )
    };
    shop.put(&only("waypoint"))?;
    shop.lab.settled()?;
    shop.comes_to("behind the second waypoint", &["alice GET web/on = 200", "bob GET web/on = 200"])?;
    shop.calls(&["alice GET web/ = 200", "alice GET bare/ = T shop/t attribute=serviceAccounts"])?;
    shop.put(&only("alice"))?;
    shop.lab.settled()?;
    let marks = Marks::now(&shop.lab);
    shop.calls(&["alice GET bare/ = 200", "alice GET web/on = 403", "alice GET web/ = 200"])?;
    let first = shop.lab.waypoints().into_iter().find(|pod| pod.name.starts_with("waypoint"));
    let address = first.ok_or("no waypoint")?.address.v4;
    marks.refused(&shop.lab, &[&format!("client={address}:"), "layer=T", "policy=shop/t"])
}

/// Who gets the waypoint's certificate.
pub(crate) fn certificates(shop: &Shop) -> Check {
    for (name, account, labels) in
        [("forger", "alice", LABELS), ("lodger", "waypoint", "app: lodger"), ("double", "waypoint", LABELS)]
    {
        let faults = shop.lab.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}, \
             spec: {{nodeName: node-1, serviceAccountName: {account}, \
             containers: [{{name: idle, image: ambit/idle, command: [sleep, infinity]}}]}}}}"
        ))?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
    }
    shop.lab.settled()?;
    let outcome = asked(shop);
    shop.lab.delete(&["forger", "lodger", "double"].map(|name| key_of("Pod", &format!("shop/{name}"))))?;
    outcome
}

fn asked(shop: &Shop) -> Check {
    let waypoint = shop.lab.waypoints().into_iter().next().ok_or("no waypoint")?;
    let node = NodeNumber(1);
    // (whose token, what is asked for, the reason in the controller's log)
    let table = [
        ("ztunnel-node-1", WAYPOINT, "impersonation"),
        ("alice", WAYPOINT, "application_token"),
        ("forger", WAYPOINT, "application_token"),
        ("lodger", WAYPOINT, "no_replica"),
        ("double", WAYPOINT, "no_replica"),
        (&waypoint.name, ALICE, "other_identity"),
    ];
    let controller = Controller::of(&shop.lab);
    let mut faults = Vec::new();
    for (who, identity, reason) in table {
        let before = turned_away(shop, reason);
        match controller.certificate(node, Some(token(shop, who)?), identity) {
            Ok(_papers) => faults.push(format!("{who} got {identity}")),
            Err(answer) => {
                println!("{who}, {identity}: {answer}");
                let start = Instant::now();
                while turned_away(shop, reason) == before {
                    check(start.elapsed() < PATIENCE, || format!("{who}: no line for {reason} in the log"))?;
                }
            }
        }
    }
    check(faults.is_empty(), || faults.join("\n"))?;
    // Control: the waypoint's own token, and what its certificate opens.
    let own = controller.certificate(node, Some(token(shop, &waypoint.name)?), WAYPOINT)?;
    let plain = controller.certificate(node, Some(token_of(shop, claims(&shop.lab, node)?)?), ALICE)?;
    shop.put("shop/t: T(web), action: ALLOW, rules: [{}]")?;
    shop.lab.settled()?;
    let (from, to) = (shop.lab.pod("shop/alice")?, shop.lab.pod("shop/web-1")?);
    let met = Try::to(&to, 5678).from(&shop.lab, &from, &own);
    check(matches!(met, Met::Application(_)), || format!("with the waypoint's certificate: {met:?}"))?;
    let met = Try::to(&to, 5678).from(&shop.lab, &from, &plain);
    check(met == Met::Status(401), || format!("with alice's certificate: {met:?}"))
}

fn token(shop: &Shop, pod: &str) -> Result<String, Failed> {
    let found = shop.lab.pod_objects().into_iter().find(|one: &Value| one["metadata"]["name"] == pod);
    token_of(shop, Claims::of_pod(&found.ok_or_else(|| format!("no pod {pod}"))?))
}

fn token_of(shop: &Shop, claims: Claims) -> Result<String, Failed> {
    Ok(shop.lab.token(&claims)?)
}

fn turned_away(shop: &Shop, reason: &str) -> usize {
    let words = ["refused", "service=Certificates", &format!("reason={reason}")].map(str::to_owned);
    let log = shop.lab.logs(Component::Controller);
    log.lines().filter(|line| words.iter().all(|word| line.contains(word.as_str()))).count()
}
