//! Levels: how near the ceiling is, and what is refused at each.

use std::fmt;

use super::{Standing, Work};

/// Parts of the ceiling, in percent, at which a level begins, and below which it ends again.
const TIGHT: (u64, u64) = (80, 70);
const FULL: (u64, u64) = (90, 80);

/// How near the ceiling is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Everything is taken on.
    Clear,
    /// New connections are refused to those who have more than their share.
    Tight,
    /// All new work is refused.
    Full,
}

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) used: u64,
    /// What was let in may still take so much.
    pub(super) charged: u64,
    pub(super) ceiling: u64,
}

impl Level {
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Clear,
            1 => Self::Tight,
            _ => Self::Full,
        }
    }

    /// The level after this one.
    pub(super) fn after(self, memory: Account) -> Self {
        let Account { used, charged, ceiling } = memory;
        let holds = |bytes: u64, (begins, ends): (u64, u64), level: Self| {
            bytes >= part(ceiling, if self >= level { ends } else { begins })
        };
        // What is only reckoned with need not come, and holds nobody up who is in.
        if holds(used, FULL, Self::Full) {
            Self::Full
        } else if holds(used.saturating_add(charged), TIGHT, Self::Tight) {
            Self::Tight
        } else {
            Self::Clear
        }
    }

    /// Whether a piece of work is taken on that is charged already.
    pub(super) fn admits(self, memory: Account, work: Work, standing: Standing) -> bool {
        let percent = match (self, work, standing) {
            (Self::Full, ..) => return false,
            (_, Work::Request | Work::Upload, _) | (_, _, Standing::Modest) => FULL.0,
            (Self::Clear, _, Standing::Greedy) => TIGHT.0,
            // Once work is refused it stays so until the level ends, not until one connection has gone.
            (Self::Tight, _, Standing::Greedy) => TIGHT.1,
        };
        memory.used.saturating_add(memory.charged) <= part(memory.ceiling, percent)
    }
}

/// So many percent of a ceiling.
pub(super) fn part(ceiling: u64, percent: u64) -> u64 {
    ceiling / 100 * percent
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Tight => "tight",
            Self::Full => "full",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Level::{Clear, Full, Tight};
    use super::*;

    /// So many percent in use and so many more charged.
    fn memory(used: u64, charged: u64) -> Account {
        Account { used: used << 20, charged: charged << 20, ceiling: 100 << 20 }
    }

    #[test]
    fn a_level_begins_high_and_ends_low() {
        let cases = [
            // (before, percent in use, charged, after)
            (Clear, (0, 0), Clear),
            (Clear, (79, 0), Clear),
            (Clear, (80, 0), Tight),
            (Clear, (95, 0), Full),
            (Clear, (300, 0), Full),
            (Clear, (20, 59), Clear),
            (Clear, (20, 60), Tight),
            (Clear, (20, 300), Tight),
            (Tight, (79, 0), Tight),
            (Tight, (70, 0), Tight),
            (Tight, (69, 0), Clear),
            (Tight, (30, 40), Tight),
            (Tight, (30, 39), Clear),
            (Tight, (90, 0), Full),
            (Full, (89, 0), Full),
            (Full, (80, 0), Full),
            (Full, (79, 0), Tight),
            (Full, (69, 0), Clear),
        ];
        for (before, (used, charged), after) in cases {
            assert_eq!(before.after(memory(used, charged)), after, "{before} at {used} and {charged} %");
        }
    }

    #[test]
    fn the_modest_are_refused_last_and_requests_with_them() {
        let cases = [
            // (level, percent in use, charged) -> (greedy connection, modest connection, request)
            (Clear, (50, 0), [true, true, true]),
            (Clear, (40, 40), [true, true, true]),
            (Clear, (40, 41), [false, true, true]),
            (Tight, (71, 0), [false, true, true]),
            (Tight, (60, 31), [false, false, false]),
            (Full, (85, 0), [false, false, false]),
        ];
        for (level, (used, charged), expected) in cases {
            let admits = |work, standing| level.admits(memory(used, charged), work, standing);
            let found = [
                admits(Work::Connection, Standing::Greedy),
                admits(Work::Tunnel, Standing::Modest),
                admits(Work::Request, Standing::Greedy),
            ];
            assert_eq!(found, expected, "{level} at {used} and {charged} %");
        }
    }
}
