//! What policy refused and why, read from the lines that ztunnels and waypoints log about it. Pure.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::cast::{Cast, Workload};
use super::shop::field;

/// Most kinds of refusals that are remembered.
const KEPT: usize = 32;
/// What the policies are called that STRICT becomes.
const STRICT: &str = "istio_converted_";

/// Calls that were refused for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Who called; what is known of it.
    pub(crate) from: String,
    /// Whom.
    pub(crate) to: String,
    /// Method and path of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    /// Why.
    #[serde(flatten)]
    pub(crate) why: Why,
    /// How many so far.
    pub(crate) count: u64,
}

/// The policy that refused, as the program that obeyed it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Why {
    /// Where it was judged: l4, T or S.
    pub(crate) layer: String,
    /// Namespace and name.
    pub(crate) policy: String,
    /// The rule that matched, or that came nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<usize>,
    /// The first attribute that kept an ALLOW rule from matching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attribute: Option<String>,
}

/// Refusals by kind, the latest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(pub(crate) Vec<Refusal>);

impl Why {
    /// In a sentence.
    pub(crate) fn sentence(&self) -> String {
        if self.policy.contains(STRICT) {
            return "STRICT: plaintext is not let in".to_owned();
        }
        let rule = self.rule.unwrap_or_default();
        match &self.attribute {
            Some(attribute) => format!("not allowed by {}: rule {rule} wants other {attribute}", self.policy),
            None if self.rule.is_none() => format!("not allowed by {}", self.policy),
            None => format!("denied by {}, rule {rule}", self.policy),
        }
    }
}

impl Refusals {
    /// Takes in a line of a log; `waypoint` is whose it is if it is one's. Lines about other things are passed over.
    pub(crate) fn hear(&mut self, line: &str, waypoint: Option<&Workload>, cast: &Cast) {
        let heard = match waypoint {
            Some(waypoint) => of_waypoint(line, waypoint, cast),
            None => of_ztunnel(line, cast),
        };
        let Some(mut heard) = heard else { return };
        let same = |known: &Refusal| {
            known.from == heard.from
                && known.to == heard.to
                && known.request == heard.request
                && known.why == heard.why
        };
        if let Some(at) = self.0.iter().position(same) {
            heard.count += self.0.remove(at).count;
        }
        self.0.insert(0, heard);
        self.0.truncate(KEPT);
    }
}

fn of_ztunnel(line: &str, cast: &Cast) -> Option<Refusal> {
    // The client's ztunnel tells of the same connection; why it was refused is known at the server's.
    if !line.contains("\tconnection failed\t") || value(line, "direction")? != "inbound" {
        return None;
    }
    let end = |end: &str| {
        let namespace = value(line, &format!("{end}.namespace"))?;
        let pod = value(line, &format!("{end}.workload"))?;
        Some(cast.pod(namespace, pod).map_or_else(|| format!("{namespace}/{pod}"), Workload::to_string))
    };
    let from = end("src").or_else(|| by_address(line, "src.addr", cast))?;
    Some(Refusal { from, to: end("dst")?, request: None, why: why(line)?, count: 1 })
}

fn of_waypoint(line: &str, waypoint: &Workload, cast: &Cast) -> Option<Refusal> {
    if !line.contains("\trequest failed\t") {
        return None;
    }
    let from = by_address(line, "client", cast)?;
    let request = value(line, "method").zip(value(line, "path"));
    let request = request.map(|(method, path)| format!("{method} {path}"));
    Some(Refusal { from, to: waypoint.to_string(), request, why: why(line)?, count: 1 })
}

fn by_address(line: &str, name: &str, cast: &Cast) -> Option<String> {
    let address: SocketAddr = value(line, name)?.parse().ok()?;
    let known = cast.address(address.ip().to_canonical());
    Some(known.map_or_else(|| address.ip().to_string(), Workload::to_string))
}

fn why(line: &str) -> Option<Why> {
    if !matches!(value(line, "reason")?, "policy_denied" | "policy_unknown") {
        return None;
    }
    Some(Why {
        layer: value(line, "layer").unwrap_or_default().to_owned(),
        policy: value(line, "policy").unwrap_or("(none)").to_owned(),
        rule: value(line, "rule").and_then(|rule| rule.parse().ok()),
        attribute: value(line, "attribute").map(str::to_owned),
    })
}

/// A field's value, also one within the text of another field.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    Some(field(line, name).trim_end_matches('"')).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Refusals;
    use crate::demo::cast::{Cast, Workload};

    fn cast() -> Cast {
        let pod = |namespace: &str, name: &str, ip: &str, set: Option<&str>| {
            let owners = set.map(|set| json!([{"kind": "ReplicaSet", "name": set}]));
            json!({"metadata": {"namespace": namespace, "name": name, "ownerReferences": owners},
                   "spec": {"nodeName": "node-1"}, "status": {"podIPs": [{"ip": ip}]}})
        };
        let pods = [
            pod("shop", "web-l4s-kl8", "10.244.2.3", Some("web-l4s")),
            pod("shop", "batch", "10.244.1.7", None),
            pod("legacy", "visitor", "10.244.1.9", None),
        ];
        Cast::of(&pods, |_pod| true)
    }

    /// What each line says about a refusal, if anything.
    fn told(lines: &[&str], waypoint: Option<&Workload>) -> Vec<String> {
        let mut refusals = Refusals::default();
        lines.iter().for_each(|line| refusals.hear(line, waypoint, &cast()));
        let show = |refusal: &super::Refusal| {
            let request = refusal.request.as_deref().unwrap_or("-");
            format!(
                "{} {} → {} {request}: {}",
                refusal.count,
                refusal.from,
                refusal.to,
                refusal.why.sentence()
            )
        };
        refusals.0.iter().map(show).collect()
    }

    #[test]
    fn lines_of_ztunnels_name_callers_and_policies() {
        let denied = "T\terror\taccess\tconnection failed\tsrc.addr=10.244.1.7:51178 src.workload=batch src.namespace=shop dst.addr=10.244.2.3:15008 dst.workload=web-l4s-kl8 dst.namespace=shop direction=inbound error=\"layer=l4 reason=policy_denied policy=shop/web rule=0\" reason=policy_denied";
        let strict = "T\terror\taccess\tconnection failed\tsrc.addr=10.244.1.9:2 dst.workload=web-l4s-kl8 dst.namespace=shop direction=inbound error=\"layer=l4 reason=policy_denied policy=istio-system/istio_converted_static_strict rule=0\" reason=policy_denied";
        let other =
            denied.replace("rule=0\"", "rule=1 attribute=principals\"").replace("shop/web", "shop/cart");
        let lines = [
            denied,
            denied,
            &denied.replace("inbound", "outbound"),
            &denied.replace("policy_denied", "connect_failed"),
            &denied.replace("connection failed", "connection complete"),
            &other,
            strict,
        ];
        let expected = [
            "1 legacy/visitor → shop/web -: STRICT: plaintext is not let in",
            "1 shop/batch → shop/web -: not allowed by shop/cart: rule 1 wants other principals",
            "2 shop/batch → shop/web -: denied by shop/web, rule 0",
        ];
        assert_eq!(told(&lines, None), expected);
    }

    #[test]
    fn lines_of_waypoints_name_requests() {
        let line = "T\tinfo\twaypoint::report\trequest failed\tclient=10.244.1.7:605 method=POST authority=a path=/reviews/1 status=403 flags=UAEX layer=T reason=policy_denied policy=reviews/reviews rule=0 attribute=methods";
        let own = Workload::new("reviews", "waypoint");
        let expected = "1 shop/batch → reviews/waypoint POST /reviews/1: not allowed by reviews/reviews: rule 0 wants other methods";
        assert_eq!(told(&[line, &line.replace("policy_denied", "timed_out")], Some(&own)), [expected]);
    }
}
