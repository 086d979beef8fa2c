//! Gateways, and the labels that name them.

use ambit_crds::code::Code;
use ambit_crds::document::suggest;
use ambit_crds::gateway::Gateway;
use ambit_crds::gateway_class::GatewayClass;
use ambit_crds::meta::ObjectMeta;
use ambit_crds::namespace::Namespace;
use ambit_crds::service::Service;

use super::{Context, Report};
use crate::objects::Key;
use crate::translate::binding::{CANARY, CANARY_WEIGHT, Link, Share, USE, Unbound};
use crate::translate::gateways::{PORT, Waypoint};

/// Classes that are served here.
const CLASSES: [&str; 3] = ["ambit-waypoint", "ambit", "istio-waypoint"];
/// Istio's ingress, of which a newcomer's manifests speak.
const ISTIO: &str = "istio";

/// What an object with labels is.
struct Named<'a> {
    meta: &'a ObjectMeta,
    namespace: &'a str,
    /// Where its labels stand.
    field: String,
    /// Its kind, for people.
    kind: &'static str,
}

pub(super) fn of_namespace(ctx: &Context<'_>, one: &Namespace, report: &mut Report) {
    let meta = &one.meta;
    let named = Named { meta, namespace: &meta.name, field: "metadata.labels".to_owned(), kind: "namespace" };
    links(ctx, &named, |_| true, report);
}

pub(super) fn of_service(ctx: &Context<'_>, one: &Service, report: &mut Report) {
    let meta = &one.meta;
    let named =
        Named { meta, namespace: &meta.namespace, field: "metadata.labels".to_owned(), kind: "Service" };
    links(ctx, &named, |waypoint| waypoint.serves.services(), report);
    let weight = match ctx.state.labels().service(one).share {
        Share::Invalid => "its weight is missing or is no number from 0 to 100, so it gets nothing",
        Share::SameAsPrimary => "it is the first waypoint once more, so it gets nothing of its own",
        Share::None | Share::Percent(_) => return,
    };
    if meta.label(CANARY[0]).is_some() {
        let mend = format!("annotate {CANARY_WEIGHT} with its share, for example \"10\"");
        report.warning(
            Code::WaypointCanary,
            &format!("metadata.labels.{}", CANARY[0]),
            weight.to_owned(),
            mend,
        );
    }
}

/// Of a pod, or of a template of pods; `meta` holds its namespace and labels.
pub(super) fn of_template(ctx: &Context<'_>, meta: ObjectMeta, field: &str, report: &mut Report) {
    let field = format!("{field}.labels");
    let named = Named { meta: &meta, namespace: &meta.namespace, field, kind: "pod" };
    links(ctx, &named, |waypoint| waypoint.serves.workloads(), report);
}

fn links(ctx: &Context<'_>, named: &Named<'_>, serves: impl Fn(&Waypoint) -> bool, report: &mut Report) {
    let written = ctx.state.labels().written(named.meta, named.namespace, serves);
    for [name, elsewhere] in [USE, CANARY] {
        if named.meta.label(elsewhere).is_some() && named.meta.label(name).is_none() {
            let field = format!("{}.{elsewhere}", named.field);
            let message = format!("it means nothing without {name}");
            report.warning(Code::LabelValue, &field, message, format!("add {name}, or remove it"));
        }
    }
    for (label, link) in written {
        let Err(why) = link.found else { continue };
        let Key { namespace, name } = &link.gateway;
        let field = format!("{}.{label}", named.field);
        match why {
            // It is being brought up.
            Unbound::Missing if ctx.state.autos.gateway(named.namespace).as_ref() == Some(&link.gateway) => {}
            Unbound::Missing => missing(ctx, &field, &link, report),
            // The Gateway's own finding says why.
            Unbound::Refused => {
                let message =
                    format!("Gateway {namespace}/{name} is not accepted, so traffic does not go by it");
                report.warning(Code::WaypointMissing, &field, message, "mend the Gateway");
            }
            Unbound::NotAdmitted => {
                let message =
                    format!("Gateway {namespace}/{name} does not admit namespace {}", named.namespace);
                let mend = "set allowedRoutes.namespaces.from: All on its listener, or name a waypoint of the namespace";
                report.warning(Code::WaypointNotAdmitting, &field, message, mend);
            }
            Unbound::OtherTraffic => {
                let message = format!("{namespace}/{name} serves no traffic of a {}", named.kind);
                let mend = format!(
                    "kubectl label gateway {name} -n {namespace} --overwrite istio.io/waypoint-for=all"
                );
                report.warning(Code::WaypointOtherTraffic, &field, message, mend);
            }
        }
    }
}

fn missing(ctx: &Context<'_>, field: &str, link: &Link<'_>, report: &mut Report) {
    let Key { namespace, name } = &link.gateway;
    if let Some(gateway) = ctx.state.objects.get::<Gateway>(&link.gateway) {
        let class = &gateway.spec.gateway_class_name;
        let message = format!("Gateway {namespace}/{name} is of class {class}, which is no waypoint here");
        report.warning(Code::WaypointMissing, field, message, "set its gatewayClassName to ambit-waypoint");
        return;
    }
    let others = ctx.state.gateways.keys().filter(|key| key.namespace == *namespace);
    let near = suggest(name, others.map(|key| key.name.as_str()));
    let mend = match near {
        Some(near) => format!("did you mean {near}?"),
        None => format!(
            "create Gateway {name} with gatewayClassName ambit-waypoint and the listener {{name: mesh, port: {PORT}, \
             protocol: HBONE}}, or label the namespace ambit.mesh/waypoint=auto instead"
        ),
    };
    report.warning(Code::WaypointMissing, field, format!("there is no waypoint {namespace}/{name}"), mend);
}

pub(super) fn of_gateway(ctx: &Context<'_>, one: &Gateway, report: &mut Report) {
    let object = super::reference(ambit_crds::kind::Kind::Gateway, &one.meta);
    let refused = ctx.conditions(&object).iter().find(|condition| {
        condition.kind == "Accepted" && condition.status == ambit_crds::status::ConditionStatus::False
    });
    if let Some(condition) = refused {
        let field = match condition.reason.as_str() {
            "ListenersNotValid" => "spec.listeners",
            "UnsupportedAddress" => "spec.addresses",
            _ => "metadata.name",
        };
        let (message, mend) = super::said(&condition.message);
        let mend = if mend.is_empty() { "write what its class has, or another class" } else { mend };
        report.error(Code::GatewayRefused, field, message.to_owned(), mend);
        return;
    }
    let class = one.spec.gateway_class_name.as_str();
    let is_declared = ctx.state.objects.get::<GatewayClass>(&Key::new("", class)).is_some();
    if CLASSES.contains(&class) || is_declared {
        return;
    }
    let is_waypoint = one.spec.listeners.iter().any(|listener| listener.protocol == "HBONE");
    let mend = match suggest(class, CLASSES.into_iter()) {
        _ if is_waypoint => "write ambit-waypoint".to_owned(),
        _ if class == ISTIO => "write ambit, which takes HTTP listeners".to_owned(),
        Some(near) => format!("did you mean {near}?"),
        None => {
            "write ambit-waypoint or ambit, or leave it if another controller serves the class".to_owned()
        }
    };
    let message = format!("nothing here serves class {class}, so nothing is deployed for it");
    report.warning(Code::GatewayClass, "spec.gatewayClassName", message, mend);
}
