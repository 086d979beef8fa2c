//! An API server in memory, as far as the source uses one: lists in pages, watches, patches, server-side apply of conditions;
//! it can forget versions, lose its connections and stop to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Objects in one page, whatever a client asks for.
const PAGE: usize = 2;

/// One kind: group, version, kind, plural.
pub(super) type Resource = (&'static str, &'static str, &'static str, &'static str);

/// The server.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    served: Vec<Resource>,
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// Changes, oldest first: version, plural, type, object.
    log: Vec<(u64, String, &'static str, Value)>,
    /// Versions before this one are forgotten.
    oldest: u64,
    watchers: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
    requests: Vec<String>,
    is_down: bool,
    /// Types of conditions by object and manager.
    owned: BTreeMap<(Key, String), BTreeSet<String>>,
    /// Made by somebody else between a question and the next write.
    rival: Option<(Key, Value)>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Plural, namespace, name.
type Key = (String, String, String);

/// A request's path, taken apart.
struct Route {
    key: Key,
    is_status: bool,
}

impl Fake {
    pub(super) fn new(served: &[Resource]) -> Self {
        let fake = Self::default();
        fake.lock().served = served.to_vec();
        fake
    }

    pub(super) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { fake.serve(request).await }
        });
        Client::new(service, "default")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Writes an object as a user would; its version and UID are the server's.
    pub(super) fn put(&self, plural: &str, object: Value) {
        self.lock().put(plural, object);
    }

    pub(super) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.lock().delete(&(plural.to_owned(), namespace.to_owned(), name.to_owned()));
    }

    pub(super) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&(plural.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The only object of a kind.
    pub(super) fn only(&self, plural: &str) -> Value {
        let state = self.lock();
        let mut here =
            state.objects.iter().filter(|(key, _)| key.0 == plural).map(|(_, object)| object.clone());
        here.next().filter(|_| here.next().is_none()).expect("exactly one")
    }

    pub(super) fn serve_also(&self, resource: Resource) {
        self.lock().served.push(resource);
    }

    pub(super) fn serve_no_longer(&self, plural: &str) {
        let mut state = self.lock();
        state.served.retain(|one| one.3 != plural);
        state.watchers.retain(|(one, _)| one != plural);
    }

    /// Answers nothing any more and drops every watch.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_down = true;
        state.watchers.clear();
    }

    pub(super) fn start(&self) {
        self.lock().is_down = false;
    }

    /// Drops every watch; old versions are forgotten.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        state.oldest = state.version + 1;
        state.watchers.clear();
    }

    /// The requests since the last question that contain this.
    pub(super) fn requests(&self, part: &str) -> Vec<String> {
        let requests = std::mem::take(&mut self.lock().requests);
        requests.into_iter().filter(|request| request.contains(part)).collect()
    }

    /// Right before the next write somebody else makes this object, in the place of one of the same name.
    pub(super) fn rival(&self, plural: &str, object: Value) {
        let key = key_of(plural, &object);
        self.lock().rival = Some((key, object));
    }

    async fn serve(&self, request: Request<Body>) -> Result<Answer, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut state = self.lock();
        if state.is_down {
            return Err(std::io::Error::other("connection refused"));
        }
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=")))
            .collect();
        state.requests.push(format!("{} {}", parts.method, parts.uri));
        let path = parts.uri.path().to_owned();
        let content =
            parts.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Some(answer) = state.discover(&path) {
            return Ok(answer);
        }
        let Some(route) = state.route(&path) else {
            return Ok(status(404, "NotFound"));
        };
        let is_list = route.key.2.is_empty();
        let write =
            Write { body, manager: query.get("fieldManager").cloned(), is_apply: content.contains("apply") };
        Ok(match (parts.method, is_list) {
            (Method::GET, true) if query.contains_key("watch") => state.watch(&route.key, &query),
            (Method::GET, true) => state.list(&route.key, &query),
            (Method::GET, false) => {
                state.objects.get(&route.key).map_or_else(|| status(404, "NotFound"), answer)
            }
            (Method::POST, true) => state.create(&route.key, write.body),
            (Method::PUT, false) => state.replace(&route.key, write.body),
            (Method::PATCH, false) => state.patch(&route, &write),
            (Method::DELETE, false) => {
                state.delete(&route.key);
                answer(&json!({ "kind": "Status", "status": "Success" }))
            }
            _ => status(405, "not served"),
        })
    }
}

/// What a write says.
struct Write {
    body: Value,
    manager: Option<String>,
    is_apply: bool,
}

impl State {
    fn discover(&self, path: &str) -> Option<Answer> {
        if path == "/apis" {
            let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (group, version, _, _) in self.served.iter().filter(|one| !one.0.is_empty()) {
                groups.entry(group).or_default().insert(version);
            }
            let version = |group: &str, version: &&str| json!({ "groupVersion": format!("{group}/{version}"), "version": version });
            let groups: Vec<Value> = groups
                .iter()
                .map(|(group, versions)| {
                    json!({ "name": group, "versions": versions.iter().map(|one| version(group, one)).collect::<Vec<_>>() })
                })
                .collect();
            return Some(answer(&json!({ "kind": "APIGroupList", "groups": groups })));
        }
        let (group, version) = match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
            ["api", version] => ("", version),
            ["apis", group, version] => (group, version),
            _ => return None,
        };
        let here = self.served.iter().filter(|one| one.0 == group && one.1 == version);
        let resources: Vec<Value> = here
            .flat_map(|(_, _, kind, plural)| [(kind, (*plural).to_owned()), (kind, format!("{plural}/status"))])
            .map(|(kind, name)| {
                json!({ "name": name, "kind": kind, "namespaced": true, "singularName": "", "verbs": ["list", "watch"] })
            })
            .collect();
        Some(answer(&json!({ "kind": "APIResourceList", "groupVersion": version, "resources": resources })))
    }

    fn route(&self, path: &str) -> Option<Route> {
        let all: Vec<&str> = path.trim_matches('/').split('/').collect();
        let rest = if all[0] == "api" { &all[2..] } else { &all[3..] };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest[0] != "status" => {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let plural = *rest.first()?;
        let known = self.served.iter().any(|one| one.3 == plural) || matches!(plural, "events" | "leases");
        let name = rest.get(1).copied().unwrap_or_default();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        known.then(|| Route { key, is_status: rest.get(2) == Some(&"status") })
    }

    fn list(&self, key: &Key, query: &BTreeMap<String, String>) -> Answer {
        let here: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(one, object)| selected(one, object, key, query))
            .map(|(_, one)| one)
            .collect();
        let from: usize = query.get("continue").map_or(0, |place| place.parse().unwrap());
        let page: Vec<&&Value> = here.iter().skip(from).take(PAGE).collect();
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if from + PAGE < here.len() {
            metadata["continue"] = (from + PAGE).to_string().into();
        }
        answer(&json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page }))
    }

    fn watch(&mut self, key: &Key, query: &BTreeMap<String, String>) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        let from: u64 = query.get("resourceVersion").map_or(0, |version| version.parse().unwrap());
        if from < self.oldest {
            let gone = json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old", "status": "Failure" });
            let _ = sender.send(line("ERROR", &gone));
        } else {
            for (version, plural, kind, object) in &self.log {
                if *version > from && *plural == key.0 {
                    let _ = sender.send(line(kind, object));
                }
            }
            self.watchers.push((key.0.clone(), sender));
        }
        let lines = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|line| (Ok::<_, Infallible>(Frame::data(line)), receiver))
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn put(&mut self, plural: &str, mut object: Value) -> Value {
        let key = key_of(plural, &object);
        self.version += 1;
        let before = self.objects.get(&key);
        let fresh = format!("uid-{}", self.version);
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = self.version.to_string().into();
        let uid = before.map_or(fresh.into(), |before| before["metadata"]["uid"].clone());
        metadata["uid"] = uid;
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(plural, kind, object.clone());
        self.objects.insert(key, object.clone());
        object
    }

    fn delete(&mut self, key: &Key) {
        if let Some(mut object) = self.objects.remove(key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.tell(&key.0, "DELETED", object);
        }
    }

    fn tell(&mut self, plural: &str, kind: &'static str, object: Value) {
        let text = line(kind, &object);
        self.watchers.retain(|(one, sender)| one != plural || sender.send(text.clone()).is_ok());
        self.log.push((self.version, plural.to_owned(), kind, object));
    }

    fn create(&mut self, (plural, namespace, _): &Key, mut object: Value) -> Answer {
        object["metadata"]["namespace"] = namespace.clone().into();
        if self.objects.contains_key(&key_of(plural, &object)) {
            return status(409, "AlreadyExists");
        }
        answer(&self.put(plural, object))
    }

    fn replace(&mut self, key: &Key, object: Value) -> Answer {
        let held = self.objects.get(key);
        if held
            .is_none_or(|held| held["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"])
        {
            return status(409, "Conflict");
        }
        answer(&self.put(&key.0, object))
    }

    fn patch(&mut self, route: &Route, write: &Write) -> Answer {
        if let Some((key, object)) = self.rival.take_if(|(key, _)| *key == route.key) {
            self.delete(&key);
            self.put(&key.0, object);
        }
        let manager = write.manager.clone().unwrap_or_default();
        let Some(held) = self.objects.get(&route.key).cloned() else {
            if !write.is_apply {
                return status(404, "NotFound");
            }
            let mut object = write.body.clone();
            object["metadata"]["managedFields"] = json!([{ "manager": manager }]);
            return answer(&self.put(&route.key.0, object));
        };
        for field in ["uid", "resourceVersion"] {
            let wanted = &write.body["metadata"][field];
            if !wanted.is_null() && *wanted != held["metadata"][field] {
                return status(409, "Conflict");
            }
        }
        let mut object = held.clone();
        let mut body = write.body.clone();
        // Neither half of an object is written by way of the other.
        body.as_object_mut().unwrap().remove(if route.is_status { "spec" } else { "status" });
        let conditions =
            write.is_apply.then(|| body["status"].as_object_mut()?.remove("conditions")).flatten();
        merge(&mut object, &body);
        if let Some(Value::Array(conditions)) = conditions {
            self.apply_conditions(&route.key, &manager, &mut object, conditions);
        }
        let managers = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        if write.is_apply && managers.iter().all(|one| one["manager"] != manager.as_str()) {
            let managers: Vec<Value> = managers.into_iter().chain([json!({ "manager": manager })]).collect();
            object["metadata"]["managedFields"] = managers.into();
        }
        if object == held { answer(&held) } else { answer(&self.put(&route.key.0, object)) }
    }

    /// Conditions are one list of several managers: by type, and what a manager no longer names goes.
    fn apply_conditions(&mut self, key: &Key, manager: &str, object: &mut Value, wanted: Vec<Value>) {
        let types: BTreeSet<String> =
            wanted.iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect();
        let before = self.owned.insert((key.clone(), manager.to_owned()), types.clone()).unwrap_or_default();
        let mut list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        list.retain(|one| {
            !before.contains(one["type"].as_str().unwrap()) && !types.contains(one["type"].as_str().unwrap())
        });
        list.extend(wanted);
        object["status"]["conditions"] = list.into();
    }
}

fn key_of(plural: &str, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn selected(one: &Key, object: &Value, key: &Key, query: &BTreeMap<String, String>) -> bool {
    let field = |selector: &String| {
        let (path, value) = selector.split_once('=').unwrap();
        object.pointer(&format!("/{}", path.replace('.', "/"))).is_some_and(|held| held == value)
    };
    one.0 == key.0 && (key.1.is_empty() || one.1 == key.1) && query.get("fieldSelector").is_none_or(field)
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        patch.clone_into(object);
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({ "type": kind, "object": object })).into()
}

fn answer(value: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync())
}

fn status(code: u16, reason: &str) -> Answer {
    let text =
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason });
    let mut response = answer(&text);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
