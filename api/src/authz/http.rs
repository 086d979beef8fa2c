//! Authorization at a waypoint: the policies of a service and gateway (T), of a pod (S), and of the services that lock a
//! port, each judged alone (policy.md rules 3 to 8). Pure, and without allocation unless something is denied.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method};

use super::{Denied, DryRun, Layer};
use crate::identity::Identity;
use crate::policy::PolicyKey;
use crate::reason::Reason;
use crate::waypoint::PortAlias;
use crate::waypoint::policy::{Action, Policy};

mod matching;
#[cfg(test)]
mod tests;

use matching::{Judge, Reading};

/// What a request or connection is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The mTLS peer of the CONNECT.
    pub client: Option<&'a Identity>,
    /// The waypoint that judges, and sends.
    pub waypoint: &'a Identity,
    /// The TCP peer of the CONNECT.
    pub source: IpAddr,
    /// Who sent it first, as headers tell that the mesh trusts; `None`: nobody can say.
    pub remote: Option<IpAddr>,
    /// In T the address and port dialled, in S those of the pod.
    pub destination: SocketAddr,
    /// `None`: a connection, of which only the addresses are known.
    pub request: Option<HttpFacts<'a>>,
}

/// The head of a request: in T as received and normalised, in S as the pod will receive it.
#[derive(Clone, Copy, Debug)]
pub struct HttpFacts<'a> {
    /// The method.
    pub method: &'a Method,
    /// In canonical form ([`crate::normalise::authority`]).
    pub authority: &'a str,
    /// Normalised, without the query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// Whose policies are judged, with what only they are judged by.
#[derive(Clone, Copy, Debug)]
pub enum Judged<'a> {
    /// T.
    Target,
    /// S of a pod, whose ports have these further numbers.
    Endpoint(&'a [PortAlias]),
    /// T of a service that locks the port, as if this port of it had been dialled.
    Lock {
        /// The service's port.
        port: u16,
    },
}

/// Policies by their names, found when they are needed. One that is not found is unknown, which denies.
#[derive(Clone, Copy, Debug)]
pub struct Set<'s, L> {
    lists: [&'s [PolicyKey]; 2],
    lookup: L,
}

/// Proof that a request or connection was judged and may go on. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    by: Option<PolicyKey>,
}

impl<'s, L: Fn(&PolicyKey) -> Option<&'s Policy>> Set<'s, L> {
    /// The policies of these names.
    pub fn new(keys: &'s [PolicyKey], lookup: L) -> Self {
        Self { lists: [keys, &[]], lookup }
    }

    /// Together with these.
    pub fn and(self, keys: &'s [PolicyKey]) -> Self {
        Self { lists: [self.lists[0], keys], ..self }
    }

    fn iter(&self) -> impl Iterator<Item = (&'s PolicyKey, Option<&'s Policy>)> {
        self.lists.into_iter().flatten().map(|key| (key, (self.lookup)(key)))
    }

    /// Those that are there, are no dry run and were valid once.
    fn enforced(&self, action: Action) -> impl Iterator<Item = &'s Policy> {
        let known = self.iter().filter_map(|(_, policy)| policy);
        known.filter(move |policy| policy.action == action && !policy.dry_run && !policy.closed)
    }
}

impl Permit {
    /// The ALLOW policy that let it pass; `None` when no ALLOW policy applies.
    pub fn by(&self) -> Option<&PolicyKey> {
        self.by.as_ref()
    }
}

impl Judged<'_> {
    /// The layer's name.
    pub fn layer(&self) -> Layer {
        match self {
            Self::Target => Layer::Target,
            Self::Endpoint(_) => Layer::Endpoint,
            Self::Lock { .. } => Layer::Lock,
        }
    }
}

/// Judges: a matching CUSTOM refuses (nobody can be asked yet), then a matching DENY, then a policy that has not arrived
/// or never was valid; then, if any ALLOW applies, one must match.
pub fn decide<'s, L: Fn(&PolicyKey) -> Option<&'s Policy>>(
    set: &Set<'s, L>,
    facts: &Facts<'_>,
    judged: Judged<'_>,
) -> Result<Permit, Denied> {
    let forbids = Judge { facts, judged, reading: Reading::Forbids };
    let permits = Judge { reading: Reading::Permits, ..forbids };
    let (mut custom, mut deny, mut unusable, mut allow) = (None, None, None, None);
    let mut applies = false;
    // One pass, since each policy is looked up by its name; which of them counts is decided afterwards.
    for (key, policy) in set.iter() {
        let Some(policy) = policy.filter(|policy| !policy.closed || policy.dry_run) else {
            unusable.get_or_insert(key);
            continue;
        };
        let forbidden = || forbids.matching_rule(policy).map(|rule| (policy, rule));
        match policy.action {
            _ if policy.dry_run => {}
            Action::Custom => custom = custom.or_else(forbidden),
            Action::Deny => deny = deny.or_else(forbidden),
            Action::Allow => {
                applies = true;
                allow = allow.or_else(|| permits.matching_rule(policy).map(|_rule| policy));
            }
            Action::Audit => {}
        }
    }
    if let Some((policy, rule)) = custom.or(deny) {
        let (layer, reason, policy) = (judged.layer(), Reason::PolicyDenied, Some(policy.key.clone()));
        return Err(Denied { layer, reason, policy, rule: Some(rule), attribute: None });
    }
    if let Some(key) = unusable {
        return Err(unknown(judged.layer(), Some(key)));
    }
    match allow {
        Some(policy) => Ok(Permit { by: Some(policy.key.clone()) }),
        None if applies => Err(nearest(set, &permits)),
        None => Ok(Permit { by: None }),
    }
}

/// What the dry-run policies of a set say. Changes nothing.
pub fn dry_run<'s, L: Fn(&PolicyKey) -> Option<&'s Policy>>(
    set: &Set<'s, L>,
    facts: &Facts<'_>,
    judged: Judged<'_>,
) -> Vec<DryRun> {
    outcomes(set, facts, judged, |policy| policy.dry_run)
}

/// The AUDIT policies that mark a request.
pub fn audited<'s, L: Fn(&PolicyKey) -> Option<&'s Policy>>(
    set: &Set<'s, L>,
    facts: &Facts<'_>,
    judged: Judged<'_>,
) -> Vec<PolicyKey> {
    let found = outcomes(set, facts, judged, |policy| policy.action == Action::Audit && !policy.dry_run);
    found.into_iter().filter(|outcome| outcome.matched).map(|outcome| outcome.policy).collect()
}

/// An empty `Vec` allocates nothing, so this costs a request without such policies only the look at the list.
fn outcomes<'s, L: Fn(&PolicyKey) -> Option<&'s Policy>>(
    set: &Set<'s, L>,
    facts: &Facts<'_>,
    judged: Judged<'_>,
    wanted: impl Fn(&Policy) -> bool,
) -> Vec<DryRun> {
    let known = set.iter().filter_map(|(_, policy)| policy).filter(|policy| wanted(policy));
    known
        .map(|policy| {
            let reading = match policy.action {
                Action::Allow => Reading::Permits,
                Action::Deny | Action::Audit | Action::Custom => Reading::Forbids,
            };
            let matched = Judge { facts, judged, reading }.matching_rule(policy).is_some();
            DryRun { policy: policy.key.clone(), matched }
        })
        .collect()
}

/// The refusal where something that is needed to judge has not arrived.
pub(crate) fn unknown(layer: Layer, policy: Option<&PolicyKey>) -> Denied {
    Denied { layer, reason: Reason::PolicyUnknown, policy: policy.cloned(), rule: None, attribute: None }
}

/// Explains why no ALLOW matched by the rule that came nearest; equally near ones are settled by name and place, so that
/// the same request always gets the same answer.
fn nearest<'s, L: Fn(&PolicyKey) -> Option<&'s Policy>>(set: &Set<'s, L>, judge: &Judge<'_>) -> Denied {
    let candidates = set.enforced(Action::Allow).flat_map(|policy| {
        let rules = policy.rules.iter().enumerate();
        let rules = rules.map(move |(place, rule)| (Some(judge.fit(rule)), &policy.key, Some(place)));
        let bare = policy.rules.is_empty().then_some((None, &policy.key, None));
        rules.chain(bare)
    });
    let best = candidates.max_by_key(|(fit, key, place)| {
        (fit.map(|fit| (fit.matched, Reverse(fit.missed))), Reverse(*key), Reverse(*place))
    });
    let (fit, policy, rule) =
        best.map_or((None, None, None), |(fit, key, place)| (fit, Some(key.clone()), place));
    let attribute = fit.and_then(|fit| fit.first_missed).map(|name| name.to_owned().into());
    Denied { layer: judge.judged.layer(), reason: Reason::PolicyDenied, policy, rule, attribute }
}
