//! What is kept up besides objects that are read: Secrets that are made once, roots, classes and the webhook's configuration.

use std::collections::BTreeSet;

use super::super::roots::{NAME, Roots};
use super::super::secrets::{self, Data, Made};
use super::super::upkeep::Upkeep;
use super::*;

const SECRETS: Resource = ("", "v1", "Secret", "secrets");
const CLASSES: Resource = ("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses");
const HOOKS: Resource = (
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
);

fn data(text: &str) -> Data {
    Data::from([("ca-key.pem".to_owned(), text.as_bytes().to_vec())])
}

fn roots_of(namespace: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": NAME, "namespace": namespace },
        "data": { "root-cert.pem": text },
    })
}

#[tokio::test(start_paused = true)]
async fn of_two_who_make_a_secret_one_makes_it() {
    let fake = Fake::new(&[SECRETS]);
    let client = fake.client();
    assert_eq!(secrets::read(&client, "mesh", "ca").await.unwrap(), None);
    let both = [data("first"), data("second")].map(|data| secrets::make(&client, "mesh", "ca", data));
    let [first, second] = both;
    let made = [first.await.unwrap(), second.await.unwrap()];
    assert_eq!(made, [Made::Ours, Made::Another]);
    assert_eq!(secrets::read(&client, "mesh", "ca").await.unwrap(), Some(data("first")));
    // A server that is away is no missing Secret: nobody makes another root then.
    fake.stop();
    assert!(secrets::read(&client, "mesh", "ca").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn roots_are_made_mended_and_removed_by_the_leader_and_others_are_left_alone() {
    let fake = Fake::new(&[CONFIG_MAPS]);
    fake.put("configmaps", roots_of("theirs", "their roots"));
    let (lead, leading) = watch::channel(false);
    let (want, namespaces) = watch::channel(None);
    let wanted = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>());
    let (writer, pem) = ("ambit-test".to_owned(), "our roots".to_owned());
    Roots { client: fake.client(), writer, leading, namespaces, pem }.keep();
    let text = |namespace: &str| {
        fake.get("configmaps", namespace, NAME).map(|one| one["data"]["root-cert.pem"].clone())
    };
    let settle = async || tokio::time::sleep(LONG).await;
    want.send_replace(wanted(&["mesh", "shop", "theirs"]));
    settle().await;
    assert_eq!(text("mesh"), None, "whoever does not lead writes nothing");
    lead.send_replace(true);
    settle().await;
    let ours = Some(json!("our roots"));
    assert_eq!(
        [text("mesh"), text("shop"), text("theirs")],
        [ours.clone(), ours.clone(), Some(json!("their roots"))]
    );
    let mut edited = fake.get("configmaps", "shop", NAME).unwrap();
    edited["data"]["root-cert.pem"] = "forged".into();
    fake.put("configmaps", edited);
    fake.delete("configmaps", "mesh", NAME);
    settle().await;
    assert_eq!([text("mesh"), text("shop")], [ours.clone(), ours]);
    let version = || fake.get("configmaps", "mesh", NAME).unwrap()["metadata"]["resourceVersion"].clone();
    let before = version();
    want.send_replace(wanted(&["mesh"]));
    settle().await;
    assert_eq!((text("shop"), text("theirs")), (None, Some(json!("their roots"))));
    assert_eq!(version(), before, "nothing is written without a difference");
}

#[tokio::test(start_paused = true)]
async fn classes_are_made_once_and_the_webhook_knows_our_roots() {
    let fake = Fake::new(&[CLASSES, HOOKS]);
    let class = |name: &str, controller: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": { "name": name },
            "spec": { "controllerName": controller },
        })
    };
    fake.put("gatewayclasses", class("istio-waypoint", "istio.io/mesh-controller"));
    fake.put(
        "validatingwebhookconfigurations",
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": "hook" },
            "webhooks": [{ "name": "a", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"] }],
        }),
    );
    let (lead, leading) = watch::channel(false);
    let upkeep = Upkeep {
        client: fake.client(),
        writer: "ambit-test".to_owned(),
        leading,
        classes: vec!["ambit-waypoint".to_owned(), "istio-waypoint".to_owned()],
        webhook: Some(("hook".to_owned(), "roots".to_owned())),
    };
    upkeep.keep();
    let controller =
        |name: &str| fake.get("gatewayclasses", "", name).map(|one| one["spec"]["controllerName"].clone());
    tokio::time::sleep(LONG).await;
    assert_eq!(controller("ambit-waypoint"), None, "whoever does not lead writes nothing");
    lead.send_replace(true);
    tokio::time::sleep(LONG).await;
    assert_eq!(controller("ambit-waypoint"), Some(json!(CONTROLLER_NAME)));
    assert_eq!(controller("istio-waypoint"), Some(json!("istio.io/mesh-controller")), "it was there");
    let hook = fake.get("validatingwebhookconfigurations", "", "hook").unwrap();
    assert_eq!(hook["webhooks"][0]["clientConfig"]["caBundle"], "cm9vdHM=");
    drop(fake.requests(""));
    tokio::time::sleep(LONG).await;
    let writes = fake.requests("P").into_iter().filter(|one| !one.starts_with("GET")).collect::<Vec<_>>();
    assert_eq!(writes, Vec::<String>::new(), "nothing is written without a difference");
}
