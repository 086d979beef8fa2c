//! Definitions and source against a real API server: `AMBIT_KUBECONFIG=FILE cargo test -p ambit-crds --features kubernetes
//! --test cluster`. Without the variable there is no server, and nothing is tried.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ambit_crds::kubernetes::KubernetesSource;
use ambit_crds::kubernetes::kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use ambit_crds::kubernetes::kube::config::{KubeConfigOptions, Kubeconfig};
use ambit_crds::kubernetes::kube::core::{ApiResource, GroupVersionKind};
use ambit_crds::kubernetes::kube::{Api, Client, Config, Error};
use ambit_crds::origin::View;
use ambit_crds::schema::{DEFINITIONS, manifest};
use ambit_crds::{
    Condition, Event, Kind, ObjectRef, Source, SourceEvent, Started, StatusWriter, status::ConditionStatus,
    status::EventSeverity,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// One of its own for every run.
static NAMESPACE: LazyLock<String> = LazyLock::new(|| format!("ambit-trial-{}", std::process::id()));
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster to try things on.
struct Cluster(Client);

impl Cluster {
    async fn from_environment() -> Option<Self> {
        let file = std::env::var_os("AMBIT_KUBECONFIG")?;
        let config = Kubeconfig::read_from(file).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
        Some(Self(Client::try_from(config.expect("a cluster")).expect("a client")))
    }

    fn api(&self, (group, version, kind): (&str, &str, &str), namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            "" => Api::all_with(self.0.clone(), &resource),
            namespace => Api::namespaced_with(self.0.clone(), namespace, &resource),
        }
    }

    /// Applies a manifest as strictly as `kubectl apply --validate=strict`.
    async fn apply(&self, manifest: &Value) -> Result<DynamicObject, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&manifest["apiVersion"]), text(&manifest["kind"]));
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        let api = self.api((group, version, &kind), &text(&manifest["metadata"]["namespace"]));
        let parameters =
            PatchParams { field_validation: Some(strict()), ..PatchParams::apply("trial").force() };
        let applied =
            api.patch(&text(&manifest["metadata"]["name"]), &parameters, &Patch::Apply(manifest)).await;
        applied.map_err(|error| match error {
            Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        })
    }

    async fn empty(&self) {
        let api = self.api(("", "v1", "Namespace"), "");
        // It may not be there.
        let _ = api.delete(&NAMESPACE, &DeleteParams::default()).await;
    }
}

fn strict() -> ambit_crds::kubernetes::kube::api::ValidationDirective {
    ambit_crds::kubernetes::kube::api::ValidationDirective::Strict
}

fn object(api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut whole = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "namespace": *NAMESPACE } });
    whole.as_object_mut().expect("an object").extend(rest.as_object().cloned().unwrap_or_default());
    whole
}

/// Waits for an event about an object.
async fn seen(started: &mut Started, wanted: &ObjectRef) -> SourceEvent {
    let search = async {
        loop {
            let event = started.events.recv().await.expect("the source is at work");
            let is_it = match &event {
                SourceEvent::Applied(object) => object.reference() == *wanted,
                SourceEvent::Deleted(object) => object == wanted,
                _ => false,
            };
            if is_it {
                return event;
            }
        }
    };
    timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("{wanted} is not seen"))
}

async fn write(
    status: &Arc<dyn StatusWriter>,
    call: impl FnOnce(&dyn StatusWriter) -> std::io::Result<()> + Send + 'static,
) -> std::io::Result<()> {
    let status = status.clone();
    tokio::task::spawn_blocking(move || call(&*status)).await.expect("the writer does not panic")
}

#[tokio::test]
async fn a_real_server_takes_the_definitions_and_serves_the_source() {
    let Some(cluster) = Cluster::from_environment().await else { return };
    definitions(&cluster).await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": *NAMESPACE } });
    cluster.apply(&namespace).await.expect("a namespace");
    refusals(&cluster).await;
    let source = KubernetesSource {
        client: cluster.0.clone(),
        view: View::Mesh { classes: Vec::new() },
        writer: "ambit-trial".to_owned(),
        leading: None,
    };
    let mut started = Box::new(source).start().expect("the source starts");
    let listed = async { while started.events.recv().await.expect("at work") != SourceEvent::InitDone {} };
    timeout(PATIENCE, listed).await.expect("a listing");
    policy(&cluster, &mut started).await;
    owned(&cluster, &started).await;
    cluster.empty().await;
}

async fn definitions(cluster: &Cluster) {
    let definitions = cluster.api(("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), "");
    for definition in DEFINITIONS {
        let manifest = manifest(definition);
        let applied = cluster.apply(&manifest).await.expect("the definition is taken");
        let name = applied.metadata.name.expect("a name");
        let established = async {
            loop {
                let held = definitions.get(&name).await.expect("it is there");
                let conditions = held.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let says =
                    |kind: &str| conditions.iter().any(|one| one["type"] == kind && one["status"] == "True");
                assert!(!says("NonStructuralSchema"), "{name}: {conditions:?}");
                if says("Established") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, established).await.unwrap_or_else(|_| panic!("{name} is not served"));
    }
}

async fn refusals(cluster: &Cluster) {
    let table = [
        ("networking.istio.io/v1", "VirtualService", json!({ "http": [{ "retires": {} }] }), "retires"),
        (
            "networking.istio.io/v1beta1",
            "VirtualService",
            json!({ "http": [{ "timeout": "ten" }] }),
            "timeout",
        ),
        (
            "networking.istio.io/v1alpha3",
            "DestinationRule",
            json!({ "host": "a", "trafficPolicy": { "loadBalancer": { "simple": "LEAST_CON" } } }),
            "simple",
        ),
        ("security.istio.io/v1", "PeerAuthentication", json!({ "mtls": { "mode": true } }), "mode"),
    ];
    for (version, kind, spec, field) in table {
        let refused = cluster.apply(&object(version, kind, "wrong", json!({ "spec": spec }))).await;
        let message = refused.expect_err("it is refused");
        assert!(message.contains(field), "{kind}: {message}");
    }
}

/// Read, judged, annotated, talked about, gone.
async fn policy(cluster: &Cluster, started: &mut Started) {
    let name = ObjectRef::new(Kind::AuthorizationPolicy, &NAMESPACE, "rules");
    let spec = json!({ "spec": { "action": "DENY", "rules": [{}] } });
    cluster
        .apply(&object("security.istio.io/v1beta1", "AuthorizationPolicy", "rules", spec))
        .await
        .expect("a policy");
    seen(started, &name).await;
    let api = cluster.api(("security.istio.io", "v1", "AuthorizationPolicy"), &NAMESPACE);
    verdicts(&api, started, &name).await;
    let object = name.clone();
    write(&started.status, move |status| status.annotate(&object, "ambit.mesh/trial", Some("yes")))
        .await
        .expect("it");
    let annotated = seen(started, &name).await;
    assert!(
        matches!(&annotated, SourceEvent::Applied(one) if one.meta().annotation("ambit.mesh/trial").is_some())
    );
    let event = Event {
        object: name.clone(),
        reason: "Tried".to_owned(),
        message: "it works".to_owned(),
        severity: EventSeverity::Normal,
    };
    write(&started.status, move |status| status.event(&event)).await.expect("an event");
    api.delete("rules", &DeleteParams::default()).await.expect("a deletion");
    assert_eq!(seen(started, &name).await, SourceEvent::Deleted(name.clone()));
}

/// Judged once and not twice, beside what others say.
async fn verdicts(api: &Api<DynamicObject>, started: &Started, name: &ObjectRef) {
    let foreign = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "rules" },
        "status": { "conditions": [{ "type": "Foreign", "status": "True" }] },
    });
    api.patch_status("rules", &PatchParams::apply("other"), &Patch::Apply(foreign))
        .await
        .expect("another's status");
    let judge = async |reasons: &[&str]| {
        let condition = |reason: &&str| Condition {
            kind: "Enforced".to_owned(),
            status: ConditionStatus::True,
            reason: (*reason).to_owned(),
            message: "by ztunnels".to_owned(),
            observed_generation: 1,
        };
        let (object, conditions) = (name.clone(), reasons.iter().map(condition).collect::<Vec<_>>());
        write(&started.status, move |status| status.conditions(&object, &conditions))
            .await
            .expect("a verdict");
        let held = api.get("rules").await.expect("the policy");
        let conditions = held.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let reasons: BTreeMap<String, String> = conditions
            .iter()
            .map(|one| (one["type"].to_string(), one["reason"].as_str().unwrap_or_default().to_owned()))
            .collect();
        (held.metadata.resource_version.expect("a version"), reasons)
    };
    let expected = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(kind, reason)| (format!("{kind:?}"), (*reason).to_owned())).collect()
    };
    let (first, conditions) = judge(&["Carried"]).await;
    assert_eq!(conditions, expected(&[("Foreign", ""), ("Enforced", "Carried")]));
    assert_eq!(judge(&["Carried"]).await.0, first, "nothing to write");
    assert_eq!(judge(&["Other"]).await.1, expected(&[("Foreign", ""), ("Enforced", "Other")]));
    assert_eq!(judge(&[]).await.1, expected(&[("Foreign", "")]));
}

/// An account for a Gateway is ours only if we made it.
async fn owned(cluster: &Cluster, started: &Started) {
    let owner = |uid: &str| json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": true }]);
    let account = |name: &str, uid: &str, label: &str| {
        let mut account = object("v1", "ServiceAccount", name, json!({}));
        account["metadata"]["labels"] = json!({ "gateway.istio.io/managed": "trial", "own": label });
        account["metadata"]["ownerReferences"] = owner(uid);
        account
    };
    let api = cluster.api(("", "v1", "ServiceAccount"), &NAMESPACE);
    let own = async |name: &str, manifest: Option<Value>| {
        let object = ObjectRef::new(Kind::ServiceAccount, &NAMESPACE, name);
        let written = write(&started.status, move |status| status.own(&object, manifest.as_ref())).await;
        (written.map_err(|error| error.kind()), api.get_opt(name).await.expect("an answer"))
    };
    let config = object("v1", "ConfigMap", "owner", json!({}));
    let uid = cluster.apply(&config).await.expect("an owner").metadata.uid.expect("a UID");
    let (written, first) = own("ours", Some(account("ours", &uid, "a"))).await;
    assert_eq!(written, Ok(()));
    let (_, again) = own("ours", Some(account("ours", &uid, "a"))).await;
    let version =
        |one: &Option<DynamicObject>| one.as_ref().and_then(|one| one.metadata.resource_version.clone());
    assert!(version(&first).is_some() && version(&first) == version(&again), "nothing to write");
    let (_, changed) = own("ours", Some(account("ours", &uid, "b"))).await;
    assert_eq!(changed.and_then(|one| one.metadata.labels).expect("labels")["own"], "b");
    assert_eq!(own("ours", None).await, (Ok(()), None));
    let foreign: DynamicObject =
        serde_json::from_value(object("v1", "ServiceAccount", "theirs", json!({}))).expect("an account");
    api.create(&PostParams::default(), &foreign).await.expect("a foreign account");
    for manifest in [Some(account("theirs", &uid, "a")), None] {
        let (written, held) = own("theirs", manifest).await;
        assert_eq!(written, Err(std::io::ErrorKind::PermissionDenied));
        assert_eq!(held.expect("it stays").metadata.labels, None);
    }
}
