//! A run of the demo as a file: what was promised and measured, and who called whom while the callers called.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::promise::Finding;
use super::scene::Scene;
use super::shop::Shop;
use super::traffic::Traffic;
use super::watch::Watch;
use crate::bench::machine::Machine;
use crate::error::LabError;

/// How long the callers are listened to.
const SPAN: Duration = Duration::from_secs(10);
/// How long they call before.
const WARMING: Duration = Duration::from_secs(2);

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Day, machine and kernel.
    pub(crate) machine: String,
    /// Number of nodes.
    pub(crate) nodes: usize,
    /// Number of pods.
    pub(crate) pods: usize,
    /// Seconds that the scene was counted over.
    pub(crate) seconds: f64,
    /// Every promise that was looked at.
    pub(crate) findings: Vec<Finding>,
    /// What happened in those seconds.
    pub(crate) scene: Scene,
}

impl Recording {
    /// Lets the callers call, and tells what came of it.
    pub(crate) fn make(shop: &Shop<'_>, findings: Vec<Finding>) -> Result<Self, LabError> {
        eprintln!("recording for {} seconds …", SPAN.as_secs());
        let traffic = Traffic::start(shop)?;
        // The first calls open tunnels and are no measure.
        std::thread::sleep(WARMING);
        let mut watch = Watch::begin(shop.lab);
        let begun = Instant::now();
        std::thread::sleep(SPAN);
        let scene = watch.look(&traffic.seen());
        let nodes = scene.places.iter().flat_map(|place| &place.nodes).collect::<BTreeSet<_>>().len();
        let pods = scene.places.iter().map(|place| place.pods).sum();
        let seconds = begun.elapsed().as_secs_f64();
        let machine = Machine::look().text();
        // What else the machine did bears on speeds, and none is told here.
        let machine = machine.split(';').next().unwrap_or_default().to_owned();
        Recording { machine, nodes, pods, seconds, findings, scene }.rounded().map_err(unwritable)
    }

    /// Reads a file that [`Recording::write`] wrote.
    pub fn read(file: &Path) -> Result<Self, LabError> {
        let text =
            std::fs::read_to_string(file).map_err(LabError::system(format!("reading {}", file.display())))?;
        serde_json::from_str(&text).map_err(|error| {
            LabError::Manifest(format!("{} is no recording of the demo: {error}", file.display()))
        })
    }

    /// The same with rates and sizes rounded to what a reader can use, so that it is drawn alike before it is written and
    /// after it is read.
    fn rounded(&self) -> serde_json::Result<Self> {
        let mut told = serde_json::to_value(self)?;
        round(&mut told);
        serde_json::from_value(told)
    }

    /// Writes it.
    pub(crate) fn write(&self, file: &Path) -> Result<(), LabError> {
        let told = serde_json::to_value(self).map_err(unwritable)?;
        std::fs::write(file, format!("{told:#}\n"))
            .map_err(LabError::system(format!("writing {}", file.display())))
    }
}

impl Recording {
    /// Draws it into a file.
    pub(crate) fn draw_to(&self, file: &Path) -> Result<(), LabError> {
        std::fs::write(file, super::draw(self))
            .map_err(LabError::system(format!("writing {}", file.display())))
    }
}

fn unwritable(error: serde_json::Error) -> LabError {
    LabError::Manifest(format!("a recording cannot be written: {error}"))
}

/// Two digits behind the point are more than any figure here is worth.
fn round(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(round),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(round),
        serde_json::Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map(|number| (number * 100.0).round() / 100.0);
            *value = rounded.into();
        }
        _ => {}
    }
}
