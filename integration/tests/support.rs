//! Small helps for lab tests.

use std::sync::atomic::{AtomicU32, Ordering};

use ambit_lab::{Lab, LabOptions, PodHandle};
use libtest_mimic::Failed;

/// Outcome of a trial.
pub(crate) type Check = Result<(), Failed>;

/// Fails with a message made only then.
pub(crate) fn check(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message().into()) }
}

/// A command's output in a pod; fails when it fails.
pub(crate) fn output(lab: &Lab, pod: &PodHandle, words: &[&str]) -> Result<String, Failed> {
    let output = lab.exec(pod, words)?;
    check(output.status.success(), || format!("{words:?} in {}: {output:?}", pod.name))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The options under a name that no other trial of this process has.
pub(crate) fn named(mut options: LabOptions) -> LabOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    options.name = format!("{}-{}", options.name, NEXT.fetch_add(1, Ordering::Relaxed));
    options
}
