//! From nothing to an encrypted shop: one install, the manifests of the sample as they are, and what the wire shows then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ambit_lab::capture::Capture;
use ambit_lab::capture::packet::{Packet, Packets};
use ambit_lab::cluster::{Cluster, eventually};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::file;
use crate::mesh::{READY, SOON, Space, installed};
use crate::sources;
use crate::support::{Check, check};

/// The shop's namespaces.
const SHOP: [&str; 3] = ["shop", "shop-catalog", "shop-orders"];
/// Who asks for orders, beside the shop's own visitors.
const CALLER: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: caller, namespace: shop}, spec: {serviceAccountName: visitors, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: writer, namespace: shop}, spec: {serviceAccountName: frontend, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
"#;
/// Two pods on two nodes that are in no mesh, and what one of them says.
const PLAIN: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: server}, spec: {nodeName: node2, terminationGracePeriodSeconds: 1,
  containers: [{name: web, image: 'hashicorp/http-echo:1.0', args: [-text=said-in-the-open]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {nodeName: node1, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
"#;
const OPEN: &[u8] = b"said-in-the-open";
/// What an answer of the checkout says when each of its calls was answered well.
const ORDER: &str = "\"good\": 47";
/// Orders while the wire is listened to.
const ORDERS: usize = 5;
/// Ports of what may cross between nodes from and to a pod of the shop: tunnels, and a waypoint's own way to the controller.
const TUNNEL: u16 = 15008;
const CONTROLLER: u16 = 15012;
/// TCP and UDP by their numbers, and the port of names.
const TCP: u8 = 6;
const UDP: u8 = 17;
const NAMES: u16 = 53;

/// The shop while it is up.
struct Shop<'a>(&'a Cluster);

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        let words = [&["delete", "namespace", "--ignore-not-found", "--wait=false"][..], &SHOP].concat();
        let _gone = self.0.kubectl(&words);
    }
}

pub(crate) fn from_nothing(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let words = [&["delete", "namespace", "--ignore-not-found", "--timeout=120s"][..], &SHOP].concat();
    cluster.must(&words)?;
    let before = paid(cluster)?;
    let shop = Shop(cluster);
    cluster.must(&["apply", "-f", &file("deploy/samples/shop").display().to_string()])?;
    cluster.apply(CALLER)?;
    for namespace in SHOP {
        // Ready pods have answered their probes: in two of the namespaces nothing but mutual TLS is taken.
        cluster.ready(namespace, READY)?;
    }
    orders(&shop)?;
    identities(&shop, before)?;
    refusals(&shop)?;
    // Whoever never stops would change what is compared and listened to.
    cluster.must(&["scale", "deployment", "-n", "shop", "visitors", "crawler", "--replicas=0"])?;
    sources::agree(cluster)?;
    on_the_wire(&shop)?;
    probes(&shop)
}

impl Shop<'_> {
    fn curl(&self, pod: &str, words: &[&str]) -> Result<(u16, String), Failed> {
        let start = ["curl", "-s", "-m", "10", "-w", "\n%{http_code}"];
        let said = self.0.exec("shop", pod, &[&start, words].concat())?;
        let (body, status) = said.out.trim_end().rsplit_once('\n').unwrap_or(("", said.out.trim()));
        Ok((status.parse().map_err(|_none| format!("{words:?}: {}", said.all()))?, body.to_owned()))
    }

    /// Calls until the status is this one and the body holds this.
    fn comes_to(&self, pod: &str, words: &[&str], status: u16, text: &str) -> Check {
        Ok(eventually(&format!("{status} {text:?} for {words:?} from {pod}"), SOON, || {
            match self.curl(pod, words) {
                Ok((got, body)) if got == status && body.contains(text) => Ok(()),
                Ok((got, body)) => Err(format!("{got} {body}")),
                Err(failed) => Err(format!("{failed:?}")),
            }
        })?)
    }
}

fn orders(shop: &Shop<'_>) -> Check {
    shop.comes_to("caller", &["checkout.shop-orders"], 200, ORDER)
}

/// Connections in mutual TLS that only the checkout may make, by the certificates of both ends.
fn paid(cluster: &Cluster) -> Result<f64, ambit_lab::LabError> {
    let name = |account: &str| format!("spiffe://cluster.local/ns/shop-orders/sa/{account}");
    cluster.secured(&name("checkout"), &name("payment"))
}

/// It keeps them, so there is none for every order.
fn identities(shop: &Shop<'_>, before: f64) -> Check {
    Ok(eventually("a counted connection from the checkout to the payment", SOON, || {
        match paid(shop.0).map_err(|error| error.to_string())? {
            now if now > before => Ok(()),
            now => Err(format!("{before} before and {now} now")),
        }
    })?)
}

/// Each with its control: the same call by somebody who may, or a call that this one may make.
fn refusals(shop: &Shop<'_>) -> Check {
    shop.comes_to("writer", &["reviews.shop-catalog"], 200, "")?;
    shop.comes_to("writer", &["-X", "POST", "reviews.shop-catalog"], 403, "RBAC: access denied")?;
    shop.comes_to("caller", &["reviews.shop-catalog"], 403, "")?;
    // The payment's ztunnel closes what its policy does not allow; the order above has been paid.
    shop.comes_to("caller", &["payment.shop-orders"], 0, "")?;
    shop.comes_to("caller", &["cart.shop-orders"], 200, "")
}

/// Addresses of the shop's pods.
fn addresses(cluster: &Cluster) -> Result<BTreeSet<IpAddr>, Failed> {
    let mut addresses = BTreeSet::new();
    for namespace in SHOP {
        let listed = cluster.get(&["-n", namespace, "pods"])?;
        let pods = listed["items"].as_array().into_iter().flatten();
        addresses.extend(pods.filter_map(|pod| pod["status"]["podIP"].as_str()?.parse::<IpAddr>().ok()));
    }
    Ok(addresses)
}

fn on_the_wire(shop: &Shop<'_>) -> Check {
    let plain = Space::new(shop.0, "plain", "")?;
    plain.apply(PLAIN)?;
    plain.ready()?;
    let server = plain.get("pod", "server")?["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let ours = addresses(shop.0)?;
    let capture = Capture::start_at(&shop.0.network("node1")?, "eth0")?;
    let made = (0..ORDERS).try_for_each(|_| orders(shop));
    let control = plain.curl("client", &[&format!("http://{server}:5678/")]);
    let packets = capture.finish();
    made?;
    check(control?.0 == 200, || "pods outside the mesh do not reach each other".to_owned())?;
    judge(&packets, &ours)
}

/// Of the shop only tunnels cross between the nodes; of the pods outside the mesh every word does.
fn judge(packets: &Packets, ours: &BTreeSet<IpAddr>) -> Check {
    check(packets.dropped == 0, || format!("{} packets were lost", packets.dropped))?;
    let heard = |packet: &Packet| packet.payload.windows(OPEN.len()).any(|part| part == OPEN);
    check(packets.all.iter().any(heard), || "the capture does not see what is said in the open".to_owned())?;
    let of_shop = packets
        .all
        .iter()
        .filter(|packet| ours.contains(&packet.from.ip()) || ours.contains(&packet.to.ip()));
    let mut ports: BTreeMap<String, usize> = BTreeMap::new();
    let mut tunnelled = 0;
    for packet in of_shop {
        let allowed = match packet.protocol {
            TCP => packet.on_port(TUNNEL) || packet.on_port(CONTROLLER),
            UDP => packet.on_port(NAMES),
            _ => true,
        };
        tunnelled += usize::from(packet.on_port(TUNNEL) && !packet.payload.is_empty());
        let readable = packet.protocol == TCP && packet.payload.windows(5).any(|part| part == b"HTTP/");
        check(allowed && !readable, || format!("in the clear: {packet:?}"))?;
        *ports
            .entry(format!("{} {}", packet.protocol, packet.to.port().min(packet.from.port())))
            .or_default() += 1;
    }
    println!("between the nodes, by protocol and port: {ports:?}");
    check(tunnelled > ORDERS * 10, || format!("{tunnelled} packets with data went through tunnels"))
}

/// No probe has failed a pod all the while.
fn probes(shop: &Shop<'_>) -> Check {
    for namespace in SHOP {
        let listed = shop.0.get(&["-n", namespace, "pods"])?;
        let pods = listed["items"].as_array().into_iter().flatten();
        let restarted = pods.filter(|pod| {
            let containers = pod["status"]["containerStatuses"].as_array();
            let restarts = |container: &Value| container["restartCount"].as_u64().unwrap_or(0);
            containers.into_iter().flatten().map(restarts).sum::<u64>() > 0
        });
        let names: Vec<_> = restarted.map(|pod| pod["metadata"]["name"].to_string()).collect();
        check(names.is_empty(), || format!("restarted: {names:?}"))?;
    }
    Ok(())
}
