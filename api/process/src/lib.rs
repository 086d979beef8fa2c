//! ambit-process: how a program of the mesh lives, from its settings to its last drained task.
//!
//! Each module is one habit that every program shares; none knows what the program does.

pub mod admin;
pub mod backoff;
pub mod counts;
pub mod drain;
pub mod limits;
pub mod metrics;
pub mod overload;
pub mod readiness;
pub mod settings;
pub mod signal;
pub mod spawn;
pub mod telemetry;
pub mod workers;
