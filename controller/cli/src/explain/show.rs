//! Answers, for people and for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::journey;
use super::question::{Question, Unasked};
use super::way::{Branch, End, Outcome, Step, Then, Verdict, Way};
use crate::mesh::world::World;

/// An answered question.
pub(super) struct Answer {
    question: Option<Question>,
    way: Result<Way, Unasked>,
    pub(super) verdict: Verdict,
}

impl Answer {
    pub(super) fn new(world: &World, question: Result<Question, Unasked>) -> Self {
        let (question, way) = match question {
            Ok(question) => {
                let way = journey::explain(world, &question);
                (Some(question), way)
            }
            Err(unasked) => (None, Err(unasked)),
        };
        let verdict = way.as_ref().map_or(Verdict::Unknown, Way::verdict);
        Self { question, way, verdict }
    }

    pub(super) fn text(&self, to: &mut impl Write) -> io::Result<()> {
        if let Some(question) = &self.question {
            writeln!(to, "{} -> {}: {}", question.from, question.to, question.request_line())?;
        }
        match &self.way {
            Ok(way) => write_way(way, 1, to)?,
            Err(unasked) => writeln!(to, "  {unasked}")?,
        }
        writeln!(to, "{}", self.verdict.as_str().to_uppercase())
    }

    /// One line of JSON.
    pub(super) fn json(&self, to: &mut impl Write) -> io::Result<()> {
        writeln!(to, "{}", self.value())
    }

    /// One document of YAML.
    pub(super) fn yaml(&self, to: &mut impl Write) -> io::Result<()> {
        let text = serde_saphyr::to_string(&self.value()).map_err(io::Error::other)?;
        write!(to, "---\n{text}")
    }

    fn value(&self) -> Value {
        let mut value = json!({ "verdict": self.verdict.as_str() });
        if let Some(question) = &self.question {
            value["from"] = question.from.clone().into();
            value["to"] = question.to.clone().into();
        }
        match &self.way {
            Ok(way) => {
                let mut outcomes: Vec<Value> = Vec::new();
                for outcome in way.outcomes().into_iter().map(outcome) {
                    if !outcomes.contains(&outcome) {
                        outcomes.push(outcome);
                    }
                }
                value["outcomes"] = outcomes.into();
                value["way"] = tree(way);
            }
            Err(unasked) => value["error"] = unasked.to_string().into(),
        }
        value
    }
}

fn write_way(way: &Way, depth: usize, to: &mut impl Write) -> io::Result<()> {
    let indent = "  ".repeat(depth);
    for Step { at, says } in &way.steps {
        writeln!(to, "{indent}{at}: {says}")?;
    }
    match &way.then {
        Then::End(outcome) => writeln!(to, "{indent}{}: {}", outcome.at, says(outcome)),
        Then::Fork(branches) => branches.iter().try_for_each(|Branch { when, way }| {
            writeln!(to, "{indent}{when}:")?;
            write_way(way, depth + 1, to)
        }),
    }
}

fn says(outcome: &Outcome) -> String {
    match &outcome.end {
        End::Delivered(to) => format!("reaches {to}"),
        End::Answered { status, says } => format!("{says}, status {status}"),
        End::Denied(denied) => format!("denied {}", denied.explain()),
        End::Failed { reason, says } => format!("fails reason={reason}: {says}"),
        End::Unknown(why) => format!("cannot tell: {why}"),
    }
}

fn tree(way: &Way) -> Value {
    let steps: Vec<Value> =
        way.steps.iter().map(|step| json!({ "at": step.at, "says": step.says })).collect();
    match &way.then {
        Then::End(end) => json!({ "steps": steps, "end": outcome(end) }),
        Then::Fork(branches) => {
            let branches: Vec<Value> = branches
                .iter()
                .map(|branch| json!({ "when": branch.when, "way": tree(&branch.way) }))
                .collect();
            json!({ "steps": steps, "one_of": branches })
        }
    }
}

fn outcome(outcome: &Outcome) -> Value {
    let mut value = json!({ "verdict": outcome.end.verdict().as_str(), "at": outcome.at });
    if let Some(route) = &outcome.route {
        value["route"] = route.clone().into();
    }
    match &outcome.end {
        End::Delivered(to) => value["says"] = format!("reaches {to}").into(),
        End::Answered { status, says } => {
            value["status"] = (*status).into();
            value["says"] = says.clone().into();
        }
        End::Denied(denied) => {
            value["layer"] = denied.layer.to_string().into();
            value["reason"] = denied.reason.as_str().into();
            value["policy"] = denied.policy.as_ref().map(ToString::to_string).into();
            value["rule"] = denied.rule.into();
            value["attribute"] = denied.attribute.as_deref().into();
            value["says"] = denied.explain().into();
        }
        End::Failed { reason, says } => {
            value["reason"] = reason.as_str().into();
            value["says"] = says.clone().into();
        }
        End::Unknown(why) => value["says"] = why.clone().into(),
    }
    value
}
