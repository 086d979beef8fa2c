//! `ambit describe`: everything that concerns one pod or one Service: enrolment, identity, waypoints, policies with where each
//! is enforced, ports with their modes and locks, routes, and what is accepted but not in effect.

mod pod;
mod rows;
mod service;

#[cfg(test)]
mod tests;

use ambit_crds::kind::Kind;
use clap::Args;

use crate::failure::{End, Failure};
use crate::mesh::name::Sought;
use crate::mesh::{Mesh, Place, Where};
use crate::output::{self, Output};

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// NAMESPACE/NAME, or a name alone if nothing else has it; before it `pod` or `service` where both have it. A pod may be
    /// named by its Deployment or StatefulSet if that has only one.
    #[arg(value_name = "[pod|service] NAME", num_args = 1..=2, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
}

/// Ends 0 when it is described, 2 when it is not found.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    let (name, sought) = asked(&arguments.words)?;
    let place = arguments.place.find()?;
    if let Where::Controller(_) = place {
        let mend = "name the lab or the folders: ambit describe NAME --lab LAB, or --dir DIR";
        return Err(Failure::new("the admin port of a controller shows no objects to describe", mend));
    }
    let mesh = Mesh::at(&place)?;
    mesh.remark();
    let found =
        mesh.find(name, sought, &|other| format!("ambit describe {} {}", other.told(), place.flags()))?;
    let format = arguments.output.format;
    match found.kind {
        Kind::Pod => output::print(&pod::describe(&mesh, &found)?, format)?,
        _ => output::print(&service::describe(&mesh, &found)?, format)?,
    }
    Ok(End::Yes)
}

fn asked(words: &[String]) -> Result<(&str, Sought), Failure> {
    match words {
        [name] => Ok((name, Sought::Either)),
        [kind, name] => match kind.as_str() {
            "pod" | "pods" | "po" => Ok((name, Sought::Pod)),
            "service" | "services" | "svc" => Ok((name, Sought::Service)),
            other => Err(Failure::new(
                format!("{other} cannot be described"),
                format!("ambit describe pod {name}, or ambit describe service {name}"),
            )),
        },
        _ => Err(Failure::new("nothing is named", "ambit describe NAMESPACE/NAME")),
    }
}
