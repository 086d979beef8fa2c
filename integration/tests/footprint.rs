//! Ports an application cannot take, and what idle pods and workers cost. Not written yet: fails, so that nobody takes
//! the promise for kept.

fn main() -> std::process::ExitCode {
    eprintln!("footprint: this test is not written yet");
    std::process::ExitCode::FAILURE
}
