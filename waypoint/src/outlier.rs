//! Which endpoints failed too often in a row and rest for a while.
//!
//! Marks belong to the process: all workers report to the same ones, so an endpoint that fails five times in a row is
//! ejected once, wherever the five requests ran. There is nothing to sweep: an ejection ends by its time, and the count
//! of past ejections fades as intervals pass, both computed when somebody looks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ambit_api::waypoint::Outlier;

#[cfg(test)]
mod tests;

/// However often an endpoint was ejected, it rests no longer than this (unless the base time itself is longer).
const LONGEST: Duration = Duration::from_secs(300);

/// What became of an attempt, as far as the endpoint is to blame. Denials and overflows are not reported at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Answered(u16),
    /// No connection, or it broke before an answer.
    Unreachable,
    /// No answer in time.
    TimedOut,
}

/// Which count reached its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Any 5xx.
    Consecutive5xx,
    /// 502, 503, 504.
    ConsecutiveGateway,
    /// Failures to connect, counted apart.
    ConsecutiveLocal,
}

/// An endpoint was just ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Why.
    pub cause: Cause,
    /// For how long.
    pub rest: Duration,
}

/// Since a moment that all workers share; what the atomics below can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

/// What is held against one endpoint of one cluster.
#[derive(Debug, Default)]
pub struct Marks {
    errors: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
    /// End of the current or last ejection, in milliseconds; 0 for never.
    until: AtomicU64,
    /// Ejections so far, as of `until`.
    times: AtomicU32,
}

impl Marks {
    /// Whether the endpoint rests.
    pub fn is_ejected(&self, now: Moment) -> bool {
        self.until.load(Ordering::Acquire) > now.millis()
    }

    /// Counts an outcome; the threshold it reached, if any. A count that reached its threshold begins anew, whether or
    /// not the endpoint can be ejected.
    pub fn count(&self, rules: &Outlier, outcome: Outcome) -> Option<Cause> {
        let status = match outcome {
            Outcome::Answered(status) => {
                self.local.store(0, Ordering::Relaxed);
                status
            }
            Outcome::Unreachable | Outcome::TimedOut if rules.split_local => {
                return reached(&self.local, rules.consecutive_local).then_some(Cause::ConsecutiveLocal);
            }
            Outcome::Unreachable => 503,
            Outcome::TimedOut => 504,
        };
        let gateway = if matches!(status, 502..=504) {
            reached(&self.gateway, rules.consecutive_gateway)
        } else {
            self.gateway.store(0, Ordering::Relaxed);
            false
        };
        let error = if (500..600).contains(&status) {
            reached(&self.errors, rules.consecutive_5xx)
        } else {
            self.errors.store(0, Ordering::Relaxed);
            false
        };
        match (gateway, error) {
            (true, _) => Some(Cause::ConsecutiveGateway),
            (false, true) => Some(Cause::Consecutive5xx),
            (false, false) => None,
        }
    }

    /// Sends the endpoint to rest, longer each time; time in service makes up for earlier ejections, one an interval.
    fn eject(&self, rules: &Outlier, now: Moment) -> Duration {
        let until = self.until.load(Ordering::Acquire);
        let served = Duration::from_millis(now.millis().saturating_sub(until));
        let forgiven = served.as_millis() / rules.interval.as_millis().max(1);
        let past = self.times.load(Ordering::Acquire);
        let times = past.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)).saturating_add(1);
        let rest = rules.base_ejection.saturating_mul(times).min(LONGEST.max(rules.base_ejection));
        self.times.store(times, Ordering::Release);
        self.until.store(Moment(now.0.saturating_add(rest)).millis(), Ordering::Release);
        rest
    }
}

impl Moment {
    fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Ejects `marks` if enough of `all` (to which they belong) stay: no more than the permitted share rests at a time,
/// except that one endpoint always may. The caller makes sure that no two workers decide for a cluster at once.
pub fn eject<'a>(
    marks: &Marks,
    all: impl Iterator<Item = &'a Marks>,
    rules: &Outlier,
    now: Moment,
) -> Option<Duration> {
    if marks.is_ejected(now) {
        return None;
    }
    let (mut total, mut resting) = (0_u64, 0_u64);
    for other in all {
        total += 1;
        resting += u64::from(other.is_ejected(now));
    }
    let permitted = (resting + 1) * 100 <= total * u64::from(rules.max_ejection_percent);
    (resting == 0 || permitted).then(|| marks.eject(rules, now))
}

/// Counts one more; whether that makes `threshold` (0: never).
fn reached(count: &AtomicU32, threshold: u32) -> bool {
    let counted = count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let reached = threshold > 0 && counted >= threshold;
    if reached {
        count.store(0, Ordering::Relaxed);
    }
    reached
}
