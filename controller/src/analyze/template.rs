//! Pods, and the templates that pods are made from.

use ambit_crds::code::Code;
use ambit_crds::enrolment::DATAPLANE_MODE;
use ambit_crds::kind::Kind;
use ambit_crds::meta::{Map, ObjectMeta, ObjectRef};
use ambit_crds::namespace::Namespace;
use ambit_crds::pod::{Pod, PodSpec};
use ambit_crds::workload_set::WorkloadSet;

use super::{Context, Report, enrolment, waypoint};
use crate::objects::Key;

/// A pod as it is written, or will be.
struct Template<'a> {
    namespace: &'a str,
    labels: &'a Map,
    annotations: &'a Map,
    spec: &'a PodSpec,
    /// Where labels and annotations stand.
    meta_field: &'a str,
    /// Where the spec stands.
    spec_field: &'a str,
}

pub(super) fn of_pod(ctx: &Context<'_>, pod: &Pod, report: &mut Report) {
    let template = Template {
        namespace: &pod.meta.namespace,
        labels: &pod.meta.labels,
        annotations: &pod.meta.annotations,
        spec: &pod.spec,
        meta_field: "metadata",
        spec_field: "spec",
    };
    check(ctx, &template, report);
}

pub(super) fn of_set(ctx: &Context<'_>, set: &WorkloadSet, report: &mut Report) {
    let template = &set.spec.template;
    let template = Template {
        namespace: &set.meta.namespace,
        labels: &template.metadata.labels,
        annotations: &template.metadata.annotations,
        spec: &template.spec,
        meta_field: "spec.template.metadata",
        spec_field: "spec.template.spec",
    };
    check(ctx, &template, report);
}

fn check(ctx: &Context<'_>, one: &Template<'_>, report: &mut Report) {
    let mend = "remove it; the label istio.io/dataplane-mode=ambient on the namespace is all that is needed";
    enrolment::injection(one.meta_field, [one.labels, one.annotations], mend, report);
    host_network(ctx, one, report);
    account(ctx, one, report);
    let meta = ObjectMeta {
        namespace: one.namespace.to_owned(),
        labels: one.labels.clone(),
        ..ObjectMeta::default()
    };
    waypoint::of_template(ctx, meta, one.meta_field, report);
}

fn host_network(ctx: &Context<'_>, one: &Template<'_>, report: &mut Report) {
    if !one.spec.host_network {
        return;
    }
    let own = one.labels.get(DATAPLANE_MODE).map(String::as_str);
    let namespace = ctx.state.objects.get::<Namespace>(&Key::new("", one.namespace));
    let of_namespace = namespace.and_then(|namespace| namespace.meta.label(DATAPLANE_MODE));
    let field = format!("{}.hostNetwork", one.spec_field);
    let message =
        "a pod in the node's network is never in the mesh: what demands mutual TLS refuses it".to_owned();
    match (own, of_namespace) {
        (Some("ambient"), _) => {
            report.warning(Code::HostNetwork, &field, message, "remove the label, or hostNetwork");
        }
        (None, Some("ambient")) => {
            report.note(
                Code::HostNetwork,
                &field,
                message,
                "remove hostNetwork if the pod belongs in the mesh",
            );
        }
        _ => {}
    }
}

fn account(ctx: &Context<'_>, one: &Template<'_>, report: &mut Report) {
    let name = one.spec.service_account_name.as_str();
    if matches!(name, "" | "default")
        || ctx.state.objects.any(&ObjectRef::new(Kind::ServiceAccount, one.namespace, name)).is_some()
    {
        return;
    }
    let field = format!("{}.serviceAccountName", one.spec_field);
    let message = format!(
        "there is no ServiceAccount {}/{name} here; the cluster makes no pod without it",
        one.namespace
    );
    let mend = format!("kubectl create serviceaccount {name} -n {}, or correct the name", one.namespace);
    report.warning(Code::ServiceAccountMissing, &field, message, mend);
}
