//! Judging in lab tests.

use libtest_mimic::Failed;

/// Outcome of a trial.
pub(crate) type Check = Result<(), Failed>;

/// Fails with a message made only then.
pub(crate) fn check(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message().into()) }
}
