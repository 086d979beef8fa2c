//! The way of a request as a tree: steps, forks where chance decides, and an outcome at every end.

use ambit_api::authz::Denied;
use ambit_api::reason::Reason;

use crate::failure;

/// One process's word on the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Who says it.
    pub(super) at: String,
    /// What.
    pub(super) says: String,
}

/// What happens from some point on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) steps: Vec<Step>,
    pub(super) then: Then,
}

/// How a stretch of the way ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    End(Box<Outcome>),
    Fork(Vec<Branch>),
}

/// One of several ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// Which, and how often.
    pub(super) when: String,
    pub(super) way: Way,
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) end: End,
    /// The process that decides it.
    pub(super) at: String,
    /// The route it took, if a waypoint found one.
    pub(super) route: Option<String>,
}

/// The ways to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It reaches a pod.
    Delivered(String),
    /// A route answers it.
    Answered { status: u16, says: String },
    /// A policy forbids it.
    Denied(Denied),
    /// It goes nowhere.
    Failed { reason: Reason, says: String },
    /// What is known does not tell.
    Unknown(String),
}

/// The answer in a word; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Allowed,
    Denied,
    Failed,
    /// It is let through or not, by chance.
    Depends,
    Unknown,
}

impl Verdict {
    pub(super) fn end(self) -> failure::End {
        match self {
            Self::Allowed => failure::End::Yes,
            Self::Denied | Self::Failed => failure::End::No,
            Self::Depends | Self::Unknown => failure::End::Unknown,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Depends => "depends",
            Self::Unknown => "unknown",
        }
    }
}

impl End {
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Delivered(_) | Self::Answered { .. } => Verdict::Allowed,
            Self::Denied(_) => Verdict::Denied,
            Self::Failed { .. } => Verdict::Failed,
            Self::Unknown(_) => Verdict::Unknown,
        }
    }

    /// At `at`, by no route.
    pub(super) fn at(self, at: impl Into<String>) -> Way {
        let outcome = Outcome { end: self, at: at.into(), route: None };
        Way { steps: Vec::new(), then: Then::End(Box::new(outcome)) }
    }
}

impl Way {
    /// The same way after a step.
    pub(super) fn after(mut self, at: &str, says: impl Into<String>) -> Self {
        self.steps.insert(0, Step { at: at.to_owned(), says: says.into() });
        self
    }

    /// The same way by a route, where it took none later.
    pub(super) fn by_route(mut self, route: &str) -> Self {
        match &mut self.then {
            Then::End(outcome) => {
                outcome.route.get_or_insert_with(|| route.to_owned());
            }
            Then::Fork(branches) => {
                for branch in branches {
                    let way = std::mem::replace(&mut branch.way, End::Unknown(String::new()).at(""));
                    branch.way = way.by_route(route);
                }
            }
        }
        self
    }

    /// One of these ways. Equal ones are one, of which all names are told.
    pub(super) fn fork(ways: impl IntoIterator<Item = (String, Way)>) -> Option<Self> {
        let mut branches: Vec<(Vec<String>, Way)> = Vec::new();
        for (name, way) in ways {
            match branches.iter_mut().find(|(_, known)| *known == way) {
                Some((names, _)) => names.push(name),
                None => branches.push((vec![name], way)),
            }
        }
        let mut branches = branches.into_iter().map(|(names, way)| Branch { when: names.join(", "), way });
        let first = branches.next()?;
        let rest: Vec<Branch> = branches.collect();
        Some(Self { steps: Vec::new(), then: Then::Fork([vec![first], rest].concat()) })
    }

    /// Every end.
    pub(super) fn outcomes(&self) -> Vec<&Outcome> {
        match &self.then {
            Then::End(outcome) => vec![outcome],
            Then::Fork(branches) => branches.iter().flat_map(|branch| branch.way.outcomes()).collect(),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        let verdicts: Vec<Verdict> = self.outcomes().iter().map(|outcome| outcome.end.verdict()).collect();
        let worst = verdicts.iter().copied().max().unwrap_or(Verdict::Unknown);
        let through = verdicts.contains(&Verdict::Allowed);
        if through && worst > Verdict::Allowed && worst < Verdict::Unknown { Verdict::Depends } else { worst }
    }
}
