//! What is written back, and what is not.

use std::io;

use super::super::lease::{self, Terms};
use super::*;
use crate::status::{Condition, ConditionStatus, Event, EventSeverity};

fn enforced(status: ConditionStatus, reason: &str, generation: i64) -> Vec<Condition> {
    vec![Condition {
        kind: "Enforced".to_owned(),
        status,
        reason: reason.to_owned(),
        message: "by ztunnels".to_owned(),
        observed_generation: generation,
    }]
}

async fn reader_of(fake: &Fake) -> Reader {
    let mut reader = Reader::start(fake);
    reader.listing().await;
    reader
}

#[tokio::test(start_paused = true)]
async fn conditions_are_written_when_they_differ_and_leave_others_alone() {
    let fake = Fake::new(&[POLICIES]);
    let mut held = policy(good_rules());
    held["status"] = json!({ "conditions": [{ "type": "Foreign", "status": "True" }] });
    fake.put("authorizationpolicies", held);
    let reader = reader_of(&fake).await;
    let object = reference(Kind::AuthorizationPolicy, "rules");
    let write = async |conditions: Vec<Condition>| {
        drop(fake.requests(""));
        let object = object.clone();
        blocking(&reader.0.status, move |status| status.conditions(&object, &conditions)).await.unwrap();
        fake.requests("PATCH")
    };
    let said = |field: &str| {
        let held = fake.get("authorizationpolicies", "shop", "rules").unwrap();
        let list = held["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let all = list.iter().map(|one| one[field].as_str().unwrap_or_default().to_owned());
        all.collect::<Vec<_>>()
    };
    let patches = write(enforced(ConditionStatus::True, "Carried", 1)).await;
    assert!(patches.len() == 1 && patches[0].contains("/rules/status?"), "{patches:?}");
    assert!(patches[0].contains("fieldManager=ambit-test"), "{patches:?}");
    assert_eq!(said("type"), ["Foreign", "Enforced"]);
    assert_eq!(
        write(enforced(ConditionStatus::True, "Carried", 1)).await,
        Vec::<String>::new(),
        "no difference"
    );
    // The time is that of the last change of status.
    let since = said("lastTransitionTime");
    assert!(!since[1].is_empty());
    assert_eq!(write(enforced(ConditionStatus::True, "Carried", 2)).await.len(), 1);
    assert_eq!(said("lastTransitionTime"), since);
    assert_eq!(write(enforced(ConditionStatus::False, "NotEnrolled", 2)).await.len(), 1);
    assert_eq!(said("reason"), ["", "NotEnrolled"]);
    assert_eq!(write(Vec::new()).await.len(), 1);
    assert_eq!(said("type"), ["Foreign"]);
    assert_eq!(write(Vec::new()).await, Vec::<String>::new());
    // A restart finds what is there.
    write(enforced(ConditionStatus::True, "Carried", 1)).await;
    let again = reader_of(&fake).await;
    drop(fake.requests(""));
    let same = enforced(ConditionStatus::True, "Carried", 1);
    let target = object.clone();
    blocking(&again.0.status, move |status| status.conditions(&target, &same)).await.unwrap();
    assert_eq!(fake.requests("PATCH"), Vec::<String>::new());
    // What is gone needs no verdict.
    let gone = reference(Kind::AuthorizationPolicy, "gone");
    let any = enforced(ConditionStatus::True, "Carried", 1);
    blocking(&again.0.status, move |status| status.conditions(&gone, &any)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_route_is_answered_for_our_parents_beside_others_answers() {
    let fake = Fake::new(&[ROUTES, GATEWAYS]);
    let gateway = |name: &str, class: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": name, "namespace": "shop" },
            "spec": { "gatewayClassName": class, "listeners": [] },
        })
    };
    fake.put("gateways", gateway("ours", "ambit-waypoint"));
    fake.put("gateways", gateway("theirs", "other"));
    let foreign =
        json!({ "controllerName": "example.org/other", "parentRef": { "name": "theirs" }, "conditions": [] });
    let parents =
        json!([{ "name": "theirs" }, { "name": "ours" }, { "group": "", "kind": "Service", "name": "web" }]);
    fake.put(
        "httproutes",
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "parentRefs": parents, "rules": [{}] },
            "status": { "parents": [foreign] },
        }),
    );
    let reader = reader_of(&fake).await;
    let write = async |conditions: Vec<Condition>| {
        drop(fake.requests(""));
        let object = reference(Kind::HttpRoute, "web");
        blocking(&reader.0.status, move |status| status.conditions(&object, &conditions)).await.unwrap();
        fake.requests("PATCH").len()
    };
    let told = || fake.get("httproutes", "shop", "web").unwrap()["status"]["parents"].clone();
    assert_eq!(write(enforced(ConditionStatus::True, "Waypoint", 0)).await, 1);
    assert_eq!(told()[0], foreign);
    let ours = |place: usize| (told()[place]["parentRef"].clone(), told()[place]["controllerName"].clone());
    assert_eq!(ours(1), (parents[1].clone(), "ambit.mesh/controller".into()));
    assert_eq!(ours(2), (parents[2].clone(), "ambit.mesh/controller".into()));
    assert_eq!(told()[2]["conditions"][0]["reason"], "Waypoint");
    assert_eq!(write(enforced(ConditionStatus::True, "Waypoint", 0)).await, 0);
    assert_eq!(write(Vec::new()).await, 1);
    assert_eq!(told(), json!([foreign]));
}

#[tokio::test(start_paused = true)]
async fn annotations_go_where_the_rights_are_and_to_no_successor() {
    let fake = Fake::new(&[NAMESPACES, PODS]);
    fake.put("pods", pod("web", "10.0.0.1"));
    let mut reader = reader_of(&fake).await;
    let status = reader.0.status.clone();
    let write = async |value: Option<&'static str>| {
        drop(fake.requests(""));
        let object = reference(Kind::Pod, "web");
        let key = "ambient.istio.io/redirection";
        let written = blocking(&status, move |status| status.annotate(&object, key, value)).await;
        (written.map_err(|error| error.kind()), fake.requests("PATCH"))
    };
    let (written, patches) = write(Some("enabled")).await;
    assert_eq!(written, Ok(()));
    assert!(patches.len() == 1 && patches[0].contains("/pods/web/status?"), "{patches:?}");
    assert_eq!(write(Some("enabled")).await, (Ok(()), Vec::new()), "no difference");
    assert_eq!(write(Some("pending")).await.1.len(), 1);
    assert_eq!(
        write(Some("enabled")).await.1.len(),
        1,
        "what was just written counts, not what was seen last"
    );
    assert_eq!(write(None).await.1.len(), 1);
    let held = fake.get("pods", "shop", "web").unwrap();
    assert_eq!(held["metadata"]["annotations"], json!({}));
    // No watch has told yet that another pod has the name now.
    fake.rival("pods", pod("web", "10.0.0.9"));
    assert_eq!(write(Some("enabled")).await.0, Err(io::ErrorKind::ResourceBusy));
    fake.delete("pods", "shop", "web");
    reader.look().await;
    assert_eq!(write(Some("enabled")).await.0, Err(io::ErrorKind::NotFound));
}

#[tokio::test(start_paused = true)]
async fn an_event_tells_whom_it_is_about() {
    let fake = Fake::new(&[PODS]);
    fake.put("pods", pod("web", "10.0.0.1"));
    let reader = reader_of(&fake).await;
    let event = Event {
        object: reference(Kind::Pod, "web"),
        reason: "NotYetServed".to_owned(),
        message: "ä".repeat(1000),
        severity: EventSeverity::Warning,
    };
    blocking(&reader.0.status, move |status| status.event(&event)).await.unwrap();
    assert_eq!(fake.requests("POST /apis/events.k8s.io/v1/namespaces/shop/events").len(), 1);
    let held = fake.only("events");
    assert_eq!(held["regarding"]["uid"], "uid-1");
    assert_eq!(held["regarding"]["kind"], "Pod");
    assert_eq!((&held["type"], &held["reason"]), (&json!("Warning"), &json!("NotYetServed")));
    assert_eq!(held["note"].as_str().unwrap().len(), 1024, "no longer than Kubernetes takes");
}

fn deployment(replicas: u32, owner: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "waypoint", "namespace": "shop", "labels": { (MANAGED): "ambit" },
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "waypoint", "uid": owner,
                "controller": true,
            }],
        },
        "spec": { "replicas": replicas },
    })
}

#[tokio::test(start_paused = true)]
async fn objects_of_ours_are_made_changed_and_removed_and_foreign_ones_are_left_alone() {
    let fake = Fake::new(&[DEPLOYMENTS]);
    let reader = reader_of(&fake).await;
    let own = async |manifest: Option<Value>| {
        let object = reference(Kind::Deployment, "waypoint");
        let written = blocking(&reader.0.status, move |status| status.own(&object, manifest.as_ref())).await;
        written.map_err(|error| error.kind())
    };
    let held = || fake.get("deployments", "shop", "waypoint");
    assert_eq!(own(Some(deployment(1, "gateway-1"))).await, Ok(()));
    let first = held().unwrap();
    assert_eq!(first["spec"]["replicas"], 1);
    assert_eq!(own(Some(deployment(1, "gateway-1"))).await, Ok(()));
    assert_eq!(held().unwrap()["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(own(Some(deployment(3, "gateway-1"))).await, Ok(()));
    assert_eq!(held().unwrap()["spec"]["replicas"], 3);
    // Of another Gateway, although the label is the same.
    assert_eq!(own(Some(deployment(1, "gateway-2"))).await, Err(io::ErrorKind::PermissionDenied));
    assert_eq!(held().unwrap()["spec"]["replicas"], 3);
    assert_eq!(own(None).await, Ok(()));
    assert_eq!((held(), own(None).await), (None, Ok(())));
    // Somebody else's, with a label or without.
    let mut foreign = deployment(7, "gateway-1");
    foreign["metadata"]["labels"] = json!({});
    fake.put("deployments", foreign.clone());
    for manifest in [Some(deployment(1, "gateway-1")), None] {
        assert_eq!(own(manifest).await, Err(io::ErrorKind::PermissionDenied));
    }
    assert_eq!(held().unwrap()["spec"]["replicas"], 7);
    // Somebody else's, made after we looked.
    fake.delete("deployments", "shop", "waypoint");
    foreign["metadata"]["managedFields"] = json!([{ "manager": "kubectl" }]);
    fake.rival("deployments", foreign);
    drop(fake.requests(""));
    assert_eq!(own(Some(deployment(1, "gateway-1"))).await, Err(io::ErrorKind::PermissionDenied));
    assert_eq!(fake.requests("PATCH").len(), 2, "what was put into it is taken back");
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_writes_and_the_next_one_takes_over() {
    let fake = Fake::new(&[PODS]);
    fake.put("pods", pod("web", "10.0.0.1"));
    let terms = |me: &str| Terms {
        namespace: "ambit-system".to_owned(),
        name: "ambit".to_owned(),
        me: me.to_owned(),
    };
    let first = lease::lead(fake.client(), terms("first"));
    timeout(LONG, first.leading.clone().wait_for(|leading| *leading)).await.expect("it leads").unwrap();
    let candidacy = lease::lead(fake.client(), terms("second"));
    let second = candidacy.leading.clone();
    let mut follower = source(&fake, mesh());
    follower.leading = Some(second.clone());
    let mut reader = Reader(Box::new(follower).start().unwrap());
    reader.listing().await;
    let object = reference(Kind::Pod, "web");
    let status = reader.0.status.clone();
    let written = tokio::task::spawn_blocking(move || status.annotate(&object, "a", Some("b")));
    // A blocking call keeps the clock from running by itself.
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!*second.borrow() && !written.is_finished());
    let held = || fake.get("pods", "shop", "web").unwrap()["metadata"]["annotations"].clone();
    assert_eq!(held(), Value::Null);
    // The first leaves, and gives its lease back: nobody waits until it has run out.
    first.withdraw().await;
    let left = tokio::time::Instant::now();
    while !*second.borrow() {
        tokio::time::advance(Duration::from_millis(100)).await;
        // Nobody's answer takes more steps.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert!(left.elapsed() <= Duration::from_secs(2), "handed over after {:?}", left.elapsed());
    while !written.is_finished() {
        tokio::task::yield_now().await;
    }
    written.await.unwrap().unwrap();
    assert!(*second.borrow());
    assert_eq!(held(), json!({ "a": "b" }));
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_server_steps_back_and_its_lease_runs_out() {
    let fake = Fake::new(&[PODS]);
    let terms = |me: &str| Terms {
        namespace: "ambit-system".to_owned(),
        name: "ambit".to_owned(),
        me: me.to_owned(),
    };
    let candidacy = lease::lead(fake.client(), terms("first"));
    let mut first = candidacy.leading.clone();
    timeout(LONG, first.wait_for(|leading| *leading)).await.expect("it leads").unwrap();
    fake.stop();
    timeout(LONG, first.wait_for(|leading| !*leading)).await.expect("it steps back").unwrap();
    fake.start();
    timeout(LONG, first.wait_for(|leading| *leading)).await.expect("it leads again").unwrap();
}
