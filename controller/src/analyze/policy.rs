//! AuthorizationPolicies: where they have no effect, or another one than meant.

use ambit_crds::authorization_policy::{Action, AuthorizationPolicy, ConditionKey, Scope, TargetRef};
use ambit_crds::code::Code;
use ambit_crds::kind::{Kind, Standing};
use ambit_crds::service::Service;
use ambit_crds::status::{Condition, ConditionStatus};

use super::{Context, Report, client, pattern, port, reference, said};
use crate::objects::Key;
use crate::translate::record::Record;

pub(super) fn check(ctx: &Context<'_>, one: &AuthorizationPolicy, report: &mut Report) {
    let key = Key::of(&one.meta);
    let object = reference(Kind::AuthorizationPolicy, &one.meta);
    for condition in ctx.conditions(&object).iter().filter(|condition| condition.kind == "Enforced") {
        verdict(ctx, &key, one, condition, report);
    }
    if let Scope::Targets(targets) = &one.spec.scope {
        for (at, target) in targets.iter().enumerate() {
            attached(ctx, &key, (at, target), report);
        }
    }
    if !one.is_dry_run() {
        everything(ctx, &key, one, report);
    }
    authorizer(ctx, one, report);
    tokens(one, report);
    port::of_policy(ctx, &key, one, report);
    client::check(ctx, one, report);
    pattern::of_policy(one, report);
}

/// Pods that a policy covers.
pub(super) fn covered<'a>(
    ctx: &'a Context<'_>,
    policy: &'a Key,
) -> impl Iterator<Item = (&'a Key, &'a Record)> {
    ctx.state.records.iter().filter(move |(_, record)| record.applies.contains(policy))
}

fn verdict(
    ctx: &Context<'_>,
    key: &Key,
    one: &AuthorizationPolicy,
    condition: &Condition,
    report: &mut Report,
) {
    let message = condition.message.clone();
    let field = if matches!(one.spec.scope, Scope::Selector(_)) { "spec.selector" } else { "" };
    match (condition.status, condition.reason.as_str()) {
        (ConditionStatus::False, "AuditOnly") => {
            let mend = "write action DENY, or the annotation istio.io/dry-run to count what it would deny";
            report.warning(Code::PolicyNoEffect, "spec.action", message, mend);
        }
        (ConditionStatus::False, "NoEffect") => {
            let (message, mend) = said(&message);
            report.warning(Code::PolicyNoEffect, "spec.rules", message.to_owned(), mend);
        }
        // Of targets one by one.
        (_, "WaypointRequired" | "TargetNotFound") if matches!(one.spec.scope, Scope::Targets(_)) => {}
        (ConditionStatus::False, "NoWorkloads") => no_workloads(field, report),
        (ConditionStatus::False, "WaypointRequired") => match covered(ctx, key).next() {
            None => no_workloads(field, report),
            Some((pod, _)) if ctx.is_coming(&pod.namespace) => {}
            Some(_) => {
                let (message, mend) = said(&message);
                report.error(Code::PolicyWaypointRequired, "spec.rules", message.to_owned(), mend);
            }
        },
        (ConditionStatus::False, "NotEnrolled") => not_enrolled(&key.namespace, report),
        (ConditionStatus::True, "AmbiguousPorts") => {
            let (_, why) = said(&message);
            let message = message.trim_end_matches(why).trim_end_matches("; ").to_owned();
            report.warning(Code::PolicyPortAmbiguous, "spec.rules", message, why);
        }
        _ => {}
    }
}

/// No pod is covered.
pub(super) fn no_workloads(field: &str, report: &mut Report) {
    let mend = "correct the labels or the namespace; nothing to do if the pods are written elsewhere";
    report.warning(Code::NoWorkloads, field, "it covers no pod that is written here".to_owned(), mend);
}

/// Pods are covered, and all are outside the mesh.
pub(super) fn not_enrolled(namespace: &str, report: &mut Report) {
    let message = "none of the pods that it covers is in the mesh, so nothing enforces it".to_owned();
    let mend = format!("kubectl label namespace {namespace} istio.io/dataplane-mode=ambient");
    report.warning(Code::NotEnrolled, "", message, mend);
}

fn attached(ctx: &Context<'_>, key: &Key, (at, target): (usize, &TargetRef), report: &mut Report) {
    let field = format!("spec.targetRefs[{at}]");
    let TargetRef { kind, name, .. } = target;
    let namespace = &key.namespace;
    let found = ctx.state.targets(key, std::slice::from_ref(target));
    if !found.missing.is_empty() {
        let message = format!("there is no {kind} {name} in namespace {namespace}");
        let mend = "correct the name; a policy stands in the namespace of what it names";
        report.warning(Code::TargetNotFound, &field, message, mend);
    }
    if !found.services.is_empty() && !ctx.is_coming(namespace) {
        let message = format!("no waypoint stands before Service {namespace}/{name}, so it refuses everyone");
        let mend = format!("kubectl label service {name} -n {namespace} istio.io/use-waypoint=waypoint");
        report.error(Code::PolicyWaypointRequired, &field, message, mend);
    }
    if !found.waived.is_empty() {
        let message =
            format!("ambit.mesh/waypoint-only=false on Service {namespace}/{name} gives the policy up");
        report.warning(Code::PolicyNoEffect, &field, message, "remove that annotation, or name a waypoint");
    }
    if !found.others.is_empty() {
        let message = format!("nothing enforces policies of {kind} {name}");
        report.warning(
            Code::PolicyNoEffect,
            &field,
            message,
            "name a Service, or a Gateway that is a waypoint",
        );
    }
}

/// What lets nobody in.
fn everything(ctx: &Context<'_>, key: &Key, one: &AuthorizationPolicy, report: &mut Report) {
    let rules = &one.spec.rules;
    if one.spec.action == Action::Deny
        && let Some(at) = rules.iter().position(|rule| *rule == Default::default())
    {
        let message = "a rule without from, to and when matches everything, so everyone is denied".to_owned();
        let mend = "say in the rule what is to be denied";
        report.warning(Code::DeniesEverything, &format!("spec.rules[{at}]"), message, mend);
    }
    if one.spec.action != Action::Allow || !rules.is_empty() {
        return;
    }
    let allows = |other: &Key| {
        let other = ctx.state.objects.get::<AuthorizationPolicy>(other);
        other.is_some_and(|other| other.spec.action == Action::Allow && !other.spec.rules.is_empty())
    };
    let mend = "add rules; keep it as it is if other ALLOW policies are to follow";
    if let Scope::Targets(targets) = &one.spec.scope {
        let services = targets.iter().filter(|target| target.kind == "Service");
        let closed = services.map(|target| Key::new(&key.namespace, &target.name)).find(|service| {
            ctx.state.objects.get::<Service>(service).is_some()
                && !ctx.state.policies.attached(service).any(allows)
        });
        if let Some(service) = closed {
            let message =
                format!("it allows nothing, so Service {}/{} refuses everyone", key.namespace, service.name);
            report.warning(Code::DeniesEverything, "spec", message, mend);
        }
        return;
    }
    let pods: Vec<&Record> = covered(ctx, key).map(|(_, record)| record).collect();
    let closed = pods.iter().filter(|record| !record.applies.iter().any(allows)).count();
    if closed > 0 {
        let pods = pods.len();
        let message =
            format!("it allows nothing, so {closed} of the {pods} pods that it covers refuse everyone");
        report.warning(Code::DeniesEverything, "spec", message, mend);
    }
}

fn authorizer(ctx: &Context<'_>, one: &AuthorizationPolicy, report: &mut Report) {
    let Action::Custom { provider } = &one.spec.action else { return };
    let mut providers = ctx.state.mesh.providers();
    if providers.any(|name| name == provider) {
        return;
    }
    let message =
        format!("the mesh configuration has no extensionProvider {provider}, so what it matches is denied");
    let mend = "add it to extensionProviders of ConfigMap ambit-system/ambit, or correct the name";
    report.error(Code::ProviderMissing, "spec.provider.name", message, mend);
}

/// Attributes of tokens, which nothing reads yet.
fn tokens(one: &AuthorizationPolicy, report: &mut Report) {
    if Kind::RequestAuthentication.standing() != Standing::NotYetEnforced {
        return;
    }
    let message =
        || "no token is read yet, so an ALLOW with it never matches and a DENY always does".to_owned();
    let mend = "leave it out, or verify tokens in the application";
    for (at, rule) in one.spec.rules.iter().enumerate() {
        for (place, source) in rule.from.iter().enumerate() {
            if !source.request_principals.is_empty() || !source.not_request_principals.is_empty() {
                let field = format!("spec.rules[{at}].from[{place}].source.requestPrincipals");
                report.warning(Code::TokensNotRead, &field, message(), mend);
            }
        }
        for (place, condition) in rule.when.iter().enumerate() {
            let is_token = matches!(
                condition.key,
                ConditionKey::RequestPrincipal
                    | ConditionKey::RequestAudiences
                    | ConditionKey::RequestPresenter
                    | ConditionKey::RequestClaim(_)
            );
            if is_token {
                report.warning(
                    Code::TokensNotRead,
                    &format!("spec.rules[{at}].when[{place}]"),
                    message(),
                    mend,
                );
            }
        }
    }
}
