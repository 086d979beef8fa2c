//! Services: whether they lead to pods, by ports that exist and protocols that are known.

use ambit_api::wire::workload::AppProtocol;
use ambit_crds::code::Code;
use ambit_crds::document::suggest;
use ambit_crds::kind::Kind;
use ambit_crds::meta::{ObjectRef, selects};
use ambit_crds::pod::{IntOrString, Pod, Protocol};
use ambit_crds::service::{Addressing, Service, ServicePort};
use ambit_crds::status::ConditionStatus;

use super::{Context, Report, port, reference, said};
use crate::objects::Key;
use crate::translate::routes;
use crate::translate::service::{app_protocol, is_served};

pub(super) fn check(ctx: &Context<'_>, one: &Service, report: &mut Report) {
    if !is_served(one) {
        return;
    }
    conditions(ctx, one, report);
    let key = Key::of(&one.meta);
    let pods = ctx.state.objects.within::<Pod>(&key.namespace).map(|(_, pod)| pod);
    let selected: Vec<&Pod> = pods
        .filter(|pod| !one.spec.selector.is_empty() && selects(&one.spec.selector, &pod.meta.labels))
        .collect();
    if selected.is_empty() {
        without_pods(ctx, one, report);
    }
    for (at, port) in one.spec.ports.iter().enumerate() {
        target(&selected, (at, port), report);
    }
    protocols(ctx, &key, one, report);
}

fn conditions(ctx: &Context<'_>, one: &Service, report: &mut Report) {
    let object = reference(Kind::Service, &one.meta);
    for condition in ctx.conditions(&object).iter().filter(|condition| condition.kind == "Enforced") {
        let (message, mend) = said(&condition.message);
        match (condition.status, condition.reason.as_str()) {
            (ConditionStatus::False, "WaypointRequired") if ctx.is_coming(&one.meta.namespace) => {}
            (ConditionStatus::False, "WaypointRequired") => {
                report.error(Code::ServiceLocked, "", message.to_owned(), mend);
            }
            (ConditionStatus::False, "SharedPort") => {
                let mend = "put both Services behind the same waypoint, or give them ports of their own";
                report.warning(Code::SharedPort, "", message.to_owned(), mend);
            }
            (ConditionStatus::True, "Waypoint") if one.addressing() == Addressing::Headless => {
                let message = "a policy closes its ports to all but the waypoint, and callers of a headless Service dial \
                               its pods, so they are refused"
                    .to_owned();
                let mend = "give the Service a cluster IP, or attach the policy to the pods with a selector";
                report.warning(Code::HeadlessLocked, "spec.clusterIP", message, mend);
            }
            _ => {}
        }
    }
}

fn without_pods(ctx: &Context<'_>, one: &Service, report: &mut Report) {
    let selector = &one.spec.selector;
    if selector.is_empty() {
        return;
    }
    let pods = || ctx.state.objects.within::<Pod>(&one.meta.namespace).map(|(_, pod)| pod);
    let slip = selector.iter().find_map(|(key, value)| {
        let values = pods().filter_map(|pod| pod.meta.label(key)).filter(|other| other != value);
        suggest(value, values).map(|near| format!("did you mean {key}: {near}?"))
    });
    let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    let message = format!("no pod that is written here has the labels {}", labels.join(", "));
    let mend = slip
        .unwrap_or_else(|| "correct the labels; nothing to do if the pods are written elsewhere".to_owned());
    report.warning(Code::ServiceWithoutPods, "spec.selector", message, mend);
}

fn target(pods: &[&Pod], (at, one): (usize, &ServicePort), report: &mut Report) {
    if pods.is_empty() || one.protocol != Protocol::Tcp {
        return;
    }
    let field = format!("spec.ports[{at}].targetPort");
    let target = one.target();
    let IntOrString::Number(number) = target else {
        let without = pods.iter().filter(|pod| pod.port(&target).is_none()).count();
        let IntOrString::Name(name) = &target else { return };
        if without > 0 {
            let message = format!("{without} of {} pods have no TCP port of the name {name}", pods.len());
            let names = pods.iter().flat_map(|pod| pod.serving_containers()).flat_map(|one| &one.ports);
            let mend =
                match suggest(name, names.map(|port| port.name.as_str()).filter(|name| !name.is_empty())) {
                    Some(near) if near != name => format!("did you mean {near}?"),
                    _ => "give the containers' port that name, or write its number".to_owned(),
                };
            if without == pods.len() {
                report.error(Code::TargetPort, &field, message, mend);
            } else {
                report.warning(Code::TargetPort, &field, message, mend);
            }
        }
        return;
    };
    let elsewhere = |pod: &&&Pod| {
        let mut declared = port::declared(pod).peekable();
        declared.peek().is_some() && !declared.any(|port| port == number)
    };
    if let Some(pod) = pods.iter().find(elsewhere) {
        let declared: Vec<String> = port::declared(pod).map(|port| port.to_string()).collect();
        let declared = declared.join(", ");
        let message = format!("it leads to port {number}, and the pods' containers declare {declared}");
        let mend = format!("write targetPort {declared}, or declare {number} too");
        report.warning(Code::TargetPort, &field, message, mend);
    }
}

/// Ports that are to carry HTTP, by routes or policies, and whose name says otherwise or nothing.
fn protocols(ctx: &Context<'_>, key: &Key, one: &Service, report: &mut Report) {
    let Some(lost) = asked_of_http(ctx, key) else { return };
    for (at, port) in one.spec.ports.iter().enumerate().filter(|(_, port)| port.protocol == Protocol::Tcp) {
        let field = format!("spec.ports[{at}].name");
        let number = port.port;
        match app_protocol(port) {
            AppProtocol::Tcp | AppProtocol::Tls => {
                let message = format!("port {number} is declared to be no HTTP, so {lost}");
                let mend = "name the port http, http2 or grpc, if it is that";
                report.warning(Code::PortProtocol, &field, message, mend);
            }
            AppProtocol::Unknown => {
                let message = format!(
                    "the protocol of port {number} is not declared, so it is told by the first bytes"
                );
                let mend = "name the port http, http2 or grpc, or set appProtocol";
                report.note(Code::PortProtocol, &field, message, mend);
            }
            _ => {}
        }
    }
}

/// What is lost where a port carries no HTTP; nothing if nobody asks for any.
fn asked_of_http(ctx: &Context<'_>, key: &Key) -> Option<String> {
    let state = ctx.state;
    let routed = routes::service(&state.routes(), key, &key.namespace);
    let of_http =
        |source: &&ObjectRef| matches!(source.kind, Kind::VirtualService | Kind::HttpRoute | Kind::GrpcRoute);
    if let Some(source) = routed.sources.iter().find(of_http).filter(|_| routed.is_routed()) {
        return Some(format!("{source} does nothing for it"));
    }
    let mut attached = state.policies.attached(key);
    let of_service =
        attached.any(|policy| state.policies.all.get(policy).is_some_and(|policy| policy.is_l7()));
    let pods = state.members.get(key).into_iter().flatten();
    let of_pods = pods.filter_map(|pod| state.records.get(pod)).any(|record| record.needs_l7);
    (of_service || of_pods).then(|| "what its policies ask of HTTP cannot be told, and refuses".to_owned())
}
