//! Whether Helm and `ambit install` make the same of the chart: a test in Go, with Helm's own packages.

use crate::cluster::toolchain;
use crate::run::{Failure, Workspace, succeeds};

/// Where the test is, from the workspace's root.
const SOURCES: &str = "integration/helm";

/// Compares them, by the `ambit` that was built for all tests.
pub(super) fn agrees(workspace: &Workspace) -> Result<(), Failure> {
    let go = toolchain::find(workspace)?;
    let mut test = go.command();
    test.current_dir(workspace.root.join(SOURCES)).env("CGO_ENABLED", "0");
    test.env("AMBIT", workspace.target.join("release").join("ambit"));
    // Its input is no file of the module, so Go would take an old result for this one.
    succeeds(test.args(["test", "-count=1", "./..."]))
}
