//! Tables of DestinationRules that are read and of mistakes that are not.

use std::time::Duration;

use super::{DestinationRuleSpec, HashKey, HashRing, SimpleBalancer, TlsMode};
use crate::object::Object;
use crate::read::tests::{object, said};
use crate::value::Percent;

fn document(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: ns}}\nspec: {spec}\n"
    )
}

fn spec(text: &str) -> DestinationRuleSpec {
    match &*object(&document(text)) {
        Object::DestinationRule(one) => one.spec.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_field_is_kept() {
    let spec = spec(include_str!("testdata/every_field.yaml"));
    let policy = spec.traffic_policy.as_ref().unwrap();
    let balancer = policy.load_balancer.as_ref().unwrap();
    assert_eq!(balancer.simple, Some(SimpleBalancer::LeastConn));
    assert_eq!(balancer.warmup.as_ref().unwrap().minimum_percent, Some(Percent::whole(20)));
    let pool = policy.connection_pool.as_ref().unwrap();
    assert_eq!(pool.tcp.max_connections, Some(100));
    assert_eq!(pool.tcp.connect_timeout, Some(Duration::from_millis(30)));
    assert_eq!(pool.http.http1_max_pending_requests, Some(10));
    assert_eq!(pool.http.http2_max_requests, Some(100));
    assert_eq!(pool.http.http2_keep_alive.as_ref().unwrap().timeout, Some(Duration::from_secs(5)));
    let outliers = policy.outlier_detection.as_ref().unwrap();
    assert_eq!(outliers.consecutive_errors, Some(3));
    assert_eq!(outliers.consecutive_5xx_errors, Some(5));
    assert_eq!(outliers.outlier_detection_http_error_codes, [500, 503]);
    assert_eq!(policy.tls.as_ref().unwrap().mode, TlsMode::Simple);
    assert_eq!(policy.retry_budget.unwrap().percent, Some(Percent::new(20.5).unwrap()));
    let port = &policy.port_level_settings[0];
    assert_eq!(port.port.unwrap().number.get(), 8080);
    let hash = port.load_balancer.as_ref().unwrap().consistent_hash.clone().unwrap();
    assert!(matches!(hash.key, HashKey::Cookie(cookie) if cookie.ttl == Some(Duration::ZERO)));
    assert_eq!(hash.ring, HashRing::Maglev { table_size: 65_537 });
    assert_eq!(spec.subsets[0].labels["version"], "v1");
    let own = spec.subsets[1].traffic_policy.as_ref().unwrap().load_balancer.as_ref().unwrap();
    let hash = own.consistent_hash.as_ref().unwrap();
    assert_eq!((&hash.key, hash.ring), (&HashKey::SourceIp, HashRing::Ring { minimum_size: 7 }));
    assert_eq!(spec.workload_selector.match_labels["app"], "client");
}

fn whole(text: &str) -> String {
    text.to_owned()
}

fn policy(policy: &str) -> String {
    format!("{{host: a, trafficPolicy: {{{policy}}}}}")
}

/// What surrounds a text, the text, and what is said about it.
type Mistake = (fn(&str) -> String, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    (whole, "{}", "spec.host: no service is named; write its name"),
    (whole, "{host: a, subset: []}", "spec.subset: unknown field; did you mean \"subsets\"?"),
    (whole, "{host: a, subsets: [{labels: {a: b}}]}", "spec.subsets[0]: the field \"name\" is missing"),
    (whole, "{host: a, subsets: [{name: b}, {name: b}]}", "spec.subsets[1].name: \"b\" is there twice"),
    (
        whole,
        "{host: a, subsets: [{name: b, labels: {v: 1}}]}",
        "spec.subsets[0].labels.v: wrong type: integer `1`",
    ),
    (
        policy,
        "loadBalancer: {simple: LEAST_CON}",
        "spec.trafficPolicy.loadBalancer.simple: unknown value \"LEAST_CON\"; did you mean \"LEAST_CONN\"?",
    ),
    (
        policy,
        "loadBalancer: {consistentHash: {}}",
        "spec.trafficPolicy.loadBalancer.consistentHash: exactly one key",
    ),
    (
        policy,
        "loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}",
        "spec.trafficPolicy.loadBalancer.consistentHash: both",
    ),
    (
        policy,
        "connectionPool: {tcp: {maxConnections: -1}}",
        "spec.trafficPolicy.connectionPool.tcp.maxConnections: ",
    ),
    (
        policy,
        "connectionPool: {http: {maxConnections: 1}}",
        "spec.trafficPolicy.connectionPool.http.maxConnections: unknown field",
    ),
    (
        policy,
        "outlierDetection: {maxEjectionPercent: 101}",
        "spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 is not",
    ),
    (
        policy,
        "outlierDetection: {interval: 0s}",
        "spec.trafficPolicy.outlierDetection.interval: it is shorter than 1ms",
    ),
    (
        policy,
        "outlierDetection: {consecutiveLocalOriginFailures: 1}",
        "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: it counts only",
    ),
    (
        policy,
        "portLevelSettings: [{tls: {mode: DISABLE}}]",
        "spec.trafficPolicy.portLevelSettings[0].port: it does not say",
    ),
    (policy, "tls: {mode: MUTUAL}", "spec.trafficPolicy.tls.mode: MUTUAL needs a certificate"),
    (policy, "tunnel: {targetHost: a}", "spec.trafficPolicy.tunnel: the field \"targetPort\" is missing"),
    (
        policy,
        "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 90}}]}}",
        "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: the shares sum to 90",
    ),
];

#[test]
fn mistakes_name_field_and_mend() {
    for (wrap, text, expected) in MISTAKES {
        let spec = wrap(text);
        let said = said(&document(&spec));
        let prefix = format!("f.yaml:4: DestinationRule ns/d: {expected}");
        assert!(said.starts_with(&prefix), "{spec}\n said     {said}\n expected {prefix}");
    }
}
