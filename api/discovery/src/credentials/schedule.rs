//! Whose certificate is asked for next. Pure: the clock and the dice come in as arguments.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use ambit_api::identity::Identity;
use ambit_process::backoff::Backoff;
use rand::Rng;

/// Requests to the CA at one time.
pub const CONCURRENT: usize = 8;

/// First and longest wait after a refusal.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(150));

/// A certificate that is past its half life when it arrives must not make us ask in a tight loop.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// How urgent a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// One is held and grows old.
    Refresh,
    /// A local workload exists.
    Warmup,
    /// A connection waits.
    RealTime,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A certificate valid between these.
    Issued {
        /// Start of validity.
        from: SystemTime,
        /// End of validity.
        until: SystemTime,
    },
    /// None.
    Failed,
}

/// Everything wanted.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: HashMap<Identity, Entry>,
    asked: usize,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    priority: Priority,
    due: SystemTime,
    arrival: u64,
    backoff: Backoff,
    in_flight: Flight,
    expires: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    No,
    Asked,
}

impl Schedule {
    /// Wanted, if it is not yet; moved up if it waits at a lower priority. A failing one keeps its back-off: impatience
    /// does not make a refusing CA answer.
    pub fn want(&mut self, identity: &Identity, priority: Priority, now: SystemTime) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let entry = self.entries.entry(identity.clone()).or_insert(Entry {
            priority,
            due: now,
            arrival,
            backoff: Backoff::new(WAITS.0, WAITS.1),
            in_flight: Flight::No,
            expires: None,
        });
        if entry.expires.is_none() && entry.priority < priority {
            entry.priority = priority;
        }
    }

    /// Not wanted any more.
    pub fn forget(&mut self, identity: &Identity) {
        if let Some(entry) = self.entries.remove(identity)
            && entry.in_flight == Flight::Asked
        {
            self.asked = self.asked.saturating_sub(1);
        }
    }

    /// The next to ask for, marked as asked: among those due the most urgent, then the first come.
    pub fn next(&mut self, now: SystemTime) -> Option<Identity> {
        if self.asked >= CONCURRENT {
            return None;
        }
        let (identity, entry) = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.in_flight == Flight::No && entry.due <= now)
            .max_by_key(|(_, entry)| (entry.priority, std::cmp::Reverse(entry.arrival)))?;
        entry.in_flight = Flight::Asked;
        self.asked += 1;
        Some(identity.clone())
    }

    /// Takes the outcome and returns when it is asked for again.
    pub fn finished(
        &mut self,
        identity: &Identity,
        outcome: Outcome,
        now: SystemTime,
        rng: &mut impl Rng,
    ) -> SystemTime {
        let Some(entry) = self.entries.get_mut(identity) else {
            return now;
        };
        if entry.in_flight == Flight::Asked {
            entry.in_flight = Flight::No;
            self.asked = self.asked.saturating_sub(1);
        }
        match outcome {
            Outcome::Issued { from, until } => {
                entry.backoff.reset();
                entry.priority = Priority::Refresh;
                entry.expires = Some(until);
                let half = until.duration_since(from).unwrap_or_default() / 2;
                // Up to a tenth earlier, so that a node's certificates do not all come due together.
                entry.due = (from + half.mul_f64(rng.random_range(0.9..=1.0))).max(now + LEAST_WAIT);
            }
            Outcome::Failed => {
                entry.due = now + entry.backoff.delay_with(rng);
                match entry.expires {
                    // Try once more at the latest when the old one ends, however long the back-off has grown.
                    Some(until) if until > now => entry.due = entry.due.min(until.max(now + LEAST_WAIT)),
                    Some(_) => (entry.expires, entry.priority) = (None, Priority::Warmup),
                    None => {}
                }
            }
        }
        entry.due
    }

    /// When something is due next that could be asked for.
    pub fn wake_at(&self) -> Option<SystemTime> {
        if self.asked >= CONCURRENT {
            return None;
        }
        self.entries.values().filter(|entry| entry.in_flight == Flight::No).map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests;
