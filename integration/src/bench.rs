//! `bench l4`: no mesh, our ztunnel and, if one is named, a foreign one, side by side in one run; `bench l7`: no proxy, our
//! waypoint and Envoy; `bench checkout`: what the mesh adds to an order of 47 calls.
//!
//! Arenas (one lab per competitor, all up) → rounds of rows, competitors interleaved → samples → table or JSON.

mod arena;
pub mod checkout;
mod client;
mod envoy;
mod gateway;
pub(crate) mod machine;
mod manifests;
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
use checkout::{Till, Way};
use client::Measured;
use gateway::{Between, Stage};
use machine::Machine;
use row::Figure;
pub use row::Row;
use table::Results;

use crate::component::{Kind, Programs};
use crate::error::LabError;

/// How the table is read.
const LEGEND: &str = "Each figure is the median of the rounds, with the least and the most; ↑ more is better, ↓ less is better. Beside each title is the command that repeats it.";
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
    /// Our ztunnel (L4, checkout; our waypoint then lies beside it) or waypoint (L7), when not the one beside this program
    /// (`cargo xtask bench` names the one built as it is shipped).
    #[arg(long, value_name = "PATH")]
    pub ours: Option<PathBuf>,
    /// A foreign ztunnel to measure beside ours.
    #[arg(long, value_name = "PATH")]
    pub ztunnel: Option<PathBuf>,
    /// An Envoy to measure beside our waypoint.
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
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
    /// HTTP through a waypoint.
    L7,
    /// Orders of the sample shop, 47 calls each.
    Checkout,
}

impl Layer {
    /// Name on the command line.
    fn key(self) -> &'static str {
        match self {
            Self::L4 => "l4",
            Self::L7 => "l7",
            Self::Checkout => "checkout",
        }
    }
}

impl Options {
    fn time(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::from_secs(1))
    }
}

/// Runs the bench and prints what came of it. The calling process must be inside the lab's namespaces.
pub fn run(options: &Options) -> Result<(), LabError> {
    let failed = |cause: nix::errno::Errno| LabError::system("raising the limit on open files")(cause.into());
    raise_open_files().map_err(failed)?;
    let (machine, begun) = (Machine::look(), Instant::now());
    let results = match options.layer {
        Layer::L4 => l4(options)?,
        Layer::L7 => l7(options)?,
        Layer::Checkout => orders(options)?,
    };
    tell(options, &results, &machine, begun.elapsed())
}

fn l4(options: &Options) -> Result<Results, LabError> {
    let competitors = competitors(options);
    let mut arenas = Vec::new();
    for (number, competitor) in competitors.iter().enumerate() {
        eprintln!("bringing up: {} …", competitor.name());
        let arena = Arena::up(competitor, number)?;
        arena.reach()?;
        arenas.push(arena);
    }
    let names = competitors.iter().map(Competitor::name).collect();
    rounds(options, names, |turn, row| sample(&mut arenas[turn], &competitors[turn], row, options))
}

fn l7(options: &Options) -> Result<Results, LabError> {
    let mut between = if options.proxies_only { Vec::new() } else { vec![Between::Nothing] };
    between.push(Between::Ours(options.ours.clone()));
    between.extend(options.envoy.clone().map(Between::Envoy));
    between.push(Between::Mesh(options.ours.clone()));
    let mut stages = Vec::new();
    for (number, between) in between.iter().enumerate() {
        eprintln!("bringing up: {} …", between.name());
        stages.push(Stage::up(between, number)?);
    }
    let names = between.iter().map(Between::name).collect();
    rounds(options, names, |turn, row| {
        let (stage, has_proxies) = (&stages[turn], between[turn].has_proxies());
        if row == Row::Memory && !has_proxies {
            return Ok(Vec::new());
        }
        let width = if row == Row::Memory { Row::KeepAlive64.width() } else { row.width() };
        let measured = stage.measure(width, options.time())?;
        Ok(match row {
            Row::Memory => {
                vec![(Figure::Idle, stage.idle() / 1e6), (Figure::Loaded, Figure::Loaded.of(&measured))]
            }
            _ => figures(row, has_proxies, &measured),
        })
    })
}

fn orders(options: &Options) -> Result<Results, LabError> {
    let programs = || {
        let mut programs = options.ours.as_ref().map(Programs::with_ztunnel).unwrap_or_default();
        // Both are built and lie together.
        let waypoint = options.ours.as_ref().map(|ztunnel| ztunnel.with_file_name("waypoint"));
        programs.files.extend(waypoint.map(|file| (Kind::Waypoint, file)));
        programs
    };
    let ways = [Way::NoMesh, Way::Ztunnels(programs()), Way::Waypoint(programs())];
    let mut tills = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        eprintln!("bringing up: {} …", way.name());
        tills.push(Till::up(way, &number.to_string())?);
    }
    let names = ways.iter().map(|way| way.name().to_owned()).collect();
    let mut results = rounds(options, names, |turn, row| {
        let orders = tills[turn].order(row.width(), options.time())?;
        Ok(orders.figures(ways[turn].has_proxies()))
    })?;
    results.compare();
    Ok(results)
}

/// Every row in every round, competitors interleaved.
fn rounds(
    options: &Options,
    names: Vec<String>,
    mut sample: impl FnMut(usize, Row) -> Result<Vec<(Figure, f64)>, LabError>,
) -> Result<Results, LabError> {
    let all = names.len();
    let mut results = Results::new(options.layer, names);
    for round in 0..options.rounds as usize {
        let rows = Row::of(options.layer).iter();
        for row in rows.copied().filter(|row| options.only.is_empty() || options.only.contains(row)) {
            eprintln!("round {} of {}: {} …", round + 1, options.rounds, row.title());
            for turn in 0..all {
                // Each round begins with another competitor, so that none always comes after the same one.
                let turn = (turn + round) % all;
                for (figure, sample) in sample(turn, row)? {
                    results.add(row, figure, turn, sample);
                }
            }
        }
    }
    Ok(results)
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
    let time = options.time();
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
        // Of another layer.
        Row::Orders1 | Row::Orders10 | Row::Orders64 => return Ok(Vec::new()),
    };
    Ok(figures(row, competitor.has_proxies(), &measured))
}

/// What a load through proxies, or past them, tells.
fn figures(row: Row, has_proxies: bool, measured: &Measured) -> Vec<(Figure, f64)> {
    let figures = row.figures().iter().filter(|figure| has_proxies || !figure.of_proxies());
    figures.map(|figure| (*figure, figure.of(measured))).collect()
}

fn tell(options: &Options, results: &Results, machine: &Machine, took: Duration) -> Result<(), LabError> {
    let with = match options.layer {
        Layer::L4 if options.ztunnel.is_some() => " --ztunnel PATH",
        Layer::L7 if options.envoy.is_some() => " --envoy PATH",
        _ => "",
    };
    let conditions = match options.layer {
        Layer::L4 => conditions(options),
        Layer::L7 => conditions_of_l7(options),
        Layer::Checkout => checkout::conditions(options.rounds, options.seconds),
    };
    if options.json {
        let told = json!({"machine": machine.json(), "conditions": conditions, "rounds": options.rounds, "rows": results.json()});
        println!("{told:#}");
    } else {
        println!("{}\n\n{}\n{LEGEND} {conditions}\n", machine.text(), results.text(with));
        println!("The run took {:.0} s.", took.as_secs_f64());
    }
    match &options.markdown {
        Some(page) => write_page(page, (options.layer, results), machine, &conditions, with),
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

fn conditions_of_l7(options: &Options) -> String {
    let cpus = match gateway::pins() {
        true => {
            "the proxy has the machine's first CPU to itself as far as the bench goes, client and server share the others"
        }
        false => "everything shares the machine's only CPU",
    };
    format!(
        "Equal for no proxy, ours and Envoy: HTTP/1.1 over plain TCP on both sides, client and server of one thread each on \
         two nodes (network namespaces joined by a veth pair), and {cpus}. Equal for ours and Envoy: one worker, two routes \
         (`/api`, `/`), one policy (only GET), the same retries, no access log. The whole mesh is client, its ztunnel, \
         waypoint (same routes and policy), server's ztunnel and server, mutual TLS between all of them, one worker each, on \
         all CPUs; its CPU time is that of all three proxies, its memory their average. The client is a closed loop: each \
         connection sends its next request when the last answer has come; status and body of every answer are compared. {} \
         rounds of {} s after {} s of warming, competitors taking turns; idle memory is read before a proxy's first request.",
        options.rounds,
        options.seconds,
        options.seconds / 4.0,
    )
}

fn write_page(
    page: &Path,
    (layer, results): (Layer, &Results),
    machine: &Machine,
    conditions: &str,
    with: &str,
) -> Result<(), LabError> {
    let before = std::fs::read_to_string(page).unwrap_or_default();
    let kept = before.find(KEPT).map_or("", |at| &before[at..]);
    let text = format!(
        "# {} side by side\n\nMade by `cargo xtask bench {}{with} --markdown FILE`.\n\n{}.\n\n{}\n{LEGEND} {conditions}\n{kept}",
        layer.key().to_uppercase(),
        layer.key(),
        machine.text(),
        results.markdown(with),
    );
    std::fs::write(page, text).map_err(LabError::system(format!("writing {}", page.display())))
}
