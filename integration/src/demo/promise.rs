//! What the demo promises, and what a look at a promise gives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::LabError;

/// One promise of the mesh.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// The starting point: without the mesh everything is readable.
    Before,
    /// Enrolment of running pods.
    Enrolment,
    /// Every enrolled pod has its proxy.
    Served,
    /// What crosses the wire.
    Encrypted,
    /// Who talks to whom.
    Identity,
    /// STRICT.
    Strict,
    /// PERMISSIVE.
    Permissive,
    /// ALLOW by principal.
    Allow,
    /// DENY by principal.
    Deny,
    /// Names of Services.
    Names,
    /// Even load.
    Balance,
    /// Weights between versions.
    Canary,
    /// HTTP rules.
    Requests,
    /// Why a request is refused, before it is sent.
    Explain,
    /// What the waypoint counts.
    Metrics,
    /// What the mesh costs where one order is many calls.
    FanOut,
    /// A dead proxy.
    Proxy,
    /// A dead controller.
    Controller,
}

/// Which promises can be looked at in a lab that runs already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Only while the demo brings its lab up.
    Once,
    /// At any time; nothing is disturbed.
    Steady,
    /// At any time; a program of the mesh is killed and started again.
    Disturbing,
}

/// What a look at a promise found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The promise.
    pub promise: Promise,
    /// Whether it holds.
    pub holds: bool,
    /// What was measured, or what is wrong.
    pub measured: String,
}

/// Why a promise does not hold, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// It does not hold.
    #[error("{0}")]
    Found(String),
    /// The lab could not do what the look needs.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The system refused something.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// What was measured, or why the promise is broken.
pub(crate) type Look = Result<String, Broken>;

impl Promise {
    /// All of them, in the order of the demo.
    pub const ALL: [Promise; 18] = [
        Promise::Before,
        Promise::Enrolment,
        Promise::Served,
        Promise::Encrypted,
        Promise::Identity,
        Promise::Strict,
        Promise::Permissive,
        Promise::Allow,
        Promise::Deny,
        Promise::Names,
        Promise::Balance,
        Promise::Canary,
        Promise::Requests,
        Promise::Explain,
        Promise::Metrics,
        Promise::FanOut,
        Promise::Proxy,
        Promise::Controller,
    ];

    /// The promise in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Promise::Before => "The starting point, without the mesh: whoever sees the wire can read it",
            Promise::Enrolment => {
                "A label puts running pods into the mesh: no restart, no open connection reset"
            }
            Promise::Served => "Every pod of the shop is in the mesh and served by its node's proxy",
            Promise::Encrypted => {
                "Between the nodes only TLS 1.3 on port 15008 is seen, post-quantum key exchange first"
            }
            Promise::Identity => "Logs and metrics say who talked to whom, by certificate",
            Promise::Strict => "STRICT refuses plaintext from outside the mesh and says why",
            Promise::Permissive => "PERMISSIVE still admits callers from outside the mesh",
            Promise::Allow => "ALLOW by principal: who is not named is refused, and the log says why",
            Promise::Deny => "DENY by principal: who is named is refused, and the log says why",
            Promise::Names => "Services are reached by name, from pods in the mesh and outside it",
            Promise::Balance => "Load over a Service's pods is even",
            Promise::Canary => "A waypoint splits requests between two versions by weight",
            Promise::Requests => {
                "A policy on method, path and caller: the waypoint refuses the rest and says why"
            }
            Promise::Explain => "ambit explain says beforehand what becomes of a request, and is right",
            Promise::Metrics => "The waypoint's metrics name client, server and status of every request",
            Promise::FanOut => {
                "An order that is 47 calls goes well, and what the mesh adds to it is measured"
            }
            Promise::Proxy => "A killed proxy: its pods fail closed, nothing leaks, and all comes back",
            Promise::Controller => "A dead controller: connections and policy work on, and it comes back",
        }
    }

    /// When it can be looked at.
    pub fn sort(self) -> Sort {
        match self {
            Promise::Before | Promise::Enrolment | Promise::FanOut => Sort::Once,
            Promise::Proxy | Promise::Controller => Sort::Disturbing,
            _ => Sort::Steady,
        }
    }

    /// The finding of a look.
    pub(crate) fn finding(self, look: Look) -> Finding {
        let holds = look.is_ok();
        Finding { promise: self, holds, measured: look.unwrap_or_else(|broken| broken.to_string()) }
    }
}

impl fmt::Display for Promise {
    /// The word of the command line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        formatter.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Holds, or is broken in these words.
pub(crate) fn ensure(holds: bool, words: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::Found(words())) }
}
