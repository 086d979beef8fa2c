//! The node agent: settings, then the app, until it is told to stop.

use std::process::ExitCode;

use ambit_agent::app;
use ambit_agent::settings::Settings;
use ambit_process::settings::{ProcessEnvironment, print_table};
use ambit_process::telemetry;

fn main() -> ExitCode {
    let settings = match Settings::read(&ProcessEnvironment) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if std::env::args().nth(1).as_deref() == Some("settings") {
        print_table(&settings.rows);
        return ExitCode::SUCCESS;
    }
    let log = telemetry::init(&settings.log);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(app::run(settings, log.clone()));
    if let Err(error) = &outcome {
        tracing::error!(%error, "node agent failed");
    }
    log.flush();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
