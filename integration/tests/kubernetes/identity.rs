//! Who gets which certificate and whose configuration: a node's ztunnel for the pods of that node, a waypoint for itself,
//! and nobody else anything; and what each of the mesh's accounts may do with the cluster.

use std::path::PathBuf;
use std::time::Duration;

use ambit_api::identity::Identity;
use ambit_api::wire::discovery::DeltaDiscoveryRequest;
use ambit_discovery::channel::{self, Credential, RootSource, Target, TokenSource};
use ambit_discovery::credentials::{CaClient, Issuer};
use ambit_discovery::rpc::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_discovery::xds::{Node, Role};
use ambit_lab::cluster::{Cluster, Forward, SYSTEM, eventually};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::file;
use crate::mesh::{AMBIENT, SOON, Space, condition, installed};
use crate::rollout::{WAYPOINT, programmed};
use crate::support::{Check, check};

/// The controller's port for proxies, and the name in its certificate.
const PORT: u16 = 15012;
const NAME: &str = "ambit-controller.ambit-system.svc";
/// Whom tokens are for.
const AUDIENCE: &str = "istio-ca";
/// Workloads and Services, and policies.
const ADDRESSES: &str = "type.googleapis.com/istio.workload.Address";
const AUTHORIZATIONS: &str = "type.googleapis.com/istio.security.Authorization";
/// Longest time an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The mesh's accounts, whose rights are listed in files of their names.
const ACCOUNTS: [&str; 3] = ["ambit-controller", "ambit-node", "ztunnel"];
const RIGHTS: &str = "integration/tests/kubernetes/rights";

/// One pod for each node.
const PODS: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: alice}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: bob}}
---
{apiVersion: v1, kind: Pod, metadata: {name: alice}, spec: {serviceAccountName: alice, nodeName: node1, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: bob}, spec: {serviceAccountName: bob, nodeName: node2, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
";

/// The controller as a proxy sees it.
struct Controller {
    way: Forward,
    folder: PathBuf,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

impl Controller {
    fn open(cluster: &Cluster) -> Result<Self, Failed> {
        let folder = std::env::temp_dir().join(format!("ambit-identity-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let root = cluster.get(&["-n", SYSTEM, "configmap", "istio-ca-root-cert"])?;
        let root = root["data"]["root-cert.pem"].as_str().ok_or("no root certificate")?.to_owned();
        std::fs::write(folder.join("root-cert.pem"), root)?;
        Ok(Self { way: cluster.forward(SYSTEM, "deploy/ambit-controller", PORT)?, folder })
    }

    fn target(&self, token: &str) -> Target {
        Target {
            address: format!("https://{}", self.way.address()),
            roots: RootSource::File(self.folder.join("root-cert.pem")),
            hostname: Some(NAME.to_owned()),
            token: TokenSource::Literal(token.to_owned()),
            cluster: "Kubernetes".to_owned(),
            headers: Vec::new(),
        }
    }

    /// Asks for a certificate for this identity.
    fn certificate(&self, token: &str, identity: &str) -> Result<(), String> {
        let identity: Identity = identity.parse().map_err(|error| format!("{error}"))?;
        let client = CaClient::new(self.target(token), Duration::from_secs(3600))
            .map_err(|error| error.to_string())?;
        wait(async move { client.issue(&identity).await.map(drop).map_err(|error| channel::in_full(&error)) })
    }

    /// The number of resources that the ztunnel of a node is told of first.
    fn configuration(&self, token: &str, (pod, node): (&str, &str)) -> Result<usize, String> {
        let target = self.target(token);
        let node = Node {
            role: Role::Ztunnel,
            instance_ip: None,
            pod_name: pod.to_owned(),
            pod_namespace: SYSTEM.to_owned(),
            node_name: node.to_owned(),
            version: "1".to_owned(),
            metadata: Default::default(),
        };
        wait(async move {
            let channel = channel::connect(&target).await.map_err(|error| channel::in_full(&error))?;
            let credential = Credential::new(&target).map_err(|error| channel::in_full(&error))?;
            let mut client = AggregatedDiscoveryServiceClient::with_interceptor(channel, credential);
            // As a proxy does: both kinds, and what comes first is acknowledged.
            let (requests, mut outgoing) = tokio::sync::mpsc::unbounded_channel();
            let about = |kind: &str| DeltaDiscoveryRequest {
                type_url: kind.to_owned(),
                ..DeltaDiscoveryRequest::default()
            };
            let subscribe = |kind| DeltaDiscoveryRequest {
                resource_names_subscribe: vec!["*".to_owned()],
                ..about(kind)
            };
            let first = DeltaDiscoveryRequest { node: Some(node.to_wire()), ..subscribe(AUTHORIZATIONS) };
            for request in [first, subscribe(ADDRESSES)] {
                requests.send(request).map_err(|_| "no stream")?;
            }
            let outgoing = futures_util::stream::poll_fn(move |context| outgoing.poll_recv(context));
            let answers = client.delta_aggregated_resources(outgoing).await;
            let mut answers = answers.map_err(|status| status.message().to_owned())?.into_inner();
            loop {
                let answer = answers.message().await.map_err(|status| status.message().to_owned())?;
                let answer = answer.ok_or("the controller closed the stream")?;
                if answer.type_url == ADDRESSES {
                    return Ok(answer.resources.len());
                }
                let response_nonce = answer.nonce;
                let acknowledged = DeltaDiscoveryRequest { response_nonce, ..about(&answer.type_url) };
                requests.send(acknowledged).map_err(|_| "no stream")?;
            }
        })
    }
}

/// Runs a conversation that must not last.
fn wait<T>(ask: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask).await });
    answer.map_err(|_| "no answer".to_owned())?
}

/// A token of an account, bound to a pod if one is named.
fn token(
    cluster: &Cluster,
    namespace: &str,
    account: &str,
    pod: Option<&str>,
    audience: &str,
) -> Result<String, Failed> {
    let audience = format!("--audience={audience}");
    let mut words = vec!["create", "token", account, "-n", namespace, &audience, "--duration=10m"];
    let bound = pod.map(|pod| format!("--bound-object-name={pod}"));
    if let Some(bound) = &bound {
        words.extend(["--bound-object-kind=Pod", bound]);
    }
    Ok(cluster.must(&words)?.trim().to_owned())
}

/// The names of the ztunnel pods of both nodes.
fn ztunnels(cluster: &Cluster) -> Result<[String; 2], Failed> {
    let listed = cluster.get(&["-n", SYSTEM, "pods", "-l", "app=ztunnel"])?;
    let of = |node: &str| -> Result<String, Failed> {
        let mut pods = listed["items"].as_array().into_iter().flatten();
        let pod = pods
            .find(|pod| pod["spec"]["nodeName"] == node)
            .ok_or_else(|| format!("no ztunnel on {node}"))?;
        Ok(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    };
    Ok([of("node1")?, of("node2")?])
}

fn refused<T>(what: &str, outcome: Result<T, String>) -> Check {
    match outcome {
        Ok(_) => Err(format!("not refused: {what}").into()),
        Err(why) => {
            println!("{what}: {why}");
            // No answer at all would be a refusal of anything.
            check(!why.contains("no answer") && !why.contains("connect"), || format!("{what}: {why}"))
        }
    }
}

pub(crate) fn certificates(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "identity", &format!("{AMBIENT}, istio.io/use-waypoint: waypoint"))?;
    space.apply(PODS)?;
    space.apply(WAYPOINT)?;
    space.ready()?;
    programmed(&space)?;
    let name = |account: &str| format!("spiffe://cluster.local/ns/identity/sa/{account}");
    let [here, there] = ztunnels(cluster)?;
    let controller = Controller::open(cluster)?;
    let node = token(cluster, SYSTEM, "ztunnel", Some(&here), AUDIENCE)?;
    let alice = token(cluster, "identity", "alice", Some("alice"), AUDIENCE)?;
    controller.certificate(&node, &name("alice")).map_err(|why| format!("for a pod of its node: {why}"))?;
    refused("for a pod of another node", controller.certificate(&node, &name("bob")))?;
    refused("for nobody", controller.certificate(&node, &name("carol")))?;
    refused("for a waypoint", controller.certificate(&node, &name("waypoint")))?;
    refused("by a pod for another", controller.certificate(&alice, &name("bob")))?;
    refused("by a pod for a waypoint", controller.certificate(&alice, &name("waypoint")))?;
    let unbound = token(cluster, SYSTEM, "ztunnel", None, AUDIENCE)?;
    refused("by a token of no pod", controller.certificate(&unbound, &name("alice")))?;
    let other = token(cluster, SYSTEM, "ztunnel", Some(&here), "somebody-else")?;
    refused("by a token for somebody else", controller.certificate(&other, &name("alice")))?;
    let own = controller.configuration(&node, (&here, "node1"));
    let count = own.map_err(|why| format!("its own configuration: {why}"))?;
    check(count > 0, || "a ztunnel is told of nothing".to_owned())?;
    refused("another node's configuration", controller.configuration(&node, (&there, "node2")))?;
    refused("a ztunnel's configuration by a pod", controller.configuration(&alice, (&here, "node1")))?;
    secrets(&space, &alice)
}

/// A pod's own token opens nothing of the mesh's in the cluster either; the control is the administrator.
fn secrets(space: &Space<'_>, token: &str) -> Check {
    let ask = ["get", "secret", "-n", SYSTEM, "ambit-ca-secret", "-o", "name"];
    space.cluster.must(&ask)?;
    let as_pod = ["--as=system:serviceaccount:identity:alice"];
    let said = space.cluster.kubectl(&[&ask[..], &as_pod].concat())?;
    check(!said.well() && said.err.contains("forbidden"), || said.all())?;
    // It is for the mesh's controller and not for the API server.
    let said = space.exec(
        "alice",
        &[
            "curl",
            "-sk",
            "-m",
            "5",
            "-H",
            &format!("Authorization: Bearer {token}"),
            "https://kubernetes.default/api/v1/namespaces",
        ],
    )?;
    check(said.out.contains("Unauthorized"), || said.all())
}

/// What each account may do, as `kubectl auth can-i --list` prints it, is what its file says. With AMBIT_REGENERATE the files
/// are written.
pub(crate) fn rights(cluster: &Cluster) -> Check {
    installed(cluster)?;
    for account in ACCOUNTS {
        let mut text = String::new();
        for namespace in [SYSTEM, "default"] {
            let who = format!("--as=system:serviceaccount:{SYSTEM}:{account}");
            let group = ["--as-group=system:serviceaccounts", "--as-group=system:authenticated"];
            let said =
                cluster.must(&[&["auth", "can-i", "--list", "-n", namespace, &who][..], &group].concat())?;
            let mut lines: Vec<_> =
                said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            lines.sort();
            text.push_str(&format!("# in namespace {namespace}\n{}\n", lines.join("\n")));
        }
        let path = file(RIGHTS).join(format!("{account}.txt"));
        if std::env::var_os("AMBIT_REGENERATE").is_some() {
            std::fs::create_dir_all(file(RIGHTS))?;
            std::fs::write(&path, &text)?;
        }
        let expected = std::fs::read_to_string(&path)?;
        let more: Vec<_> =
            text.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
        let less: Vec<_> = expected.lines().filter(|line| !text.lines().any(|have| have == *line)).collect();
        check(text == expected, || format!("{account}: more {more:#?}, less {less:#?}"))?;
    }
    Ok(())
}

const GATEWAY: &str = "gateways.gateway.networking.k8s.io";
/// The images of every container.
const IMAGES: &str = "jsonpath={.items[*].spec.containers[*].image}";

/// A pod with the waypoint's account and everything else that could make it one.
fn forged(account: &str, owner: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: forged-{account}, labels: {{gateway.networking.k8s.io/gateway-name: waypoint, gateway.istio.io/managed: ambit.mesh-waypoint-controller}}{owner}}}, \
         spec: {{serviceAccountName: {account}, terminationGracePeriodSeconds: 1, containers: [{{name: waypoint, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}}]}}}}"
    )
}

/// A waypoint's identity is not to be had by what is no pod of its Gateway's.
pub(crate) fn forgeries(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "forgery", &format!("{AMBIENT}, istio.io/use-waypoint: waypoint"))?;
    space.apply(WAYPOINT)?;
    programmed(&space)?;
    let set = space.cluster.get(&[
        "-n",
        "forgery",
        "replicasets",
        "-l",
        "gateway.networking.k8s.io/gateway-name=waypoint",
    ])?;
    let about = &set["items"][0]["metadata"];
    let owner = format!(
        ", ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: {}, uid: {}, controller: true}}]",
        about["name"], about["uid"]
    );
    space.must(&["create", "serviceaccount", "innocent"])?;
    space.apply(&forged("innocent", ""))?;
    for (what, yaml) in [("labels", forged("waypoint", "")), ("an owner", forged("waypoint", &owner))] {
        let said = cluster.fed(&["apply", "-n", space.name, "-f", "-"], &yaml)?;
        check(!said.well(), || format!("a pod with a waypoint's account and {what}: {}", said.all()))?;
        println!("{what}: {}", said.err.trim());
    }
    by_others(&space)?;
    namesake(&space)?;
    overlaid(&space)
}

/// Nor by way of a token, or of a Deployment: the controls are the same with another account.
fn by_others(space: &Space<'_>) -> Check {
    let deployment = |account: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: of-{account}}}, spec: {{replicas: 0, selector: {{matchLabels: {{app: x}}}}, \
             template: {{metadata: {{labels: {{app: x}}}}, spec: {{serviceAccountName: {account}, containers: [{{name: x, image: 'curlimages/curl:8.17.0'}}]}}}}}}}}"
        )
    };
    for (account, may) in [("innocent", true), ("waypoint", false)] {
        let token = space.cluster.kubectl(&["create", "token", account, "-n", space.name])?;
        check(token.well() == may, || format!("a token of {account}: {}", token.err))?;
        let made = space.cluster.fed(&["apply", "-n", space.name, "-f", "-"], &deployment(account))?;
        check(made.well() == may, || format!("a Deployment with {account}: {}", made.all()))?;
    }
    Ok(())
}

/// A Gateway that is called as somebody's account is called gets neither that account nor pods.
fn namesake(space: &Space<'_>) -> Check {
    let before = space.get("serviceaccount", "innocent")?;
    space.apply(&WAYPOINT.replace("name: waypoint,", "name: innocent,"))?;
    not_accepted(space, "innocent")?;
    let after = space.get("serviceaccount", "innocent")?;
    check(before["metadata"]["ownerReferences"] == after["metadata"]["ownerReferences"], || {
        format!("taken over: {after}")
    })?;
    no_deployment(space, "innocent")
}

/// One whose overlay asks for another program gets none, or the mesh's own all the same.
fn overlaid(space: &Space<'_>) -> Check {
    space.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: overlay}, data: {deployment: '{spec: {template: {spec: {containers: [{name: waypoint, image: curlimages/curl:8.17.0}]}}}}'}}",
    )?;
    let overlaid = WAYPOINT.replace("name: waypoint,", "name: overlaid,").replace(
        "spec:",
        "spec:\n  infrastructure: {parametersRef: {group: '', kind: ConfigMap, name: overlay}}",
    );
    space.apply(&overlaid)?;
    let images = eventually("what becomes of the Gateway overlaid", SOON, || {
        let found = space.get(GATEWAY, "overlaid").map_err(|failed| format!("{failed:?}"))?;
        let status = |kind: &str| condition(&found, kind).map(|(status, ..)| status).unwrap_or_default();
        if status("Accepted") != "False" && status("Programmed") != "True" {
            return Err(found["status"].to_string());
        }
        let words = ["get", "pods", "-l", "gateway.networking.k8s.io/gateway-name=overlaid", "-o", IMAGES];
        space.must(&words).map_err(|failed| format!("{failed:?}"))
    })?;
    println!("overlaid: {images:?}");
    check(images.split_whitespace().all(|image| image.contains("ambit/waypoint")), || images.clone())
}

fn not_accepted(space: &Space<'_>, gateway: &str) -> Check {
    let said = eventually(&format!("a refusal of the Gateway {gateway}"), SOON, || {
        let found: Value = space
            .get("gateways.gateway.networking.k8s.io", gateway)
            .map_err(|failed| format!("{failed:?}"))?;
        match condition(&found, "Accepted") {
            Some((status, reason, message)) if status == "False" => Ok(format!("{reason}: {message}")),
            other => Err(format!("{other:?}")),
        }
    })?;
    println!("{gateway}: {said}");
    Ok(())
}

fn no_deployment(space: &Space<'_>, name: &str) -> Check {
    let found = space.must(&["get", "deployment", name, "--ignore-not-found", "-o", "name"])?;
    check(found.trim().is_empty(), || format!("it is deployed: {found}"))
}
