//! Asking the controller as a proxy does, with any token: for configuration and for certificates.

use std::path::PathBuf;
use std::time::Duration;

use ambit_api::identity::Identity;
use ambit_api::wire::discovery::DeltaDiscoveryRequest;
use ambit_discovery::channel::{self, Credential, RootSource, Target, TokenSource};
use ambit_discovery::credentials::{CaClient, Issuer};
use ambit_discovery::rpc::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_discovery::xds::{Node, Role};
use ambit_lab::tokens::Claims;
use ambit_lab::{Lab, NodeNumber};
use libtest_mimic::Failed;

use crate::hbone::Papers;

/// Workloads and Services.
pub(crate) const ADDRESSES: &str = "type.googleapis.com/istio.workload.Address";
/// Policies.
pub(crate) const AUTHORIZATIONS: &str = "type.googleapis.com/istio.security.Authorization";
/// Longest time an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The controller of a lab.
pub(crate) struct Controller<'a> {
    lab: &'a Lab,
    root: PathBuf,
}

/// What the token of a node's ztunnel says.
pub(crate) fn claims(lab: &Lab, node: NodeNumber) -> Result<Claims, Failed> {
    let name = format!("ztunnel-{}", node.name());
    let pod = lab.pod_objects().into_iter().find(|pod| pod["metadata"]["name"] == name.as_str());
    Ok(Claims::of_pod(&pod.ok_or_else(|| format!("no pod {name}"))?))
}

impl<'a> Controller<'a> {
    pub(crate) fn of(lab: &'a Lab) -> Self {
        Controller { lab, root: lab.folder().join("ca/root-cert.pem") }
    }

    fn target(&self, token: Option<String>) -> Target {
        Target {
            address: format!("https://{}:15012", ambit_lab::address::CONTROL.v4),
            roots: RootSource::File(self.root.clone()),
            hostname: None,
            token: token.map_or(TokenSource::None, TokenSource::Literal),
            cluster: "Kubernetes".to_owned(),
            headers: Vec::new(),
        }
    }

    /// The first answer with resources of a kind, as the ztunnel of `node` would get it: names and messages.
    pub(crate) fn configuration(
        &self,
        node: NodeNumber,
        token: Option<String>,
        kind: &'static str,
    ) -> Result<Vec<(String, Vec<u8>)>, String> {
        let (target, name) = (self.target(token), node.name());
        let ask = async move {
            let failed = |error: &dyn std::error::Error| channel::in_full(error);
            let channel = channel::connect(&target).await.map_err(|error| failed(&error))?;
            let credential = Credential::new(&target).map_err(|error| failed(&error))?;
            let mut client = AggregatedDiscoveryServiceClient::with_interceptor(channel, credential);
            let node = Node {
                role: Role::Ztunnel,
                instance_ip: None,
                pod_name: format!("ztunnel-{name}"),
                pod_namespace: "ambit-system".to_owned(),
                node_name: name,
                version: "1".to_owned(),
                metadata: Default::default(),
            };
            // As a proxy does: both kinds, and what comes first is acknowledged.
            let (requests, mut outgoing) = tokio::sync::mpsc::unbounded_channel();
            let about =
                |kind: &str| DeltaDiscoveryRequest { type_url: kind.to_owned(), ..Default::default() };
            let subscribe = |kind| {
                let names = vec!["*".to_owned()];
                DeltaDiscoveryRequest { resource_names_subscribe: names, ..about(kind) }
            };
            let first = DeltaDiscoveryRequest { node: Some(node.to_wire()), ..subscribe(AUTHORIZATIONS) };
            for request in [first, subscribe(ADDRESSES)] {
                requests.send(request).map_err(|_| "no stream")?;
            }
            let outgoing = futures_util::stream::poll_fn(move |context| outgoing.poll_recv(context));
            let answers = client.delta_aggregated_resources(outgoing).await;
            let mut answers = answers.map_err(|status| status.message().to_owned())?.into_inner();
            let resources = loop {
                let answer = answers.message().await.map_err(|status| status.message().to_owned())?;
                let answer = answer.ok_or("the controller closed the stream")?;
                if answer.type_url == kind {
                    break answer.resources;
                }
                let response_nonce = answer.nonce;
                requests
                    .send(DeltaDiscoveryRequest { response_nonce, ..about(&answer.type_url) })
                    .map_err(|_| "no stream")?;
            };
            let pair = |one: ambit_api::wire::discovery::Resource| {
                (one.name, one.resource.map(|any| any.value).unwrap_or_default())
            };
            Ok(resources.into_iter().map(pair).collect())
        };
        self.ask(node, ask)
    }

    /// A certificate for `identity`, asked for from `node`.
    pub(crate) fn certificate(
        &self,
        node: NodeNumber,
        token: Option<String>,
        identity: &str,
    ) -> Result<Papers, String> {
        let target = self.target(token);
        let identity: Identity = identity.parse().map_err(|error| format!("{error}"))?;
        self.ask(node, async move {
            let client =
                CaClient::new(target, Duration::from_secs(3600)).map_err(|error| error.to_string())?;
            let (certificate, _roots) = client.issue(&identity).await.map_err(|error| error.to_string())?;
            Ok(Papers { chain: certificate.chain.to_vec(), key: Some(certificate.key.der()) })
        })
    }

    /// Runs a conversation in a node's network.
    fn ask<T: Send + 'static>(
        &self,
        node: NodeNumber,
        ask: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        let space = self.lab.node(node).map_err(|error| error.to_string())?;
        space.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask).await });
            answer.map_err(|_| "no answer".to_owned())?
        })
    }
}
