//! `ambit tls-check`: whether a connection is mutual TLS, between which identities, who decides that, and what becomes of a
//! caller in plain text. Every leg is resolved, and every plain text judged, by the data plane's own code.

mod show;
mod walk;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;

use crate::failure::{End, Failure};
use crate::mesh::name::{Found, Sought};
use crate::mesh::{Mesh, Place, target};
use crate::output::{self, Output};

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The calling pod: NAMESPACE/POD, or its name alone if no other pod has it.
    #[arg(value_name = "POD")]
    from: String,
    /// What it calls: SERVICE[:PORT], NAMESPACE/SERVICE[:PORT], NAMESPACE/POD:PORT or IP:PORT.
    #[arg(value_name = "SERVICE")]
    to: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checked {
    from: String,
    to: String,
    /// The addresses that this stands for.
    dialled: Vec<SocketAddr>,
    verdict: Verdict,
    caller: Membership,
    /// Legs of the way, in order; where chance decides, all of them.
    legs: Vec<Leg>,
    /// What becomes of a caller in plain text, for each pod that the way ends at.
    plaintext: Vec<Plaintext>,
}

/// Whether it is mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Every leg.
    MutualTls,
    /// No leg, or not every one.
    PlainText,
    /// There is no way there.
    NoConnection,
    /// Chance decides.
    Depends,
}

/// Whether a pod is in the mesh, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    pod: String,
    in_mesh: bool,
    /// Its identity, as a SPIFFE URI; none of pods outside the mesh.
    identity: Option<String>,
    /// Which label decides.
    because: Option<String>,
}

/// From one process to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leg {
    from: String,
    to: Vec<String>,
    transport: Transport,
    /// What the client shows.
    client_identity: Option<String>,
    /// What it demands of the server.
    server_identities: Vec<String>,
    /// Why it is not mutual TLS.
    because: Option<String>,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    /// HBONE.
    MutualTls,
    /// As the application writes them.
    PlainText,
    /// Not at all.
    Refused,
}

/// What becomes of a caller in plain text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plaintext {
    pod: String,
    port: u16,
    accepted: bool,
    /// STRICT or PERMISSIVE; none of pods outside the mesh.
    mode: Option<String>,
    because: String,
}

/// Ends 0 if it is mutual TLS, 1 if it is not, 2 if that cannot be told.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    let place = arguments.place.find()?;
    let mesh = Mesh::at(&place)?;
    mesh.remark();
    let checked = check(&mesh, &arguments.from, &arguments.to, &place.flags())?;
    output::print(&checked, arguments.output.format)?;
    Ok(match checked.verdict {
        Verdict::MutualTls => End::Yes,
        Verdict::PlainText | Verdict::NoConnection => End::No,
        Verdict::Depends => End::Unknown,
    })
}

/// The answer about one pod and what it calls.
fn check(mesh: &Mesh, from: &str, to: &str, flags: &str) -> Result<Checked, Failure> {
    let command = |other: &Found| format!("ambit tls-check {} {to} {flags}", other.full());
    // Only a controller knows no objects; then the data plane's own names must do.
    let from = match mesh.objects.is_empty() {
        true => from.to_owned(),
        false => mesh.find(from, Sought::Pod, &command)?.full(),
    };
    let source = target::source(&mesh.world.mesh, &from)?;
    let called = target::target(&mesh.world.mesh, &source.namespace, to)?;
    let walked = walk::walk(&mesh.world, source, &called.dialled);
    let mut plaintext: Vec<Plaintext> = Vec::new();
    for (workload, at) in &walked.ends {
        let row = mesh.plaintext(workload, *at);
        if !plaintext.contains(&row) {
            plaintext.push(row);
        }
    }
    plaintext.sort_by(|one, other| (&one.pod, one.port).cmp(&(&other.pod, other.port)));
    Ok(Checked {
        from,
        to: to.to_owned(),
        dialled: called.dialled,
        verdict: walked.verdict(),
        caller: mesh.membership(source),
        legs: walked.legs,
        plaintext,
    })
}
