//! Clients that policies name: identities that nobody can have, namespaces and service accounts that are not there.

use ambit_api::identity::Identity;
use ambit_api::policy::{ServiceAccountMatch, StringMatch};
use ambit_crds::authorization_policy::{AuthorizationPolicy, Condition, ConditionKey, Source, Values};
use ambit_crds::code::Code;
use ambit_crds::document::suggest;
use ambit_crds::gateway::Gateway;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::namespace::Namespace;
use ambit_crds::pod::Pod;

use super::{Context, Report};
use crate::objects::Key;

/// What an identity looks like.
const FORM: &str = "TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT";
/// The mesh's own trust domain may always be written so.
const USUAL: &str = "cluster.local";

/// A list of a policy that names clients.
enum Asked<'a> {
    Principals(&'a [StringMatch]),
    Namespaces(&'a [StringMatch]),
    Accounts(&'a [ServiceAccountMatch]),
}

pub(super) fn check(ctx: &Context<'_>, one: &AuthorizationPolicy, report: &mut Report) {
    for (at, rule) in one.spec.rules.iter().enumerate() {
        let sources = rule.from.iter().enumerate();
        let sources = sources.flat_map(|(place, source)| of_source(at, place, source));
        let conditions = rule.when.iter().enumerate();
        let conditions = conditions.flat_map(|(place, condition)| of_condition(at, place, condition));
        for (field, asked) in sources.chain(conditions) {
            match asked {
                Asked::Principals(list) => {
                    each(list, &field, |text, field| principal(ctx, text, field, report))
                }
                Asked::Namespaces(list) => each(list, &field, |text, field| {
                    if let StringMatch::Exact(name) = text {
                        namespace(ctx, name, field, report);
                    }
                }),
                Asked::Accounts(list) => each(list, &field, |one, field| {
                    account(ctx, (&one.namespace, &one.service_account), field, report);
                }),
            }
        }
    }
}

fn each<T>(list: &[T], field: &str, mut check: impl FnMut(&T, &str)) {
    for (place, one) in list.iter().enumerate() {
        check(one, &format!("{field}[{place}]"));
    }
}

fn of_source(at: usize, place: usize, source: &Source) -> impl Iterator<Item = (String, Asked<'_>)> {
    let lists = [
        ("principals", Asked::Principals(&source.principals)),
        ("notPrincipals", Asked::Principals(&source.not_principals)),
        ("namespaces", Asked::Namespaces(&source.namespaces)),
        ("notNamespaces", Asked::Namespaces(&source.not_namespaces)),
        ("serviceAccounts", Asked::Accounts(&source.service_accounts)),
        ("notServiceAccounts", Asked::Accounts(&source.not_service_accounts)),
    ];
    lists.into_iter().map(move |(name, list)| (format!("spec.rules[{at}].from[{place}].source.{name}"), list))
}

fn of_condition(at: usize, place: usize, one: &Condition) -> impl Iterator<Item = (String, Asked<'_>)> {
    let lists = [("values", &one.values), ("notValues", &one.not_values)];
    lists.into_iter().filter_map(move |(name, values)| {
        let asked = match (&one.key, values) {
            (ConditionKey::SourcePrincipal, Values::Text(list)) => Asked::Principals(list),
            (ConditionKey::SourceNamespace, Values::Text(list)) => Asked::Namespaces(list),
            (ConditionKey::SourceServiceAccount, Values::ServiceAccounts(list)) => Asked::Accounts(list),
            _ => return None,
        };
        Some((format!("spec.rules[{at}].when[{place}].{name}"), asked))
    })
}

fn principal(ctx: &Context<'_>, text: &StringMatch, field: &str, report: &mut Report) {
    let (written, domain) = match text {
        StringMatch::Exact(text) => (text, text.split('/').next()),
        StringMatch::Prefix(text) => (text, text.split_once('/').map(|(domain, _)| domain)),
        StringMatch::Suffix(_) | StringMatch::Presence => return,
    };
    let parsed = format!("spiffe://{written}").parse::<Identity>().ok();
    if matches!(text, StringMatch::Exact(_)) && parsed.is_none() {
        let message = format!("{written:?} is no identity, so nobody has it");
        let mend = format!("write {FORM}, for example {USUAL}/ns/shop/sa/client");
        report.warning(Code::Principal, field, message, mend);
        return;
    }
    let domains = &ctx.state.mesh.domains;
    let own = domains.own.as_str();
    let known =
        |name: &str| name == own || name == USUAL || domains.aliases.iter().any(|one| one.as_str() == name);
    if let Some(domain) = domain.filter(|domain| !known(domain)) {
        let message = format!("{domain} is not this mesh's trust domain, so nobody here has that identity");
        let mend = format!("write {own}, or list {domain} in trustDomainAliases of the mesh configuration");
        report.warning(Code::Principal, field, message, mend);
        return;
    }
    if let Some(identity) = parsed.filter(|_| matches!(text, StringMatch::Exact(_))) {
        account(ctx, (identity.namespace(), identity.service_account()), field, report);
    }
}

/// A namespace that is not written here may well exist; one that looks like another is a slip. Tells whether it is known.
fn namespace(ctx: &Context<'_>, name: &str, field: &str, report: &mut Report) -> bool {
    let objects = &ctx.state.objects;
    let known = || objects.all::<Namespace>().map(|(key, _)| key.name.as_str());
    if known().any(|one| one == name) || ctx.state.tally.pods.contains_key(name) {
        return true;
    }
    if let Some(near) = suggest(name, known()) {
        let message = format!("there is no namespace {name} here");
        report.warning(Code::ClientMissing, field, message, format!("did you mean {near}?"));
    }
    false
}

fn account(ctx: &Context<'_>, (of, name): (&str, &str), field: &str, report: &mut Report) {
    if !namespace(ctx, of, field, report) || name == "default" {
        return;
    }
    let objects = &ctx.state.objects;
    let written = objects.any(&ObjectRef::new(Kind::ServiceAccount, of, name)).is_some()
        || objects.get::<Gateway>(&Key::new(of, name)).is_some();
    let mut used = objects.within::<Pod>(of).map(|(_, pod)| pod.service_account());
    if written || used.any(|one| one == name) {
        return;
    }
    let used: Vec<&str> = objects.within::<Pod>(of).map(|(_, pod)| pod.service_account()).collect();
    let message =
        format!("no pod in namespace {of} runs as {name}, and no ServiceAccount of that name is here");
    let mend = match suggest(name, used.into_iter()) {
        Some(near) => format!("did you mean {near}?"),
        None => "correct the name, or set serviceAccountName on the client's pods".to_owned(),
    };
    report.warning(Code::ClientMissing, field, message, mend);
}
