//! The source against an API server in memory, request by request.

mod fake;
mod keep;
mod write;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::fault::Effect;
use crate::meta::ObjectRef;
use crate::object::Object;
use fake::{Fake, Resource};

const NAMESPACES: Resource = ("", "v1", "Namespace", "namespaces");
const PODS: Resource = ("", "v1", "Pod", "pods");
const SERVICES: Resource = ("", "v1", "Service", "services");
const CONFIG_MAPS: Resource = ("", "v1", "ConfigMap", "configmaps");
const POLICIES: Resource = ("security.istio.io", "v1beta1", "AuthorizationPolicy", "authorizationpolicies");
const DEPLOYMENTS: Resource = ("apps", "v1", "Deployment", "deployments");
const ROUTES: Resource = ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
const GATEWAYS: Resource = ("gateway.networking.k8s.io", "v1", "Gateway", "gateways");

/// Longer than any wait of the source; the clock is not a real one.
const LONG: Duration = Duration::from_secs(600);

fn source(fake: &Fake, view: View) -> KubernetesSource {
    KubernetesSource { client: fake.client(), view, writer: "ambit-test".to_owned(), leading: None }
}

fn mesh() -> View {
    View::Mesh { classes: vec!["ambit-waypoint".to_owned()] }
}

/// A source at work, and what it says in few words.
struct Reader(Started);

impl Reader {
    fn start(fake: &Fake) -> Self {
        Self(Box::new(source(fake, mesh())).start().unwrap())
    }

    async fn event(&mut self) -> SourceEvent {
        timeout(LONG, self.0.events.recv()).await.expect("an event").expect("the source is at work")
    }

    async fn next(&mut self) -> String {
        match self.event().await {
            SourceEvent::Init => "init".to_owned(),
            SourceEvent::InitDone => "done".to_owned(),
            SourceEvent::Applied(object) => format!("applied {}", object.reference()),
            SourceEvent::Invalid(invalid) => format!("invalid {}", invalid.object),
            SourceEvent::Deleted(object) => format!("deleted {object}"),
            SourceEvent::Rescanned(ticket) => format!("looked {ticket}"),
            SourceEvent::Reported(fault) => {
                let field = fault.field.unwrap_or_default();
                format!(
                    "reported {} {field}",
                    match fault.effect {
                        Effect::None => "a note",
                        Effect::LastGoodStays => "the last good version stays",
                        Effect::Closes => "closed",
                        Effect::Skipped => "skipped",
                    }
                )
            }
        }
    }

    /// Everything up to the end of the listing.
    async fn listing(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while all.last().is_none_or(|last| last != "done") {
            all.push(self.next().await);
        }
        all
    }

    /// Everything that a look brings to light.
    async fn look(&mut self) -> Vec<String> {
        let ticket = format!("looked {}", self.0.rescan.rescan());
        let mut all = Vec::new();
        loop {
            match self.next().await {
                last if last == ticket => return all,
                other => all.push(other),
            }
        }
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "shop", "creationTimestamp": "2026-11-21T10:00:00Z" },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "app", "image": "app" }] },
        "status": { "podIP": ip, "phase": "Running" },
    })
}

fn policy(rules: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "rules", "namespace": "shop", "generation": 1 },
        "spec": { "action": "DENY", "rules": rules },
    })
}

fn good_rules() -> Value {
    json!([{ "from": [{ "source": { "namespaces": ["other"] } }] }])
}

#[tokio::test(start_paused = true)]
async fn one_listing_in_pages_and_kinds_that_are_not_there_hold_up_nobody() {
    let fake = Fake::new(&[NAMESPACES, PODS]);
    fake.put("namespaces", namespace("shop", json!({})));
    for number in 1..=5 {
        fake.put("pods", pod(&format!("web-{number}"), &format!("10.0.0.{number}")));
    }
    let mut reader = Reader::start(&fake);
    let mut all = reader.listing().await;
    assert_eq!((all.remove(0).as_str(), all.pop().as_deref()), ("init", Some("done")));
    all.sort();
    let pods = (1..=5).map(|number| format!("applied Pod shop/web-{number}"));
    assert_eq!(all, [vec!["applied Namespace shop".to_owned()], pods.collect()].concat());
    let pages = fake.requests("/pods?");
    let lists = pages.iter().filter(|request| request.contains("limit=")).count();
    assert_eq!(lists, 3, "five pods are three pages: {pages:?}");
}

#[tokio::test(start_paused = true)]
async fn objects_are_read_as_files_are() {
    let fake = Fake::new(&[PODS, CONFIG_MAPS]);
    fake.put("pods", pod("web", "10.0.0.1"));
    let data = json!({ "mesh": "trustDomain: example.org" });
    for (namespace, name) in [("ambit-system", "ambit"), ("ambit-system", "other")] {
        let metadata = json!({ "namespace": namespace, "name": name });
        fake.put(
            "configmaps",
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data }),
        );
    }
    let mut reader = Reader::start(&fake);
    let mut objects = Vec::new();
    loop {
        match reader.event().await {
            SourceEvent::Applied(object) => objects.push(object),
            SourceEvent::InitDone => break,
            _ => {}
        }
    }
    objects.sort_by_key(|object| object.kind());
    let [web, mesh] = objects.as_slice() else { panic!("{objects:?}") };
    let Object::Pod(web) = &**web else { panic!("{web:?}") };
    assert_eq!(web.ips().len(), 1);
    assert_eq!(web.meta.creation.rank, 1_795_255_200, "seconds of its creation");
    assert_eq!(web.meta.uid, "uid-1");
    let Object::MeshConfig(mesh) = &**mesh else { panic!("{mesh:?}") };
    assert_eq!(mesh.meta.name, "ambit");
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_told_and_what_nobody_reads_is_not() {
    let fake = Fake::new(&[NAMESPACES, PODS]);
    let mut reader = Reader::start(&fake);
    assert_eq!(reader.listing().await, ["init", "done"]);
    fake.put("pods", pod("web", "10.0.0.1"));
    assert_eq!(reader.next().await, "applied Pod shop/web");
    let mut beat = pod("web", "10.0.0.1");
    beat["status"]["qosClass"] = "Burstable".into();
    fake.put("pods", beat);
    fake.put("namespaces", namespace("shop", json!({ "a": "b" })));
    assert_eq!(reader.next().await, "applied Namespace shop", "not the pod, which says the same");
    fake.delete("pods", "shop", "web");
    assert_eq!(reader.next().await, "deleted Pod shop/web");
}

#[tokio::test(start_paused = true)]
async fn a_new_listing_replaces_the_old_one_in_one_step() {
    let fake = Fake::new(&[PODS]);
    for name in ["changed", "gone", "same"] {
        fake.put("pods", pod(name, "10.0.0.1"));
    }
    let mut reader = Reader::start(&fake);
    assert_eq!(reader.listing().await.len(), 5);
    // The watches break, and what happens until they are back is forgotten.
    fake.stop();
    fake.delete("pods", "shop", "gone");
    fake.put("pods", pod("changed", "10.0.0.2"));
    fake.put("pods", pod("new", "10.0.0.3"));
    fake.forget();
    fake.start();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(reader.next().await);
    }
    assert_eq!(seen, ["deleted Pod shop/gone", "applied Pod shop/changed", "applied Pod shop/new"]);
    assert_eq!(reader.look().await, Vec::<String>::new(), "and nothing else");
}

#[tokio::test(start_paused = true)]
async fn the_last_state_stays_while_the_server_is_away_and_the_watch_goes_on_where_it_was() {
    let fake = Fake::new(&[PODS]);
    fake.put("pods", pod("web", "10.0.0.1"));
    let mut reader = Reader::start(&fake);
    assert_eq!(reader.listing().await.len(), 3);
    fake.stop();
    let silence = timeout(Duration::from_secs(120), reader.0.events.recv()).await;
    assert!(silence.is_err(), "nothing is taken back: {silence:?}");
    fake.put("pods", pod("late", "10.0.0.2"));
    drop(fake.requests(""));
    fake.start();
    assert_eq!(reader.next().await, "applied Pod shop/late");
    let requests = fake.requests("/pods?");
    assert!(
        requests.iter().all(|request| request.contains("watch=")),
        "nothing is listed again: {requests:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn kinds_come_and_go() {
    let fake = Fake::new(&[PODS]);
    let mut reader = Reader::start(&fake);
    assert_eq!(reader.listing().await, ["init", "done"]);
    fake.serve_also(POLICIES);
    fake.put("authorizationpolicies", policy(good_rules()));
    assert_eq!(reader.look().await, ["applied AuthorizationPolicy shop/rules"]);
    fake.put("pods", pod("web", "10.0.0.1"));
    assert_eq!(reader.next().await, "applied Pod shop/web");
    // One answer without the kind may be a server that starts: the policy stays until the second.
    drop(fake.requests(""));
    fake.serve_no_longer("authorizationpolicies");
    assert_eq!(reader.next().await, "deleted AuthorizationPolicy shop/rules");
    let asked = fake.requests("GET /apis");
    assert!(asked.iter().filter(|request| request.ends_with("/apis")).count() >= 2, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_leaves_the_last_good_one_in_force_also_after_a_restart() {
    let fake = Fake::new(&[POLICIES]);
    fake.put("authorizationpolicies", policy(good_rules()));
    let mut reader = Reader::start(&fake);
    assert_eq!(reader.listing().await.len(), 3);
    let bad = || policy(json!([{ "frm": [] }]));
    fake.put("authorizationpolicies", bad());
    assert_eq!(reader.next().await, "reported the last good version stays spec.rules[0].frm");
    // It is kept with the object.
    let kept = || {
        let held = fake.get("authorizationpolicies", "shop", "rules").unwrap();
        held["metadata"]["annotations"][arrival::LAST_GOOD].as_str().map(str::to_owned)
    };
    while kept().is_none() {
        tokio::task::yield_now().await;
    }
    drop(reader);
    let mut reader = Reader::start(&fake);
    let mut all = reader.listing().await;
    all.sort();
    let stays = "reported the last good version stays spec.rules[0].frm";
    assert_eq!(all, ["applied AuthorizationPolicy shop/rules", "done", "init", stays]);
    // A good one ends it.
    let mut mended = policy(json!([{}]));
    mended["metadata"]["annotations"] = json!({ (arrival::LAST_GOOD): kept() });
    fake.put("authorizationpolicies", mended);
    assert_eq!(reader.next().await, "applied AuthorizationPolicy shop/rules");
    while kept().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_never_valid_closes_and_ends_with_its_object() {
    let fake = Fake::new(&[POLICIES]);
    fake.put("authorizationpolicies", policy(json!([{ "frm": [] }])));
    let mut reader = Reader::start(&fake);
    let mut all = reader.listing().await;
    all.sort();
    let closed = "reported closed spec.rules[0].frm";
    assert_eq!(all, ["done", "init", "invalid AuthorizationPolicy shop/rules", closed]);
    fake.delete("authorizationpolicies", "shop", "rules");
    assert_eq!(reader.next().await, "deleted AuthorizationPolicy shop/rules");
    // A successor of the same name has no past to live on.
    fake.put("authorizationpolicies", policy(good_rules()));
    assert_eq!(reader.next().await, "applied AuthorizationPolicy shop/rules");
    fake.stop();
    fake.delete("authorizationpolicies", "shop", "rules");
    fake.put("authorizationpolicies", policy(json!([{ "frm": [] }])));
    fake.forget();
    fake.start();
    assert_eq!(reader.next().await, "invalid AuthorizationPolicy shop/rules");
}

#[tokio::test(start_paused = true)]
async fn a_node_reads_namespaces_and_its_own_pods() {
    let fake = Fake::new(&[NAMESPACES, PODS, SERVICES]);
    fake.put("pods", pod("here", "10.0.0.1"));
    let mut there = pod("there", "10.0.0.2");
    there["spec"]["nodeName"] = "node-2".into();
    fake.put("pods", there);
    let source = source(&fake, View::Node("node-1".to_owned()));
    let mut reader = Reader(Box::new(source).start().unwrap());
    assert_eq!(reader.listing().await, ["init", "applied Pod shop/here", "done"]);
    assert_eq!(fake.requests("/services"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn everything_ends_with_the_reader() {
    let fake = Fake::new(&[PODS]);
    let mut reader = Reader::start(&fake);
    reader.listing().await;
    drop(reader);
    fake.put("pods", pod("web", "10.0.0.1"));
    tokio::time::sleep(LONG).await;
    drop(fake.requests(""));
    tokio::time::sleep(LONG).await;
    assert_eq!(fake.requests(""), Vec::<String>::new(), "nobody asks any more");
}

/// Runs a call of the writer where calls may block.
async fn blocking<T: Send + 'static>(
    status: &Arc<dyn crate::status::StatusWriter>,
    call: impl FnOnce(&dyn crate::status::StatusWriter) -> T + Send + 'static,
) -> T {
    let status = status.clone();
    tokio::task::spawn_blocking(move || call(&*status)).await.unwrap()
}

fn reference(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, "shop", name)
}
