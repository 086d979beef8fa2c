//! Where dumps of ztunnels come from: a lab's nodes, an address, a file.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ambit_crds::kind::Kind;
use clap::Args;

use super::Told;
use super::dump::Dump;
use crate::failure::Failure;
use crate::mesh::http::{self, Answer};
use crate::mesh::lab::Lab;

/// Where a ztunnel shows everything.
const DUMP: &str = "/config_dump";

/// Which ztunnels are asked. Without any of these: those of the lab that runs on this machine, if it is the only one.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The nodes of a lab that runs on this machine, by its name or its state folder.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["live", "file"])]
    lab: Option<String>,
    /// A ztunnel, asked at its admin port (`kubectl port-forward` to port 15000 of its pod).
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:15000", conflicts_with = "file")]
    live: Option<String>,
    /// A dump in a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The ztunnel of this node alone.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["live", "file"])]
    node: Option<String>,
}

/// How many are asked when no node is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    /// The first that answers.
    Any,
    /// All.
    Each,
}

impl Source {
    /// The dumps, and why some did not answer.
    pub(super) fn ask(&self, nodes: Nodes) -> Result<(Vec<Told>, Vec<Failure>), Failure> {
        if let Some(file) = &self.file {
            return Ok((vec![Told { node: String::new(), dump: parse(&read(file)?)? }], Vec::new()));
        }
        if let Some(address) = &self.live {
            let dump = dump(http::get(address, DUMP)?)?;
            return Ok((vec![Told { node: String::new(), dump }], Vec::new()));
        }
        let lab = match &self.lab {
            Some(name) => Lab::find(name)?,
            None => Lab::only()?,
        };
        let wanted = match &self.node {
            Some(node) => vec![known(&lab, node)?],
            None => names(&lab),
        };
        let (mut told, mut silent) = (Vec::new(), Vec::new());
        for node in wanted {
            match lab.ask(&format!("ztunnel/{node}"), DUMP).and_then(dump) {
                Ok(dump) => told.push(Told { node, dump }),
                Err(failure) => silent.push(failure),
            }
            if nodes == Nodes::Any && !told.is_empty() {
                // Another one knows the same: those before it that do not answer are `ambit status`'s business.
                silent.clear();
                break;
            }
        }
        match (told.is_empty(), silent.pop()) {
            (true, Some(failure)) => Err(failure),
            (true, None) => Err(Failure::new(
                format!("lab {} has no node", lab.name),
                format!("bring it up anew: ambit-lab up DIR --name {}", lab.name),
            )),
            (false, last) => {
                silent.extend(last);
                Ok((told, silent))
            }
        }
    }
}

fn names(lab: &Lab) -> Vec<String> {
    let objects = lab.objects().objects;
    let nodes = objects.iter().filter(|object| object.kind() == Kind::Node);
    let mut names: Vec<String> = nodes.map(|node| node.meta().name.clone()).collect();
    names.sort();
    names
}

fn known(lab: &Lab, node: &str) -> Result<String, Failure> {
    let names = names(lab);
    match names.iter().any(|name| name == node) {
        true => Ok(node.to_owned()),
        false => Err(Failure::new(
            format!("there is no node {node} in lab {}", lab.name),
            format!("name another one: --node {}", names.join(", or --node ")),
        )),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| {
        let mend = format!("save one: curl -s 127.0.0.1:15000{DUMP} > {}", file.display());
        Failure::new(format!("{} cannot be read: {error}", file.display()), mend)
    })
}

fn dump(answer: Answer) -> Result<Dump, Failure> {
    match answer.status {
        200 => parse(&answer.body),
        status => Err(other(&format!("status {status} for {DUMP}"))),
    }
}

fn parse(text: &str) -> Result<Dump, Failure> {
    serde_json::from_str(text).map_err(|error| other(&error))
}

fn other(why: &dyn std::fmt::Display) -> Failure {
    let mend = "name the admin port of a ztunnel (15000 unless set otherwise): --live ADDRESS";
    Failure::new(format!("this is no dump of a ztunnel: {why}"), mend)
}
