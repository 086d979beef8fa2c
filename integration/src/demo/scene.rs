//! Who calls whom, as the mesh's programs count it: two readings of their metrics become rates. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cast::{Place, Workload};
use super::refusal::Refusal;
use crate::metrics::{Sample, Samples};

/// What stands in labels where nothing is known.
const UNKNOWN: &str = "unknown";

/// How a call is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Security {
    /// In a tunnel of mutual TLS.
    MutualTls,
    /// As it is.
    Plaintext,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// Connections, by ztunnels.
    Connections,
    /// Requests, by waypoints.
    Requests,
}

/// One way from caller to server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Way {
    /// Who calls.
    pub(crate) from: Workload,
    /// Who is called, or the waypoint before it.
    pub(crate) to: Workload,
    /// How.
    pub(crate) security: Security,
    /// Of what.
    pub(crate) unit: Unit,
}

/// What a program has counted of a way since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) good: f64,
    pub(crate) refused: f64,
}

/// Totals of all programs, by the program's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading(pub(crate) BTreeMap<String, BTreeMap<Way, Totals>>);

/// What the callers themselves saw of their calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// Who called.
    pub(crate) from: Workload,
    /// Whom, or the waypoint before it.
    pub(crate) to: Workload,
    /// Calls that did not end as they should, a second.
    pub(crate) failed: f64,
    /// Milliseconds: median, and what 99 of 100 calls do not pass; none where nothing was answered.
    pub(crate) latency: Option<[f64; 2]>,
}

/// A way with its rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Edge {
    /// The way.
    #[serde(flatten)]
    pub(crate) way: Way,
    /// Let through, a second.
    pub(crate) good: f64,
    /// Refused by policy, a second.
    pub(crate) refused: f64,
    /// Gone wrong as the caller saw it, a second.
    pub(crate) failed: f64,
    /// What the caller waited, milliseconds: median and 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<[f64; 2]>,
}

/// A program of the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// Name.
    pub(crate) name: String,
    /// Resident memory in MB; none while it does not run.
    pub(crate) megabytes: Option<f64>,
}

/// All of it at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scene {
    /// Who is there.
    pub(crate) places: Vec<Place>,
    /// Who calls whom.
    pub(crate) edges: Vec<Edge>,
    /// What policy refused, the latest first.
    pub(crate) refusals: Vec<Refusal>,
    /// The mesh's own programs.
    pub(crate) programs: Vec<Program>,
}

impl Reading {
    /// Takes in one program's metrics; `own` is its workload if it is a waypoint.
    pub(crate) fn add(
        &mut self,
        program: &str,
        samples: &Samples,
        own: Option<&Workload>,
        is_waypoint: impl Fn(&Workload) -> bool,
    ) {
        let ways = self.0.entry(program.to_owned()).or_default();
        for sample in &samples.0 {
            let counted = match own {
                Some(waypoint) => of_waypoint(sample, waypoint),
                None => of_ztunnel(sample, &is_waypoint).into_iter().collect(),
            };
            for (way, totals) in counted {
                let sum = ways.entry(way).or_default();
                sum.good += totals.good;
                sum.refused += totals.refused;
            }
        }
    }

    /// What has been counted since an earlier reading. A program that was started again began at nothing; one that does
    /// not answer now has counted nothing.
    fn since(&self, before: &Self) -> BTreeMap<Way, Totals> {
        let mut sums: BTreeMap<Way, Totals> = BTreeMap::new();
        for (program, ways) in &self.0 {
            let earlier = before.0.get(program);
            for (way, now) in ways {
                let then = earlier.and_then(|ways| ways.get(way)).copied().unwrap_or_default();
                let grown = |now: f64, then: f64| if now < then { now } else { now - then };
                let sum = sums.entry(way.clone()).or_default();
                sum.good += grown(now.good, then.good);
                sum.refused += grown(now.refused, then.refused);
            }
        }
        sums
    }
}

/// Edges from two readings that lie some seconds apart, and from what the callers saw in between. Ways in `known` are
/// among them, also without calls; ways with calls become known.
pub(crate) fn edges(
    (before, after): (&Reading, &Reading),
    seconds: f64,
    seen: &[Seen],
    known: &mut BTreeSet<Way>,
) -> Vec<Edge> {
    let sums = after.since(before);
    let used = sums.iter().filter(|(_way, totals)| totals.good + totals.refused > 0.0);
    known.extend(used.map(|(way, _totals)| way.clone()));
    let rate = |count: f64| count / seconds.max(0.001);
    let mut edges: Vec<_> = known
        .iter()
        .map(|way| {
            let totals = sums.get(way).copied().unwrap_or_default();
            let (good, refused) = (rate(totals.good), rate(totals.refused));
            Edge { way: way.clone(), good, refused, failed: 0.0, latency: None }
        })
        .collect();
    for seen in seen {
        let mine = |edge: &&mut Edge| edge.way.from == seen.from && edge.way.to == seen.to;
        if let Some(edge) = edges.iter_mut().find(mine) {
            edge.failed += seen.failed;
            edge.latency = edge.latency.or(seen.latency);
        }
    }
    edges
}

/// Connections as the server's ztunnel counts them. What goes to or from a waypoint is counted there, by requests.
fn of_ztunnel(sample: &Sample, is_waypoint: impl Fn(&Workload) -> bool) -> Option<(Way, Totals)> {
    if label(sample, "reporter") != "destination" {
        return None;
    }
    let (from, to) = (end(sample, "source"), end(sample, "destination"));
    if is_waypoint(&from) || is_waypoint(&to) {
        return None;
    }
    let totals = match (sample.name.as_str(), label(sample, "response_flags")) {
        ("istio_tcp_connections_opened_total", _) => Totals { good: sample.value, refused: 0.0 },
        ("istio_tcp_connections_failed_total", "DENY") => Totals { good: 0.0, refused: sample.value },
        _ => return None,
    };
    Some((Way { from, to, security: security(sample), unit: Unit::Connections }, totals))
}

/// A request is one from its client to the waypoint and, if it had an endpoint, one from there to the server.
fn of_waypoint(sample: &Sample, waypoint: &Workload) -> Vec<(Way, Totals)> {
    if sample.name != "istio_requests_total" || label(sample, "reporter") != "waypoint" {
        return Vec::new();
    }
    let refused = label(sample, "response_flags").split(',').any(|flag| flag == "UAEX");
    let totals = match refused {
        true => Totals { good: 0.0, refused: sample.value },
        false => Totals { good: sample.value, refused: 0.0 },
    };
    let (from, to) = (end(sample, "source"), end(sample, "destination"));
    let way = |from: &Workload, to: &Workload, security| Way {
        from: from.clone(),
        to: to.clone(),
        security,
        unit: Unit::Requests,
    };
    let mut ways = vec![(way(&from, waypoint, security(sample)), totals)];
    if to.name != UNKNOWN && !refused {
        // Behind a waypoint the way goes on in a tunnel of its own.
        ways.push((way(waypoint, &to, Security::MutualTls), totals));
    }
    ways
}

fn end(sample: &Sample, end: &str) -> Workload {
    Workload {
        namespace: label(sample, &format!("{end}_workload_namespace")).to_owned(),
        name: label(sample, &format!("{end}_workload")).to_owned(),
    }
}

fn security(sample: &Sample) -> Security {
    match label(sample, "connection_security_policy") {
        "mutual_tls" => Security::MutualTls,
        _ => Security::Plaintext,
    }
}

fn label<'a>(sample: &'a Sample, name: &str) -> &'a str {
    sample.labels.get(name).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Reading, Security, Seen, Unit, edges};
    use crate::demo::cast::Workload;
    use crate::metrics::Samples;

    /// A ztunnel's metrics after so many connections of `client`, and of `batch` refused.
    fn ztunnel(opened: u32, refused: u32) -> Samples {
        let labels = |source: &str, flags: &str| {
            format!(
                "{{reporter=\"destination\",source_workload=\"{source}\",source_workload_namespace=\"shop\",destination_workload=\"web\",destination_workload_namespace=\"shop\",response_flags=\"{flags}\",connection_security_policy=\"mutual_tls\"}}"
            )
        };
        Samples::parse(&format!(
            "istio_tcp_connections_opened_total{} {opened}\nistio_tcp_connections_failed_total{} {refused}\nistio_tcp_connections_opened_total{} 99\nistio_tcp_connections_failed_total{} 99\n",
            labels("client", "-"),
            labels("batch", "DENY"),
            labels("waypoint", "-"),
            labels("client", "-").replace("destination\",s", "source\",s"),
        ))
    }

    fn waypoint(good: u32, refused: u32) -> Samples {
        let labels = |to: &str, flags: &str| {
            format!(
                "{{reporter=\"waypoint\",source_workload=\"client\",source_workload_namespace=\"shop\",destination_workload=\"{to}\",destination_workload_namespace=\"reviews\",response_flags=\"{flags}\",connection_security_policy=\"mutual_tls\"}}"
            )
        };
        Samples::parse(&format!(
            "istio_requests_total{} {good}\nistio_requests_total{} {refused}\n",
            labels("reviews-v1", "-"),
            labels("unknown", "UAEX")
        ))
    }

    fn reading(ztunnel: &Samples, waypoint: &Samples) -> Reading {
        let own = Workload::new("reviews", "waypoint");
        let mut reading = Reading::default();
        reading.add("ztunnel", ztunnel, None, |workload| workload.name == "waypoint");
        reading.add("waypoint", waypoint, Some(&own), |_| false);
        reading
    }

    fn told(before: &Reading, after: &Reading, seen: &[Seen]) -> Vec<String> {
        let edges = edges((before, after), 2.0, seen, &mut BTreeSet::new());
        let show = |edge: &super::Edge| {
            format!("{} → {}: {} {} {}", edge.way.from, edge.way.to, edge.good, edge.refused, edge.failed)
        };
        edges.iter().map(show).collect()
    }

    #[test]
    fn readings_become_rates() {
        let before = reading(&ztunnel(10, 1), &waypoint(100, 3));
        let after = reading(&ztunnel(30, 5), &waypoint(200, 5));
        let seen = Seen {
            from: Workload::new("shop", "client"),
            to: Workload::new("shop", "web"),
            failed: 0.5,
            latency: Some([1.0, 2.0]),
        };
        let expected = [
            "reviews/waypoint → reviews/reviews-v1: 50 0 0",
            "shop/batch → shop/web: 0 2 0",
            "shop/client → reviews/waypoint: 50 1 0",
            "shop/client → shop/web: 10 0 0.5",
        ];
        assert_eq!(told(&before, &after, std::slice::from_ref(&seen)), expected);
        let mut known = BTreeSet::new();
        let all = edges((&before, &after), 2.0, &[seen], &mut known);
        assert_eq!(all[3].latency, Some([1.0, 2.0]));
        assert_eq!((all[3].way.security, all[3].way.unit), (Security::MutualTls, Unit::Connections));
        assert_eq!((all[0].way.security, all[0].way.unit), (Security::MutualTls, Unit::Requests));
        let quiet = edges((&after, &after), 2.0, &[], &mut known);
        assert_eq!(quiet.len(), all.len(), "a way that was used stays");
        assert!(quiet.iter().all(|edge| edge.good + edge.refused == 0.0));
    }

    #[test]
    fn a_program_started_again_counts_from_nothing_and_a_silent_one_nothing() {
        let before = reading(&ztunnel(100, 10), &waypoint(100, 3));
        let mut after = reading(&ztunnel(4, 0), &waypoint(100, 3));
        assert!(told(&before, &after, &[]).contains(&"shop/client → shop/web: 2 0 0".to_owned()));
        after.0.remove("waypoint");
        assert!(told(&before, &after, &[]).iter().all(|line| !line.contains("waypoint")));
    }
}
