//! What the leader keeps up besides objects of Gateways: classes that are made once, and the root in the webhook's
//! configuration.

use std::io;
use std::time::Duration;

use ambit_process::spawn::spawn;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use super::writer::request_failed;
use super::{CONTROLLER_NAME, own};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(15);

/// What is kept up, for as long as the process leads.
pub struct Upkeep {
    /// The way to the API server.
    pub client: Client,
    /// Our name as a writer of fields.
    pub writer: String,
    /// Whether this process is the one that writes.
    pub leading: watch::Receiver<bool>,
    /// GatewayClasses that exist, whoever made them.
    pub classes: Vec<String>,
    /// The webhook's configuration, and the roots (PEM) that vouch for our certificate.
    pub webhook: Option<(String, String)>,
}

impl Upkeep {
    /// Looks after it until the process ends. Must be called within a runtime.
    pub fn keep(self) {
        spawn("upkeep", self.run());
    }

    async fn run(mut self) {
        while self.leading.wait_for(|leading| *leading).await.is_ok() {
            for class in &self.classes {
                note(make_class(&self.client, class).await);
            }
            if let Some((name, roots)) = &self.webhook {
                note(vouch(&self.client, &self.writer, name, roots).await);
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Nothing depends on it at once, and it is tried again.
fn note(done: io::Result<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, "could not be kept up; it is tried again");
    }
}

/// Makes a class that is not there. One that is there is its owner's.
async fn make_class(client: &Client, name: &str) -> io::Result<()> {
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "GatewayClass"));
    let classes: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let failed = |error| request_failed(&format!("GatewayClass {name}"), error);
    match classes.get_opt(name).await {
        Ok(None) => {}
        // Without the definitions there is nothing to make, and another question is asked anyway.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        found => return found.map(|_| ()).map_err(failed),
    }
    let mut class = DynamicObject::new(name, &resource);
    class.metadata.labels = Some(own::labels());
    class.data =
        json!({ "spec": { "controllerName": CONTROLLER_NAME, "description": "Gateways that Ambit serves" } });
    match classes.create(&PostParams::default(), &class).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        made => made.map(|_| ()).map_err(failed),
    }
}

/// Writes our roots into every webhook of a configuration that does not have them. Where there is no such configuration, nobody
/// wants to be asked.
async fn vouch(client: &Client, writer: &str, name: &str, roots: &str) -> io::Result<()> {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let failed = |error| request_failed(&format!("ValidatingWebhookConfiguration {name}"), error);
    let Some(held) = configurations.get_opt(name).await.map_err(failed)? else { return Ok(()) };
    let wanted = ByteString(roots.as_bytes().to_vec());
    let hooks = held.webhooks.unwrap_or_default();
    if hooks.iter().all(|hook| hook.client_config.ca_bundle.as_ref() == Some(&wanted)) {
        return Ok(());
    }
    let hooks: Vec<_> = hooks
        .iter()
        .map(|hook| json!({ "name": hook.name, "clientConfig": { "caBundle": wanted } }))
        .collect();
    // The UID makes the server refuse a successor of the same name.
    let body = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": name, "uid": held.metadata.uid }, "webhooks": hooks,
    });
    let parameters = PatchParams::apply(writer).force();
    configurations.patch(name, &parameters, &Patch::Apply(body)).await.map(|_| ()).map_err(failed)
}
