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
/// another image when it is `http-echo`, else an echo. SIGTERM ends it, which it does to no first process of a container by
/// itself. Returns the exit code.
pub fn image(arguments: &[String]) -> i32 {
    let named = arguments.first().is_some_and(|word| word == "load" || word == "http-echo");
    let echo = if named { None } else { Some("echo".to_owned()) };
    let arguments: Vec<_> = echo.into_iter().chain(arguments.iter().cloned()).collect();
    if crate::image::flag(&arguments, echo::DRAIN).is_some() {
        // Such an echo hears it and knows what to do.
        return run(&arguments);
    }
    run_until(&arguments, async {
        ambit_process::signal::shutdown().await;
    })
}

/// Runs the stand-in named by the first argument and returns its exit code.
pub fn run(arguments: &[String]) -> i32 {
    run_until(arguments, std::future::pending())
}

fn run_until(arguments: &[String], asked: impl Future<Output = ()>) -> i32 {
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
    let outcome = local.block_on(&runtime, async {
        tokio::select! {
            outcome = perform(name, arguments) => outcome,
            () = asked => Ok(()),
        }
    });
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {error}");
            1
        }
    }
}

async fn perform(name: &str, arguments: &[String]) -> std::io::Result<()> {
    match name {
        "http-echo" => http_echo::main(arguments).await,
        "echo" => echo::main(arguments).await,
        "load" => crate::load::main(arguments).await,
        "stream" => crate::stream::main(arguments).await,
        "bench-server" => crate::bench::server::main().await,
        other => Err(std::io::Error::other(format!("no stand-in is called {other}"))),
    }
}
