//! Waypoints that are not there: not named, named and not known, not ready, gone (rules 11 and 12).

use std::time::{Duration, Instant};

use crate::shop::Shop;
use crate::support::{Check, check};

const LABEL: &str = "istio.io/use-waypoint";
const ATTACHED: &str = "shop/t: T(web), action: ALLOW, rules: [{}]";
/// How long a waypoint may be away before its traffic goes direct.
const AWAY: Duration = Duration::from_secs(10);

/// Without a policy the label alone closes nothing; with one everything is refused, and the status says what mends it.
pub(crate) fn unnamed(shop: &Shop) -> Check {
    for value in [None, Some("none"), Some("nowhere")] {
        shop.mark(("svc", "shop/web"), "labels", LABEL, value)?;
        shop.lab.settled()?;
        shop.calls(&["alice GET web/ = 200", "carol GET web/ = 200", "dave GET web/ = 200"])?;
        shop.put(ATTACHED)?;
        shop.lab.settled()?;
        shop.calls(&[
            "alice GET web/ = l4 shop/lock~5678",
            "carol GET web/ = l4 shop/lock~5678",
            "dave GET web/ = l4 shop/lock~5678",
            "alice GET web-1:5678/ = l4 shop/lock~5678",
            "alice GET past/ = l4 shop/lock~5678",
            // By another Service's waypoint, which is none of this Service's.
            "alice GET side/ = 503",
            "alice GET bare/ = 200",
        ])?;
        let (status, message) =
            shop.condition(("AuthorizationPolicy", "shop/t"), ("Enforced", "WaypointRequired"))?;
        println!("{value:?}: Enforced={status} {message}");
        check(status == "False" && message.contains("kubectl label"), || message)?;
        // Named again.
        shop.mark(("svc", "shop/web"), "labels", LABEL, Some("waypoint"))?;
        shop.lab.settled()?;
        shop.calls(&["alice GET web/ = 200", "alice GET web-1:5678/ = l4 shop/lock~5678"])?;
        shop.clear()?;
    }
    Ok(())
}

/// `ambit.mesh/waypoint-only` asks for the same without a policy, and gives it up again.
pub(crate) fn annotated(shop: &Shop) -> Check {
    const ONLY: &str = "ambit.mesh/waypoint-only";
    shop.mark(("svc", "shop/web"), "annotations", ONLY, Some("true"))?;
    shop.lab.settled()?;
    shop.calls(&[
        "alice GET web/ = 200",
        "alice GET web-1:5678/ = l4 shop/lock~5678",
        "dave GET web/ = l4 shop/lock~5678",
    ])?;
    shop.mark(("svc", "shop/web"), "labels", LABEL, Some("none"))?;
    shop.lab.settled()?;
    shop.calls(&["alice GET web/ = l4 shop/lock~5678", "dave GET web/ = l4 shop/lock~5678"])?;
    shop.mark(("svc", "shop/web"), "annotations", ONLY, Some("false"))?;
    shop.put("shop/t: T(web), action: DENY, rules: [{}]")?;
    shop.lab.settled()?;
    shop.calls(&["alice GET web/ = 200", "alice GET web-1:5678/ = 200", "dave GET web/ = 200"])
}

/// A waypoint that has never been ready.
pub(crate) fn unready(shop: &Shop) -> Check {
    const GATEWAY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: late, namespace: shop, uid: the-late-one}
spec:
  gatewayClassName: ambit-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: late
  namespace: shop
  labels: {gateway.istio.io/managed: ambit.mesh-waypoint-controller}
  ownerReferences: [{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: late, uid: the-late-one, controller: true}]
spec:
  replicas: 0
  template:
    metadata:
      labels:
        gateway.networking.k8s.io/gateway-name: late
        gateway.networking.k8s.io/gateway-class-name: ambit-waypoint
        gateway.istio.io/managed: ambit.mesh-waypoint-controller
        istio.io/dataplane-mode: none
    spec:
      serviceAccountName: late
      containers:
      - name: waypoint
        image: ambit/waypoint
        readinessProbe: {httpGet: {path: /healthz/ready, port: 15021}}
        securityContext: {runAsUser: 1337}
"#;
    let faults = shop.lab.apply(GATEWAY)?;
    check(faults.is_empty(), || format!("{faults:?}"))?;
    let outcome = not_ready(shop);
    shop.lab.delete(&["Gateway", "Deployment"].map(|kind| ambit_lab::key_of(kind, "shop/late")))?;
    outcome
}

fn not_ready(shop: &Shop) -> Check {
    shop.mark(("svc", "shop/bare"), "labels", LABEL, Some("late"))?;
    let (status, message) =
        shop.condition(("Service", "shop/bare"), ("istio.io/WaypointBound", "WaypointIsNotReady"))?;
    println!("WaypointBound={status} {message}");
    shop.lab.settled()?;
    shop.calls(&["alice GET bare/ = 200", "dave GET bare/ = 200", "alice GET bare-1:5678/ = 200"])?;
    for policy in [
        "shop/p: T(bare), action: ALLOW, rules: [{}]",
        "shop/p: S(bare), action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]",
    ] {
        shop.put(policy)?;
        shop.lab.settled()?;
        shop.calls(&["alice GET bare/ = cut", "dave GET bare/ = l4", "alice GET bare-1:5678/ = l4"])?;
    }
    shop.lab.scale("Deployment", "shop/late", 1)?;
    shop.comes_to("once it is ready", &["alice GET bare/ = 200"])?;
    shop.calls(&["alice POST bare/ = S shop/p attribute=methods", "dave GET bare/ = l4"])
}

/// A waypoint that was there and goes: after ten seconds traffic that does not need it goes direct, what needs it is
/// refused for as long as it is away.
pub(crate) fn gone(shop: &Shop) -> Check {
    shop.mark(("svc", "shop/bare"), "labels", LABEL, Some("waypoint"))?;
    shop.put(ATTACHED)?;
    shop.lab.settled()?;
    shop.calls(&["alice GET web/ = 200", "alice GET bare/ = 200"])?;
    shop.lab.scale("Deployment", "shop/waypoint", 0)?;
    let start = Instant::now();
    let refused = [
        "alice GET web/ = cut",
        "carol GET web/ = cut",
        "dave GET web/ = l4 shop/lock~5678",
        "alice GET web-1:5678/ = l4 shop/lock~5678",
    ];
    shop.comes_to("no waypoint", &refused)?;
    shop.calls(&["alice GET bare/ = cut", "dave GET bare/ = 200"])?;
    while shop.calls(&["alice GET bare/ = 200"]).is_err() {
        shop.calls(&refused)?;
        check(start.elapsed() < AWAY * 2, || format!("still refused after {:?}", start.elapsed()))?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = start.elapsed();
    println!("withdrawn after {took:?}");
    check(took > AWAY - Duration::from_secs(1), || format!("withdrawn after {took:?}"))?;
    shop.calls(&refused)?;
    let (_status, message) =
        shop.condition(("Gateway", "shop/waypoint"), ("Programmed", "AddressNotUsable"))?;
    println!("{message}");
    shop.lab.scale("Deployment", "shop/waypoint", 1)?;
    shop.comes_to("back", &["alice GET web/ = 200", "alice GET bare/ = 200"])?;
    shop.calls(&["dave GET web/ = l4 shop/lock~5678"])
}

/// Pods outside the mesh enforce nothing (rule 14), and the policy says so.
pub(crate) fn outside(shop: &Shop) -> Check {
    let rule = "action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]";
    shop.put(&format!("plain/s: {rule}"))?;
    shop.put(&format!("shop/s: S(bare), {rule}"))?;
    let condition = |name, reason| shop.condition(("AuthorizationPolicy", name), ("Enforced", reason));
    let (status, message) = condition("plain/s", "NotEnrolled")?;
    println!("Enforced={status} {message}");
    check(status == "False", || message)?;
    // Control: the same for pods of the mesh.
    let (status, message) = condition("shop/s", "Ztunnel")?;
    check(status == "True", || message)?;
    shop.lab.settled()?;
    shop.calls(&["alice GET bare/ = l4 shop/s", "dave GET bare/ = 200"])
}
