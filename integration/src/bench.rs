//! `bench l4`: no mesh, our ztunnel and, if one is named, a foreign one, side by side in one run.
//!
//! Arenas (one lab per competitor, all up) → rounds of rows, competitors interleaved → samples → table or JSON.

mod arena;
mod client;
mod machine;
mod proxies;
mod row;
pub(crate) mod server;
mod table;
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ambit_process::limits::raise_open_files;
use serde_json::json;

use arena::{Arena, Competitor};
use machine::Machine;
use row::Figure;
pub use row::Row;
use table::Results;

use crate::error::LabError;

/// From here on a page made with `--markdown` is its authors' and is kept.
const KEPT: &str = "\n## What the profile says";

/// What to measure and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What to measure.
    #[arg(default_value = "l4")]
    pub layer: Layer,
    /// Prints every sample as JSON instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Our ztunnel, when not the one beside this program (`cargo xtask bench` names the one built as it is shipped).
    #[arg(long, value_name = "PATH")]
    pub ours: Option<PathBuf>,
    /// A foreign ztunnel to measure beside ours.
    #[arg(long, value_name = "PATH")]
    pub ztunnel: Option<PathBuf>,
    /// Only these rows.
    #[arg(long, value_name = "ROW")]
    pub only: Vec<Row>,
    /// Rounds; each measures every row once for every competitor.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds counted per row, competitor and round.
    #[arg(long, default_value_t = 1.5)]
    pub seconds: f64,
    /// Connections that are held open to read memory.
    #[arg(long, default_value_t = 2000)]
    pub connections: usize,
    /// Writes the table to this page too.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Leaves out the run without a mesh.
    #[arg(long)]
    pub proxies_only: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Layer {
    /// TCP through ztunnels.
    L4,
}

/// Runs the bench and prints what came of it. The calling process must be inside the lab's namespaces.
pub fn run(options: &Options) -> Result<(), LabError> {
    let failed = |cause: nix::errno::Errno| LabError::system("raising the limit on open files")(cause.into());
    raise_open_files().map_err(failed)?;
    let (machine, begun) = (Machine::look(), Instant::now());
    let competitors = competitors(options);
    let mut arenas = Vec::new();
    for (number, competitor) in competitors.iter().enumerate() {
        eprintln!("bringing up: {} …", competitor.name());
        let arena = Arena::up(competitor, number)?;
        arena.reach()?;
        arenas.push(arena);
    }
    let mut results = Results::new(competitors.iter().map(Competitor::name).collect());
    for round in 0..options.rounds as usize {
        for row in Row::ALL.into_iter().filter(|row| options.only.is_empty() || options.only.contains(row)) {
            eprintln!("round {} of {}: {} …", round + 1, options.rounds, row.title());
            for turn in 0..competitors.len() {
                // Each round begins with another competitor, so that none always comes after the same one.
                let turn = (turn + round) % competitors.len();
                for (figure, sample) in sample(&mut arenas[turn], &competitors[turn], row, options)? {
                    results.add(row, figure, turn, sample);
                }
            }
        }
    }
    drop(arenas);
    tell(options, &results, &machine, begun.elapsed())
}

fn competitors(options: &Options) -> Vec<Competitor> {
    let mut competitors = if options.proxies_only { Vec::new() } else { vec![Competitor::NoMesh] };
    competitors.push(Competitor::Ours(options.ours.clone()));
    competitors.extend(options.ztunnel.clone().map(Competitor::Foreign));
    competitors
}

/// One row's figures of one competitor in one round.
fn sample(
    arena: &mut Arena,
    competitor: &Competitor,
    row: Row,
    options: &Options,
) -> Result<Vec<(Figure, f64)>, LabError> {
    let time = Duration::try_from_secs_f64(options.seconds).unwrap_or(Duration::from_secs(1));
    let measured = match row {
        Row::Memory if !competitor.has_proxies() => return Ok(Vec::new()),
        Row::Memory => {
            let memory = arena.memory(options.connections)?;
            return Ok(vec![
                (Figure::Idle, memory.idle / 1e6),
                (Figure::PerConnection, memory.per_connection / 1e3),
            ]);
        }
        Row::KeepAlive1 | Row::KeepAlive64 => {
            arena.measure(client::keep_alive, wire::WEB, row.width(), time)?
        }
        Row::Fresh32 => arena.measure(client::fresh, wire::WEB, row.width(), time)?,
        Row::Bulk1 | Row::Bulk8 => arena.measure(client::bulk, wire::SINK, row.width(), time)?,
    };
    let figures = row.figures().iter().filter(|figure| competitor.has_proxies() || !figure.of_proxies());
    Ok(figures.map(|figure| (*figure, figure.of(&measured))).collect())
}

fn tell(options: &Options, results: &Results, machine: &Machine, took: Duration) -> Result<(), LabError> {
    let with = if options.ztunnel.is_some() { " --ztunnel PATH" } else { "" };
    let conditions = conditions(options);
    if options.json {
        let told = json!({"machine": machine.json(), "conditions": conditions, "rounds": options.rounds, "rows": results.json()});
        println!("{told:#}");
    } else {
        println!("{}\n\n{}\n{conditions}\n", machine.text(), results.text());
        println!(
            "Each row again, alone:\n{}\nThe run took {:.0} s.",
            results.commands(with),
            took.as_secs_f64()
        );
    }
    match &options.markdown {
        Some(page) => write_page(page, results, machine, &conditions, with),
        None => Ok(()),
    }
}

/// What is the same for everybody, so that a reader knows what is compared.
fn conditions(options: &Options) -> String {
    let (workers, log) = (arena::workers(), arena::LOG);
    format!(
        "Equal for all: two pods on two nodes (network namespaces joined by a veth pair), a client and a server of one \
         thread each, and everything, proxies included, on the CPUs of this machine. Equal for the meshes: our controller and \
         node agents, {workers} workers per ztunnel, log level {log} with a line per connection, mutual TLS, no policy. The \
         client is a closed loop: each connection sends its next request when the last answer has come. Every answer is \
         compared byte for byte, bulk data by the server. {} rounds of {} s after {} s of warming, competitors taking turns; \
         memory is read from freshly started proxies, with {} connections that each carried one request.",
        options.rounds,
        options.seconds,
        options.seconds / 4.0,
        options.connections,
    )
}

fn write_page(
    page: &Path,
    results: &Results,
    machine: &Machine,
    conditions: &str,
    with: &str,
) -> Result<(), LabError> {
    let before = std::fs::read_to_string(page).unwrap_or_default();
    let kept = before.find(KEPT).map_or("", |at| &before[at..]);
    let text = format!(
        "# L4 side by side\n\nMade by `cargo xtask bench l4{with} --markdown FILE`.\n\n{}.\n\n{}\n{conditions}\n\n```text\n{}```\n{kept}",
        machine.text(),
        results.markdown(),
        results.commands(with),
    );
    std::fs::write(page, text).map_err(LabError::system(format!("writing {}", page.display())))
}
