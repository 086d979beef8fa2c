//! Whether one rule of a waypoint's policy matches, and if not, how near it came.

use http::HeaderName;

use super::{Facts, HttpFacts, Judged};
use crate::matching::{Fit, nearer, within};
use crate::normalise;
use crate::policy::ServiceAccountMatch;
use crate::route::{Case, TextMatch};
use crate::waypoint::policy::{Asked, Group, Policy, Rule, Term};

/// Among the targets of an alias: a port that could not be resolved, which may be any.
const UNRESOLVED: u16 = 0;

/// Which way doubt is settled: what cannot be evaluated never permits and always forbids (policy.md rule 17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Of an ALLOW.
    Permits,
    /// Of a DENY, and of whatever else is to catch a request.
    Forbids,
}

/// One judgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) judged: Judged<'a>,
    pub(super) reading: Reading,
}

impl Judge<'_> {
    /// The place of the first rule that matches.
    pub(super) fn matching_rule(&self, policy: &Policy) -> Option<usize> {
        policy.rules.iter().position(|rule| {
            let any = |groups: &[Group]| groups.is_empty() || groups.iter().any(|group| self.group(group));
            any(&rule.from) && any(&rule.to) && rule.when.0.iter().all(|term| self.holds(term))
        })
    }

    /// A source or operation that asks for nothing: an ALLOW must not be had by saying nothing.
    fn group(&self, group: &Group) -> bool {
        if group.0.is_empty() {
            return self.in_doubt();
        }
        group.0.iter().all(|term| self.holds(term))
    }

    /// How near a rule came. Sources and operations count with the one that came nearest.
    pub(super) fn fit<'p>(&self, rule: &'p Rule) -> Fit<'p> {
        let any = |groups: &'p [Group]| groups.iter().map(|group| self.fit_group(group)).reduce(nearer);
        let parts = [any(&rule.from), any(&rule.to), Some(self.fit_group(&rule.when))];
        let mut sum = Fit::default();
        parts.into_iter().flatten().for_each(|part| sum.add(part));
        sum
    }

    fn fit_group<'p>(&self, group: &'p Group) -> Fit<'p> {
        let mut fit = Fit::default();
        group.0.iter().for_each(|term| fit.count(&term.name, self.holds(term)));
        fit
    }

    fn in_doubt(&self) -> bool {
        self.reading == Reading::Forbids
    }

    fn holds(&self, term: &Term) -> bool {
        let hit = match &term.asked {
            // Ports and headers are not the same hit for an ALLOW and a DENY.
            Asked::Ports(ports) => Some(self.port(ports, term.negated)),
            Asked::Header(name, values) => return self.header(name, values, term.negated),
            other => self.hit(other),
        };
        hit.map_or(self.in_doubt(), |hit| hit != term.negated)
    }

    /// Whether any of the values is the fact's; `None`: that cannot be known.
    fn hit(&self, asked: &Asked) -> Option<bool> {
        let peer = self.facts.client;
        let any =
            |wanted: &[TextMatch], value: &str| wanted.iter().any(|one| one.matches(value, Case::Sensitive));
        Some(match asked {
            Asked::Principals(wanted) => {
                peer.is_some_and(|peer| any(wanted, peer.principal())) || self.names_waypoint(wanted)
            }
            Asked::ServiceAccounts(wanted) => {
                let is = |one: &ServiceAccountMatch, who: &crate::identity::Identity| {
                    one.namespace == who.namespace() && one.service_account == who.service_account()
                };
                wanted.iter().any(|one| peer.is_some_and(|peer| is(one, peer)))
                    || self.second_peer().is_some_and(|waypoint| wanted.iter().any(|one| is(one, waypoint)))
            }
            Asked::Namespaces(wanted) => any(wanted, peer.map_or("", |peer| peer.namespace())),
            Asked::TrustDomains(wanted) => peer.is_some_and(|peer| any(wanted, peer.trust_domain().as_str())),
            Asked::SourceIps(wanted) => wanted.iter().any(within(self.facts.source)),
            Asked::RemoteIps(wanted) => wanted.iter().any(within(self.facts.remote?)),
            Asked::DestinationIps(wanted) => match self.judged {
                // Which address of that service would have been dialled is not known.
                Judged::Lock { .. } => return None,
                Judged::Target | Judged::Endpoint(_) => {
                    wanted.iter().any(within(self.facts.destination.ip()))
                }
            },
            Asked::Hosts(wanted) => host(wanted, self.facts.request?),
            Asked::Methods(wanted) => any(wanted, self.facts.request?.method.as_str()),
            Asked::Paths(wanted) => {
                let path = self.facts.request?.path;
                wanted.iter().any(|one| one.matches(path))
            }
            Asked::Ports(_) | Asked::Header(..) | Asked::Unknown => return None,
        })
    }

    /// In S a rule that names this very waypoint means whoever comes through it (policy.md rule 7).
    fn second_peer(&self) -> Option<&crate::identity::Identity> {
        matches!(self.judged, Judged::Endpoint(_)).then_some(self.facts.waypoint)
    }

    fn names_waypoint(&self, wanted: &[TextMatch]) -> bool {
        let exactly = |one: &TextMatch, name: &str| matches!(one, TextMatch::Exact(text) if text == name);
        self.second_peer().is_some_and(|waypoint| wanted.iter().any(|one| exactly(one, waypoint.principal())))
    }

    /// Ports, with the numbers that stand for them (policy.md rule 8).
    fn port(&self, wanted: &[u16], negated: bool) -> bool {
        let (port, aliases) = match self.judged {
            Judged::Target => (self.facts.destination.port(), &[][..]),
            Judged::Endpoint(aliases) => (self.facts.destination.port(), aliases),
            Judged::Lock { port } => (port, &[][..]),
        };
        wanted.contains(&port)
            || aliases.iter().any(|alias| {
                let means = alias.targets.contains(&port) || alias.targets.contains(&UNRESOLVED);
                let counts = match (self.reading, negated) {
                    (Reading::Permits, false) => alias.targets == [port],
                    (Reading::Permits, true) | (Reading::Forbids, false) => means,
                    (Reading::Forbids, true) => false,
                };
                counts && wanted.contains(&alias.port)
            })
    }

    /// Each value of a header on its own: all of them must please an ALLOW, one suffices for a DENY. Whoever reads the
    /// first, the last, or all of them joined has then seen nothing else than we.
    fn header(&self, name: &HeaderName, wanted: &[TextMatch], negated: bool) -> bool {
        let Some(request) = self.facts.request else { return self.in_doubt() };
        let fine =
            |value: &[u8]| wanted.iter().any(|one| one.matches_bytes(value, Case::Sensitive)) != negated;
        let mut values = request.headers.get_all(name).iter().map(|value| value.as_bytes()).peekable();
        if values.peek().is_none() {
            return negated;
        }
        match self.reading {
            Reading::Permits => values.all(fine),
            Reading::Forbids => values.any(fine),
        }
    }
}

/// A host is asked for with or without the port that was sent along.
fn host(wanted: &[TextMatch], request: HttpFacts<'_>) -> bool {
    let bare = normalise::host(request.authority);
    wanted.iter().any(|one| {
        one.matches(bare, Case::Insensitive)
            || (bare.len() != request.authority.len() && one.matches(request.authority, Case::Insensitive))
    })
}
