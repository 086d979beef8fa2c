//! Whoever asks, the answers are the same; what is found in which manifests is tried by the command line's tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_crds::code::Code;
use ambit_crds::object::Object;
use ambit_crds::read;

use super::{about, admitted, all};
use crate::settled::settle;

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, ambit.mesh/waypoint: auto}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: v1}}
    spec:
      serviceAccountName: missing
      containers: [{name: web, image: web, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

const ROUTE: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - route: [{destination: {host: web, subset: v2}}]
"#;

fn codes(findings: &[super::Finding]) -> BTreeSet<Code> {
    findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn one_object_is_told_what_it_is_told_among_all() {
    let settled = settle(read::objects(&format!("{SHOP}---{ROUTE}")), []);
    let everything = all(&settled.translator);
    assert_eq!(
        codes(&everything),
        BTreeSet::from([Code::ServiceAccountMissing, Code::PortProtocol, Code::SubsetNotDefined])
    );
    for object in settled.translator.state().objects.each().map(Object::reference) {
        let own: Vec<_> = everything.iter().filter(|finding| finding.object == object).cloned().collect();
        assert_eq!(about(&settled.translator, &object), own, "{object}");
    }
}

#[test]
fn an_object_is_judged_before_it_is_there() {
    let settled = settle(read::objects(SHOP), []);
    let before = all(&settled.translator);
    assert_eq!(codes(&before), BTreeSet::from([Code::ServiceAccountMissing]));
    let route: Arc<Object> = read::objects(ROUTE).remove(0);
    assert_eq!(codes(&admitted(&settled.translator, &route)), BTreeSet::from([Code::SubsetNotDefined]));
    assert!(about(&settled.translator, &route.reference()).is_empty());
    assert_eq!(all(&settled.translator), before);
}
