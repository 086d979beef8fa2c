//! The controller's program.

use std::process::ExitCode;

use ambit_process::settings::{ProcessEnvironment, print_table};
use ambit_process::telemetry;
use controller::app;
use controller::settings::Settings;

fn main() -> ExitCode {
    let settings = match Settings::read(&ProcessEnvironment) {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("controller: {faults}");
            return ExitCode::FAILURE;
        }
    };
    if std::env::args().nth(1).as_deref() == Some("--print-settings") {
        print_table(&settings.rows);
        return ExitCode::SUCCESS;
    }
    let log = telemetry::init(&settings.log);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("controller: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(app::run(settings, log.clone()));
    runtime.shutdown_background();
    if let Err(error) = ended {
        tracing::error!(%error, "the controller ends");
        log.flush();
        eprintln!("controller: {error}");
        return ExitCode::FAILURE;
    }
    log.flush();
    ExitCode::SUCCESS
}
