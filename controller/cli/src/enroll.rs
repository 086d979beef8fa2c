//! `ambit enroll` and `ambit unenroll`: the labels that take namespaces and pods into the mesh and out of it, and what
//! became of the pods.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ambit_crds::enrolment::{DATAPLANE_MODE, Enrolment, REDIRECTION, Why, enrolled};
use ambit_crds::object::Object;
use ambit_process::settings::parse_duration;
use clap::{ArgAction, Args};
use serde_json::{Value, json};

use crate::chart;
use crate::cluster::{Cluster, Refused, To, annotation, kinds, label, name};
use crate::failure::{End, Failure};
use crate::install::Waiter;
use crate::output;

/// Namespaces that hold a cluster or a mesh together: a mesh must not stand before what it stands on.
const SYSTEM: [&str; 5] = [chart::NAMESPACE, "istio-system", "kube-system", "kube-public", "kube-node-lease"];

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// NAMESPACE, or NAMESPACE/POD for a single pod until it is replaced.
    #[arg(required = true, value_name = "NAMESPACE[/POD]")]
    what: Vec<String>,
    /// Wait until the pods are in, or out.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_name = "true|false")]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = parse_duration, default_value = "1m", value_name = "DURATION")]
    timeout: Duration,
    #[command(flatten)]
    to: To,
}

/// In, or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Into the mesh.
    In,
    /// Out of it.
    Out,
}

/// What is labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    namespace: String,
    pod: Option<String>,
}

/// How the pods of a subject stand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pods {
    /// In the mesh.
    inside: Vec<String>,
    /// Not where they are to be yet.
    under_way: Vec<String>,
    /// Out, and why they stay.
    outside: Vec<(String, Why)>,
}

/// Ends 0 when every pod is where it is to be, 1 when one is not, 2 when that cannot be told.
pub(crate) fn run(arguments: &Arguments, direction: Direction) -> Result<End, Failure> {
    let subjects: Vec<Subject> =
        arguments.what.iter().map(|what| Subject::read(what, direction)).collect::<Result<_, _>>()?;
    let cluster = arguments.to.open()?;
    let mut end = End::Yes;
    for subject in &subjects {
        subject.label(&cluster, direction)?;
        let mut waiter =
            Waiter::new(&cluster, if arguments.wait { arguments.timeout } else { Duration::ZERO });
        let moved = waiter.until_nothing_lags(|| Ok(subject.pods(&cluster)?.lags(direction)));
        let pods = subject.pods(&cluster)?;
        pods.tell(subject, direction)?;
        if moved.is_err() {
            end = End::No;
        }
    }
    if end == End::No && arguments.wait {
        let mend = format!("ambit: see what holds them up: ambit status{}", cluster.flags);
        eprintln!("{mend}");
    }
    Ok(end)
}

impl Subject {
    fn read(what: &str, direction: Direction) -> Result<Self, Failure> {
        let (namespace, pod) = match what.split_once('/') {
            Some((namespace, pod)) => (namespace, Some(pod.to_owned())),
            None => (what, None),
        };
        if namespace.is_empty() || pod.as_deref() == Some("") {
            return Err(Failure::new(
                format!("{what:?} names nothing"),
                "name a NAMESPACE, or NAMESPACE/POD",
            ));
        }
        if direction == Direction::In && SYSTEM.contains(&namespace) {
            return Err(Failure::new(
                format!(
                    "{namespace} stays out of the mesh: it holds what the mesh, or the cluster, stands on"
                ),
                "name a namespace with applications",
            ));
        }
        Ok(Self { namespace: namespace.to_owned(), pod })
    }

    fn told(&self) -> String {
        match &self.pod {
            Some(pod) => format!("pod {}/{pod}", self.namespace),
            None => format!("namespace {}", self.namespace),
        }
    }

    fn held(&self, cluster: &Cluster) -> Result<Value, Failure> {
        let held = match &self.pod {
            Some(pod) => cluster.get(&kinds::POD, &self.namespace, pod),
            None => cluster.get(&kinds::NAMESPACE, "", &self.namespace),
        };
        held.map_err(|refused| self.failed(cluster, &refused))?.ok_or_else(|| {
            let list = match &self.pod {
                Some(_) => format!("pods -n {}", self.namespace),
                None => "namespaces".to_owned(),
            };
            let mend = format!("see what there is: kubectl{} get {list}", cluster.flags);
            Failure::new(format!("there is no {}", self.told()), mend)
        })
    }

    fn failed(&self, cluster: &Cluster, refused: &Refused) -> Failure {
        cluster.failed(&self.told(), refused)
    }

    /// Sets the label. A pod whose namespace is in the mesh is taken out by a label of its own.
    fn label(&self, cluster: &Cluster, direction: Direction) -> Result<(), Failure> {
        let held = self.held(cluster)?;
        let value = match (direction, &self.pod) {
            (Direction::In, _) => json!("ambient"),
            (Direction::Out, None) => Value::Null,
            (Direction::Out, Some(_)) => json!("none"),
        };
        if held["metadata"]["labels"][DATAPLANE_MODE] == value {
            return Ok(());
        }
        let change = json!({ "metadata": { "labels": { DATAPLANE_MODE: value } } });
        cluster.merge(&held, &change).map_err(|refused| self.failed(cluster, &refused)).map(drop)
    }

    fn pods(&self, cluster: &Cluster) -> Result<Pods, Failure> {
        let failed = |refused| self.failed(cluster, &refused);
        let namespace =
            cluster.get(&kinds::NAMESPACE, "", &self.namespace).map_err(failed)?.unwrap_or_default();
        let all = cluster.list(&kinds::POD, &self.namespace, "").map_err(failed)?;
        let ours = all.iter().filter(|pod| self.pod.as_deref().is_none_or(|wanted| name(pod) == wanted));
        Ok(Pods::of(&namespace, ours))
    }
}

impl Pods {
    fn of<'a>(namespace: &Value, pods: impl Iterator<Item = &'a Value>) -> Self {
        let mut all = Self::default();
        for pod in pods {
            let captured = annotation(pod, REDIRECTION) == Some("enabled");
            let own = name(pod).to_owned();
            match (decided(namespace, pod), captured) {
                (Enrolment::In, true) => all.inside.push(own),
                // It asks for the mesh, too.
                (Enrolment::Out(Why::NoAddress), _) | (Enrolment::In, false) => all.under_way.push(own),
                // What has ended carries nothing, whatever is written on it.
                (Enrolment::Out(Why::Terminal), _) => {}
                (Enrolment::Out(_), true) => all.under_way.push(own),
                (Enrolment::Out(why), false) => all.outside.push((own, why)),
            }
        }
        all
    }

    fn lags(&self, direction: Direction) -> Vec<String> {
        let word = if direction == Direction::In { "in" } else { "out" };
        self.under_way.iter().map(|pod| format!("pod {pod} is not {word} yet")).collect()
    }

    fn tell(&self, subject: &Subject, direction: Direction) -> Result<(), Failure> {
        let (inside, under_way) = (self.inside.len(), self.under_way.len());
        let all = inside + under_way + self.outside.len();
        let counted = match direction {
            Direction::In => format!("{inside} of {all} pods are in the mesh"),
            Direction::Out => format!("{} of {all} pods are out of the mesh", self.outside.len()),
        };
        let late = match under_way {
            0 => String::new(),
            _ => format!(", {under_way} not yet: {}", self.under_way.join(", ")),
        };
        output::line(&format!("{}: {counted}{late}", subject.told()))?;
        for (pod, why) in self.outside.iter().filter(|(_, why)| *why != Why::NotAsked) {
            output::line(&format!("           {pod} stays out: {why}"))?;
        }
        Ok(())
    }
}

/// What the node agent decides about a pod.
fn decided(namespace: &Value, pod: &Value) -> Enrolment {
    let read = |object: &Value| ambit_crds::read::objects(&object.to_string()).into_iter().next();
    let namespace = read(namespace);
    let namespace = match namespace.as_deref() {
        Some(Object::Namespace(namespace)) => namespace.clone(),
        _ => Default::default(),
    };
    match read(pod).as_deref() {
        Some(Object::Pod(pod)) => enrolled(&namespace, pod),
        _ => Enrolment::Out(Why::NotAsked),
    }
}

/// How many of these pods are in the mesh, and which are not yet where they are to be.
pub(crate) fn counted<'a>(namespace: &Value, pods: impl Iterator<Item = &'a Value>) -> (usize, Vec<String>) {
    let pods = Pods::of(namespace, pods);
    (pods.inside.len(), pods.under_way)
}

/// Whether a namespace asks for the mesh.
pub(crate) fn is_enrolled(namespace: &Value) -> bool {
    label(namespace, DATAPLANE_MODE) == Some("ambient")
}
