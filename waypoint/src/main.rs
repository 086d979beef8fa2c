//! The waypoint program: settings → build → run → drain.

use std::process::ExitCode;

use ambit_process::settings::{ProcessEnvironment, print_table};
use ambit_process::telemetry;
use waypoint::app;
use waypoint::settings::Settings;

/// What sysexits and shells know as "used wrongly".
const USAGE: u8 = 2;

// glibc's allocator keeps what load peaks took; this one gives it back within seconds.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let settings = match Settings::read(&ProcessEnvironment) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("waypoint: settings cannot be used:\n{error}");
            return ExitCode::from(USAGE);
        }
    };
    if std::env::args().any(|argument| argument == "--print-settings") {
        print_table(&settings.rows);
        return ExitCode::SUCCESS;
    }
    let log = telemetry::init(&settings.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(app::run(settings, log.clone())).map_err(|fatal| fatal.to_string()),
        Err(cause) => Err(format!("cannot start: {cause}")),
    };
    if let Err(fatal) = &outcome {
        tracing::error!(error = fatal, "stopped");
    }
    log.flush();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
