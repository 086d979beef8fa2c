//! `ambit explain`: what becomes of a request and why, hop by hop, by the code that the data plane itself decides with.

mod journey;
mod live;
mod pod;
mod question;
mod show;
mod target;
mod through;
mod way;
mod world;

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use question::Question;
use show::Answer;
use way::Verdict;
use world::World;

/// Manifests are read as a cluster would have them once everything has settled: pods of Deployments and StatefulSets
/// exist, every pod runs and is ready unless its status says otherwise, pods that ask for the mesh are captured, waypoints
/// are up, and what has no address yet is given one. Nothing is remembered: a policy that is invalid now has no earlier
/// version.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder of manifests, as for `analyze`; later ones override earlier ones. For a running lab NAME these are its
    /// manifests and the folders generated, applied and state/objects of its state folder.
    #[arg(short, long = "dir", value_name = "DIR", required_unless_present = "live")]
    directories: Vec<PathBuf>,
    /// Instead of a folder: what a running controller tells the data plane, asked at its admin port
    /// (`kubectl port-forward` to port 15014 of the controller).
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:15014", conflicts_with = "directories")]
    live: Option<String>,
    /// The calling pod.
    #[arg(long, value_name = "NAMESPACE/POD", required_unless_present = "requests")]
    from: Option<String>,
    /// What it calls.
    #[arg(
        long,
        value_name = "SERVICE[:PORT] | NAMESPACE/SERVICE[:PORT] | NAMESPACE/POD:PORT | IP:PORT",
        required_unless_present = "requests"
    )]
    to: Option<String>,
    /// The method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// The path, perhaps with a query.
    #[arg(long, default_value = "/")]
    path: String,
    /// A header; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE")]
    headers: Vec<String>,
    /// Host, and port unless 80; without it the called name.
    #[arg(long)]
    authority: Option<String>,
    /// Not HTTP: any bytes.
    #[arg(long)]
    tcp: bool,
    /// A file of many requests, one JSON object a line with the fields from, to, method, path, headers, authority and tcp;
    /// `-` is standard input. The answers come in the same order.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    requests: Option<PathBuf>,
    /// How answers are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What went wrong before anything could be answered.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Live(#[from] live::LiveError),
    #[error("{0}: {1}")]
    Requests(PathBuf, io::Error),
    #[error("the answer cannot be printed: {0}")]
    Print(io::Error),
}

/// Ends 0 if all that was asked is allowed, 1 if something is refused, 2 if something cannot be told.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match answer_all(arguments, &mut io::stdout().lock()) {
        Ok(worst) => ExitCode::from(worst.code()),
        Err(failed) => {
            eprintln!("ambit: {failed}");
            ExitCode::from(2)
        }
    }
}

fn answer_all(arguments: &Arguments, to: &mut impl Write) -> Result<Verdict, Failed> {
    let world = match &arguments.live {
        Some(address) => World::of(&live::fetch(address)?),
        None => World::read(&arguments.directories),
    };
    world.remarks.iter().for_each(|remark| eprintln!("ambit: {remark}"));
    let questions = match &arguments.requests {
        Some(file) => lines(file)?.iter().map(|line| Question::from_line(line)).collect(),
        None => vec![Question::from_arguments(arguments)],
    };
    let mut worst = Verdict::Allowed;
    for question in questions {
        let answer = Answer::new(&world, question);
        worst = worst.max(answer.verdict);
        let printed = match arguments.output {
            Output::Text => answer.text(to),
            Output::Json => answer.json(to),
        };
        printed.map_err(Failed::Print)?;
    }
    Ok(worst)
}

fn lines(file: &Path) -> Result<Vec<String>, Failed> {
    let lines: io::Result<Vec<String>> = if file == Path::new("-") {
        io::stdin().lock().lines().collect()
    } else {
        std::fs::read_to_string(file).map(|text| text.lines().map(str::to_owned).collect())
    };
    let mut lines = lines.map_err(|error| Failed::Requests(file.to_owned(), error))?;
    lines.retain(|line| !line.trim().is_empty());
    Ok(lines)
}
