//! Policies that stop letting a waypoint in: for as long as it serves what is under way they let it in beside everybody they
//! permit now, which is what they would say if it stood there still (policy.md rules 9 and 10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_api::wire::security::string_match::MatchType;
use ambit_api::wire::security::{Action, Authorization, Clause, Match, Rule, StringMatch};
use prost::Message;

use crate::snapshot::{Resource, Resources};

/// Digits by which forms of one policy are told apart.
const VARIANT: usize = 16;

/// Which policies, and whom they let in still.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// `namespace/name`, without what tells the forms of a policy apart: a pod may change from one form to another.
    policies: BTreeSet<String>,
    /// Principals, with their trust domain.
    waypoints: BTreeSet<String>,
}

impl Leaving {
    /// Whether there is nothing to keep.
    pub(super) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Compares a policy before and after; whether it names one of these waypoints (`/ns/NAMESPACE/sa/NAME`) less often.
    pub(super) fn lose(
        &mut self,
        waypoints: &[String],
        before: Option<&Arc<Resource>>,
        after: Option<&Arc<Resource>>,
    ) -> bool {
        let Some(old) = before else { return false };
        let after = after.map(|one| named(one, waypoints)).unwrap_or_default();
        let often = |one: &String| after.get(one).copied().unwrap_or_default();
        let lost = named(old, waypoints).into_iter().filter(|(one, count)| *count > often(one));
        let lost: Vec<String> = lost.map(|(one, _)| one).collect();
        let loses = !lost.is_empty();
        if loses {
            self.policies.insert(policy(&old.name).to_owned());
            self.waypoints.extend(lost);
        }
        loses
    }

    /// Puts the exception into every form of these policies that is there.
    pub(super) fn stay(&self, authorizations: &mut Resources) {
        for own in &self.policies {
            let forms = authorizations.range(Arc::from(own.as_str())..);
            let forms = forms.take_while(|(name, _)| name.starts_with(own.as_str()));
            let forms = forms.filter(|(name, _)| policy(name) == own);
            let kept: Vec<_> =
                forms.filter_map(|(name, form)| Some((name.clone(), self.excepting(form)?))).collect();
            authorizations.extend(kept);
        }
    }

    fn excepting(&self, form: &Resource) -> Option<Arc<Resource>> {
        let mut message = Authorization::decode(&*form.body).ok()?;
        let exact = |one: &String| StringMatch { match_type: Some(MatchType::Exact(one.clone())) };
        let waypoints = self.waypoints.iter().map(exact).collect();
        let clause = |one: Match| Clause { matches: vec![one] };
        match message.action() {
            Action::Allow => {
                let one = Match { principals: waypoints, ..Match::default() };
                add(&mut message.rules, &Rule { clauses: vec![clause(one)] });
            }
            Action::Deny => {
                let one = clause(Match { not_principals: waypoints, ..Match::default() });
                message.rules.iter_mut().for_each(|rule| add(&mut rule.clauses, &one));
            }
        }
        let body = message.encode_to_vec().into();
        Some(Arc::new(Resource::new(form.name.clone(), form.aliases.clone(), body)))
    }
}

/// Several moves may ask for the same.
fn add<T: Clone + PartialEq>(list: &mut Vec<T>, one: &T) {
    if !list.contains(one) {
        list.push(one.clone());
    }
}

/// The principals that a policy names exactly and that end like one of these, and how often it does.
fn named(form: &Resource, ends: &[String]) -> BTreeMap<String, usize> {
    let message = Authorization::decode(&*form.body).unwrap_or_default();
    let clauses = message.rules.into_iter().flat_map(|rule| rule.clauses);
    let matches = clauses.flat_map(|clause| clause.matches);
    let mut named = BTreeMap::new();
    for text in matches.flat_map(|one| one.principals.into_iter().chain(one.not_principals)) {
        if let Some(MatchType::Exact(text)) = text.match_type
            && ends.iter().any(|end| text.ends_with(end.as_str()))
        {
            *named.entry(text).or_default() += 1;
        }
    }
    named
}

/// The name without what tells forms apart.
fn policy(name: &str) -> &str {
    let is_variant = |text: &str| text.len() == VARIANT && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.rsplit_once('~').filter(|(_, variant)| is_variant(variant)).map_or(name, |(own, _)| own)
}
