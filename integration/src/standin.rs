//! The lab's built-in programs, which stand in for sample images; every program that links the lab carries them.

pub mod echo;
pub mod http_echo;
mod serve;

/// Header in which an HTTP stand-in says its pod's version.
pub const VERSION: http::HeaderName = http::HeaderName::from_static("x-app-version");

/// The pod's label `version`, as the lab hands it to the pod's programs.
fn version_header() -> Option<http::HeaderValue> {
    let version = std::env::var_os("POD_VERSION").filter(|version| !version.is_empty())?;
    http::HeaderValue::from_bytes(version.as_encoded_bytes()).ok()
}

/// First argument that makes a program one of the stand-ins.
pub(crate) const MARKER: &str = "ambit-lab-stand-in";

/// A command that starts one of them, as in `["echo", "--port=8080"]`; for programs that call
/// [`sandbox::enter`](crate::sandbox::enter) or `stand_in` first.
pub fn command(arguments: &[&str]) -> std::process::Command {
    let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
    crate::process::stand_in(&arguments)
}

/// What the image ambit/echo does with its arguments: a load generator when the first of them is `load`, the stand-in for
/// another image when it is `http-echo`, else an echo. Returns the exit code.
pub fn image(arguments: &[String]) -> i32 {
    if arguments.first().is_some_and(|word| word == "load" || word == "http-echo") {
        return run(arguments);
    }
    run(&[&["echo".to_owned()], arguments].concat())
}

/// Runs the stand-in named by the first argument and returns its exit code.
pub fn run(arguments: &[String]) -> i32 {
    let Some((name, arguments)) = arguments.split_first() else { return 64 };
    if name == crate::visit::ENTER {
        return crate::visit::enter(arguments);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: {error}");
            return 70;
        }
    };
    let local = tokio::task::LocalSet::new();
    let outcome = match name.as_str() {
        "http-echo" => local.block_on(&runtime, http_echo::main(arguments)),
        "echo" => local.block_on(&runtime, echo::main(arguments)),
        "load" => local.block_on(&runtime, crate::load::main(arguments)),
        "stream" => local.block_on(&runtime, crate::stream::main(arguments)),
        "bench-server" => local.block_on(&runtime, crate::bench::server::main()),
        other => Err(std::io::Error::other(format!("no stand-in is called {other}"))),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {error}");
            1
        }
    }
}
