//! PeerAuthentications: what has no effect, and who is shut out.

use std::collections::BTreeMap;

use ambit_crds::code::Code;
use ambit_crds::kind::Kind;
use ambit_crds::meta::selects;
use ambit_crds::peer_authentication::{MtlsMode, PeerAuthentication};
use ambit_crds::pod::Pod;
use ambit_crds::status::ConditionStatus;

use super::port::Known;
use super::{Context, Report, policy, reference, said};
use crate::objects::Key;

/// So many namespaces are named; the others are counted.
const NAMED: usize = 3;

pub(super) fn check(ctx: &Context<'_>, one: &PeerAuthentication, report: &mut Report) {
    let object = reference(Kind::PeerAuthentication, &one.meta);
    let selector = if one.spec.selector.is_empty() { "" } else { "spec.selector" };
    for condition in ctx.conditions(&object).iter().filter(|condition| condition.kind == "Enforced") {
        let (message, mend) = said(&condition.message);
        match (condition.status, condition.reason.as_str()) {
            (ConditionStatus::False, "NoEffect") => {
                report.warning(Code::PeerSelectorInRoot, selector, message.to_owned(), mend);
            }
            (ConditionStatus::False, "Duplicate") => {
                report.warning(Code::PeerDuplicate, selector, message.to_owned(), mend);
            }
            (ConditionStatus::False, "NoWorkloads") => policy::no_workloads(selector, report),
            (ConditionStatus::False, "NotEnrolled") => policy::not_enrolled(&one.meta.namespace, report),
            (ConditionStatus::True, _) if one.spec.mode == MtlsMode::Strict => callers(ctx, report),
            _ => {}
        }
    }
    ports(ctx, one, report);
    disabled(one, report);
}

/// Pods outside the mesh, which only speak plaintext.
fn callers(ctx: &Context<'_>, report: &mut Report) {
    let mut outside: BTreeMap<&str, usize> = BTreeMap::new();
    for (pod, _) in ctx.state.records.iter().filter(|(_, record)| record.covered && !record.enrolled) {
        *outside.entry(&pod.namespace).or_default() += 1;
    }
    if outside.is_empty() {
        return;
    }
    let mut named: Vec<String> =
        outside.iter().take(NAMED).map(|(namespace, pods)| format!("{namespace} ({pods})")).collect();
    if outside.len() > NAMED {
        named.push(format!("{} more namespaces", outside.len() - NAMED));
    }
    let message =
        format!("STRICT refuses callers outside the mesh, and such pods are here: in {}", named.join(", "));
    let mend = "enrol those that call these pods (istio.io/dataplane-mode=ambient), or write PERMISSIVE for what they call";
    report.warning(Code::PlaintextCallers, "spec.mtls.mode", message, mend);
}

fn ports(ctx: &Context<'_>, one: &PeerAuthentication, report: &mut Report) {
    if one.spec.ports.is_empty() {
        return;
    }
    let pods = ctx.state.records.iter().filter(|(key, _)| key.namespace == one.meta.namespace);
    let pods = pods.filter(|(key, _)| {
        let pod = ctx.state.objects.get::<Pod>(key);
        pod.is_some_and(|pod| selects(&one.spec.selector, &pod.meta.labels))
    });
    let Some(known) = Known::of(ctx, pods.map(|(key, record): (&Key, _)| (key, record))) else { return };
    for port in one.spec.ports.keys().filter(|port| !known.is_own(**port)) {
        let message = format!("no pod that it selects has port {port}");
        let mend = format!("write a port of the pods, not of a Service: {}", known.list());
        report.warning(Code::PeerPort, &format!("spec.portLevelMtls.{port}"), message, mend);
    }
}

fn disabled(one: &PeerAuthentication, report: &mut Report) {
    let ports = one.spec.ports.iter().map(|(port, mode)| (format!("spec.portLevelMtls.{port}.mode"), *mode));
    let all = std::iter::once(("spec.mtls.mode".to_owned(), one.spec.mode)).chain(ports);
    for (field, _) in all.filter(|(_, mode)| *mode == MtlsMode::Disable) {
        let message =
            "pods in the mesh speak mutual TLS to each other all the same, so it means PERMISSIVE".to_owned();
        report.note(Code::PeerDisable, &field, message, "write PERMISSIVE");
    }
}
