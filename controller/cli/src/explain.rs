//! `ambit explain`: what becomes of a request and why, hop by hop, by the code that the data plane itself decides with.

mod journey;
mod pod;
mod question;
mod show;
mod through;
mod way;

#[cfg(test)]
mod tests;

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{End, Failure};
use crate::mesh::{Mesh, Place};
use crate::output::{self, Format, Output};

use question::Question;
use show::Answer;
use way::Verdict;

/// Who is asked about, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
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
    #[command(flatten)]
    output: Output,
}

/// Ends 0 if all that was asked is allowed, 1 if something is refused, 2 if something cannot be told.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    let mesh = Mesh::at(&arguments.place.find()?)?;
    mesh.remark();
    let questions = match &arguments.requests {
        Some(file) => lines(file)?.iter().map(|line| Question::from_line(line)).collect(),
        None => vec![Question::from_arguments(arguments)],
    };
    let mut to = io::stdout().lock();
    let mut worst = Verdict::Allowed;
    for question in questions {
        let answer = Answer::new(&mesh.world, question);
        worst = worst.max(answer.verdict);
        let printed = match arguments.output.format {
            Format::Table => answer.text(&mut to),
            Format::Json => answer.json(&mut to),
            Format::Yaml => answer.yaml(&mut to),
        };
        output::written(printed)?;
    }
    Ok(worst.end())
}

fn lines(file: &Path) -> Result<Vec<String>, Failure> {
    let lines: io::Result<Vec<String>> = if file == Path::new("-") {
        io::stdin().lock().lines().collect()
    } else {
        std::fs::read_to_string(file).map(|text| text.lines().map(str::to_owned).collect())
    };
    let mut lines = lines.map_err(|error| {
        Failure::new(format!("{}: {error}", file.display()), "name a file of JSON lines: --requests FILE")
    })?;
    lines.retain(|line| !line.trim().is_empty());
    Ok(lines)
}
