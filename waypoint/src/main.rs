//! The waypoint's program: prints its settings, and refuses to run until it can enforce what it would be asked to.

use std::process::ExitCode;

use ambit_process::settings::{ProcessEnvironment, print_table};
use waypoint::settings::Settings;

/// What sysexits and shells know as "used wrongly".
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let settings = match Settings::read(&ProcessEnvironment) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("waypoint: settings cannot be used:\n{error}");
            return ExitCode::from(USAGE);
        }
    };
    if std::env::args().skip(1).eq(["--print-settings".to_owned()]) {
        print_table(&settings.rows);
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "waypoint: HTTP rules are not enforced by this build yet, so it does not start; --print-settings shows its settings"
    );
    ExitCode::from(USAGE)
}
