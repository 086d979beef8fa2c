//! What is logged: a default level and levels of targets.

use std::collections::BTreeMap;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Targets one filter may name; it is kept for the life of the program and consulted for every line.
const MAX_TARGETS: usize = 128;

/// Says every failed request of a Kubernetes client once more than whoever made it; silent unless it is named.
const ECHO: &str = "kube_client";

/// A default level and levels of targets; a target stands for all that begin with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    default: Option<LevelFilter>,
    targets: BTreeMap<String, LevelFilter>,
}

/// Text that is no [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// A part that is neither a level nor `TARGET=LEVEL`.
    #[error("{0:?}: expected error, warn, info, debug, trace, off, or TARGET=LEVEL")]
    Part(String),
    /// More targets than one filter may hold.
    #[error("more than {MAX_TARGETS} targets")]
    TooMany,
}

impl Default for Filter {
    fn default() -> Self {
        Self { default: Some(LevelFilter::INFO), targets: BTreeMap::new() }
    }
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let mut filter = Self { default: None, targets: BTreeMap::new() };
        for part in text.split(',').map(str::trim) {
            let invalid = || InvalidFilter::Part(part.to_owned());
            match part.split_once('=') {
                None => filter.default = Some(level(part).ok_or_else(invalid)?),
                Some((target, name)) if is_target(target) => {
                    let level = level(name).ok_or_else(invalid)?;
                    filter.targets.insert(target.to_owned(), level);
                }
                Some(_) => return Err(invalid()),
            }
        }
        if filter.targets.len() > MAX_TARGETS { Err(InvalidFilter::TooMany) } else { Ok(filter) }
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.default.unwrap_or(LevelFilter::OFF))?;
        self.targets.iter().try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}

impl Filter {
    /// What `change` names, over what it does not.
    pub(super) fn merged(mut self, change: &Self) -> Self {
        self.default = change.default.or(self.default);
        self.targets.extend(change.targets.clone());
        // Told apart from a bad request by nobody, so the newest names win and the rest is forgotten.
        while self.targets.len() > MAX_TARGETS {
            let Some(oldest) =
                self.targets.keys().find(|target| !change.targets.contains_key(*target)).cloned()
            else {
                break;
            };
            self.targets.remove(&oldest);
        }
        self
    }

    /// The form that judges lines.
    pub(super) fn targets(&self) -> Targets {
        let targets = self.targets.iter().map(|(target, level)| (target.clone(), *level));
        let quiet = Targets::new().with_target(ECHO, LevelFilter::OFF);
        quiet.with_targets(targets).with_default(self.default.unwrap_or(LevelFilter::INFO))
    }

    pub(super) fn from_targets(targets: &Targets) -> Self {
        let default = targets.default_level();
        let named = targets.iter().filter(|named| *named != (ECHO, LevelFilter::OFF));
        Self { default, targets: named.map(|(target, level)| (target.to_owned(), level)).collect() }
    }
}

fn level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        "off" => Some(LevelFilter::OFF),
        _ => None,
    }
}

fn is_target(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'-');
    !text.is_empty() && text.len() <= 128 && text.bytes().all(plain)
}
