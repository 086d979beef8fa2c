//! What translation has to say about VirtualServices, DestinationRules, HTTPRoutes and GRPCRoutes.

use ambit_crds::code::Code;
use ambit_crds::fault::Severity;
use ambit_crds::gateway_api::ParentRef;
use ambit_crds::grpc_route::GrpcRoute;
use ambit_crds::http_route::HttpRoute;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;

use super::{Context, Report};
use crate::objects::Key;
use crate::translate::routes::{Attachment, Route};

pub(super) fn check(ctx: &Context<'_>, object: &ObjectRef, report: &mut Report) {
    let said = ctx.state.said(object);
    if let Some((reason, message)) = said.refused {
        let (code, field, mend) = match reason {
            "NotYetEnforced" => (
                Code::IstioGateway,
                "spec.gateways",
                "add the gateway mesh, or write a Gateway of class ambit and an HTTPRoute",
            ),
            _ => (Code::FieldMeansLess, "spec.workloadSelector", "remove it"),
        };
        report.warning(code, field, message, mend);
    }
    for remark in said.remarks {
        let field = match remark.field.as_str() {
            "" => String::new(),
            field => format!("spec.{field}"),
        };
        let (severity, mend) = weigh(remark.code);
        report.push(remark.code, severity, &field, (remark.text, mend.to_owned()));
    }
    for written in said.not_yet {
        let (field, rest) = written.split_at(written.find([' ', ':']).unwrap_or(written.len()));
        let more = rest.trim_start_matches(':').trim_start();
        let message = match more {
            "" => "nothing enforces this field yet".to_owned(),
            more => format!("nothing enforces this field yet: {}", more.trim_matches(['(', ')'])),
        };
        let code = if field == "gateways" { Code::IstioGateway } else { Code::FieldNotYet };
        report.warning(code, &format!("spec.{field}"), message, "remove it, or know that it has no effect");
    }
    let is_attached = parents(ctx, object, report);
    let bare = said.bare.iter().filter(|service| is_attached && !ctx.is_coming(&service.namespace));
    let bare: Vec<&Key> = bare.collect();
    if let Some(first) = bare.first() {
        let services: Vec<String> = bare.iter().map(|service| name(service)).collect();
        let message =
            format!("no waypoint stands before Service {}, so nothing obeys it there", services.join(", "));
        let mend = match ctx.state.autos.asks(&first.namespace) {
            // Asked for, and not there: nothing yet that brings one up.
            true => "write a VirtualService or HTTPRoute for the Service too, which brings its waypoint up"
                .to_owned(),
            false => format!("kubectl label namespace {} ambit.mesh/waypoint=auto", first.namespace),
        };
        report.warning(Code::RouteWaypointRequired, "", message, mend);
    }
    for (service, why) in &said.elsewhere {
        let mend = "move it to the Service's namespace";
        report.warning(Code::NotSeen, "", format!("not obeyed for Service {}: {why}", name(service)), mend);
    }
}

fn name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// How bad a remark is, and what to do about it.
fn weigh(code: Code) -> (Severity, &'static str) {
    match code {
        Code::SubsetNotDefined => {
            (Severity::Error, "define the subset in a DestinationRule of that host, or correct its name")
        }
        Code::DestinationPort => (Severity::Error, "write a port of the Service"),
        Code::BackendNotResolved => {
            (Severity::Error, "name a Service with a port that the route may refer to")
        }
        Code::HostNotFound => {
            (Severity::Warning, "correct the name; nothing to do if the Service is written elsewhere")
        }
        Code::SubsetEmpty => (Severity::Warning, "correct the labels, or label the pods"),
        Code::RuleUnreachable => {
            (Severity::Warning, "put it before the rule that takes everything, or remove it")
        }
        Code::Delegate => (Severity::Warning, "correct the delegate, or its conditions"),
        Code::RuleShadowed => (Severity::Warning, "keep one of the two"),
        Code::IstioGateway => {
            (Severity::Warning, "write a Gateway of class ambit and an HTTPRoute for what comes from outside")
        }
        _ => (Severity::Note, "nothing to do if that is what you want"),
    }
}

/// What became of an HTTPRoute or GRPCRoute at each of its parents; whether one of them takes it. Other objects have none.
fn parents(ctx: &Context<'_>, object: &ObjectRef, report: &mut Report) -> bool {
    let key = Key::new(&object.namespace, &object.name);
    let objects = &ctx.state.objects;
    let route = match object.kind {
        Kind::HttpRoute => objects.get::<HttpRoute>(&key).map(Route::http),
        Kind::GrpcRoute => objects.get::<GrpcRoute>(&key).map(Route::grpc),
        _ => None,
    };
    let Some(route) = route else { return true };
    let mut is_attached = false;
    if route.parent_refs.is_empty() {
        let message = "it names no parent, so nothing obeys it".to_owned();
        let mend = "name a Service (group \"\", kind Service) or a Gateway in parentRefs";
        report.warning(Code::ParentNotFound, "spec.parentRefs", message, mend);
    }
    for (at, parent) in route.parent_refs.iter().enumerate() {
        let field = format!("spec.parentRefs[{at}]");
        match route.attachment(&ctx.state.routes(), parent) {
            Attachment::Port(_) | Attachment::Gateway(_) => is_attached = true,
            Attachment::Missing(text) => {
                let mend = if parent.is_gateway() && is_service(ctx, &route, parent) {
                    "write group \"\" and kind Service: without them a Gateway is meant"
                } else {
                    "correct the name; nothing to do if it is written elsewhere"
                };
                report.warning(Code::ParentNotFound, &field, text, mend);
            }
            Attachment::Consumer => {
                let message = "routes of clients' namespaces are not obeyed".to_owned();
                report.warning(Code::NotSeen, &field, message, "move it to the Service's namespace");
            }
            Attachment::NotAllowed(text) => {
                report.warning(Code::ParentNotFound, &field, text, "set allowedRoutes of the listener");
            }
            Attachment::NoHost => {
                let message = "its hostnames are none of the listener's".to_owned();
                report.warning(
                    Code::ParentNotFound,
                    &field,
                    message,
                    "correct hostnames here or at the listener",
                );
            }
            Attachment::Other => {
                let message = format!("nothing here obeys routes of this {}", parent.kind);
                report.warning(
                    Code::ParentNotFound,
                    &field,
                    message,
                    "name a Service, or a Gateway of class ambit",
                );
            }
        }
    }
    is_attached
}

/// Whether a Service has the name of what a parent names as a Gateway.
fn is_service(ctx: &Context<'_>, route: &Route<'_>, parent: &ParentRef) -> bool {
    let namespace = parent.namespace.as_deref().unwrap_or(&route.meta.namespace);
    ctx.state.objects.get::<ambit_crds::service::Service>(&Key::new(namespace, &parent.name)).is_some()
}
