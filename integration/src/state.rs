//! What shall exist and what does: the lab's one mutable state, and the step from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;

use crate::address::{Addresses, NodeNumber};
use crate::dns::Book;
use crate::error::LabError;
use crate::expand::{Group, groups, uid};
use crate::manifest::{Document, Fault, Key, at, parse_folder, text};
use crate::network::{Network, Wire};
use crate::pod::{Life, News, Pod, Surroundings};
use crate::service::{Backend, Service};
use crate::waypoint::{Stamp, Waypoints};

/// How long a pod's programs may take to end when the pod goes.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Folders of a lab.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// The state folder.
    pub(crate) state: PathBuf,
    /// Where the user's manifests are.
    pub(crate) manifests: Vec<PathBuf>,
}

impl Folders {
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// Where controller and agents read objects; later folders stand over earlier ones. What the lab has completed (a
    /// Service's address) stands over what the controller wrote.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        let live = [self.objects(), self.inside("generated"), self.inside("applied")];
        self.manifests.iter().cloned().chain(live).collect()
    }

    /// Objects the controller owns.
    pub(crate) fn objects(&self) -> PathBuf {
        self.inside("state").join("objects")
    }

    /// The certificate authority's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.inside("ca").join("root-cert.pem")
    }
}

/// The lab's state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) folders: Folders,
    pub(crate) network: Arc<Network>,
    /// The user's documents with the live ones over them.
    pub(crate) effective: BTreeMap<Key, Document>,
    /// Documents applied, changed or deleted live.
    pub(crate) overlay: BTreeMap<Key, Document>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) services: Vec<Service>,
    /// Pods the mesh itself runs in: one for each ztunnel.
    pub(crate) system: Vec<Value>,
    pub(crate) news: Sender<News>,
    pub(crate) names: Book,
    pub(crate) written: BTreeMap<PathBuf, String>,
    pub(crate) rules: String,
    /// The controller's objects as they were last read.
    pub(crate) objects: Stamp,
    /// The lab is going; nothing is started any more.
    pub(crate) over: bool,
    /// How waypoints are started; none without a mesh.
    pub(crate) waypoints: Option<Arc<Waypoints>>,
    addresses: Addresses,
    random: SmallRng,
}

impl State {
    pub(crate) fn new(folders: Folders, network: Arc<Network>, news: Sender<News>, names: Book) -> Self {
        State {
            folders,
            network,
            effective: BTreeMap::new(),
            overlay: BTreeMap::new(),
            faults: Vec::new(),
            pods: BTreeMap::new(),
            services: Vec::new(),
            system: Vec::new(),
            news,
            names,
            written: BTreeMap::new(),
            rules: String::new(),
            objects: Stamp::default(),
            over: false,
            waypoints: None,
            addresses: Addresses::default(),
            random: SmallRng::from_os_rng(),
        }
    }

    /// Brings what exists to what shall exist. What goes is announced before it goes.
    pub(crate) fn reconcile(&mut self) -> Result<(), LabError> {
        self.load()?;
        let (groups, mut faults) = groups(self.effective.values());
        self.faults.append(&mut faults);
        self.read_services();
        let gone = self.surplus(&groups);
        self.publish()?;
        self.take_down(gone);
        for group in &groups {
            if let Err(error) = self.fill(group) {
                self.faults.push(Fault { place: group.place.clone(), message: error.to_string() });
            }
        }
        self.publish()
    }

    /// Reads the user's folders and lays the live documents over them.
    fn load(&mut self) -> Result<(), LabError> {
        self.effective.clear();
        self.faults.clear();
        // Looked at first: what changes while it is read is read again.
        self.objects = Stamp::of(&self.folders.objects());
        for folder in self.folders.manifests.iter().chain([&self.folders.objects()]) {
            let read =
                parse_folder(folder).map_err(LabError::system(format!("reading {}", folder.display())))?;
            self.faults.extend(read.1);
            let mut first: BTreeMap<Key, Document> = BTreeMap::new();
            for document in read.0 {
                if let Some(before) = first.get(&document.key) {
                    let message = format!("{} is already at {}, which stands", document.key, before.place);
                    self.faults.push(Fault { place: document.place, message });
                    continue;
                }
                first.insert(document.key.clone(), document);
            }
            self.effective.append(&mut first);
        }
        for (key, document) in &self.overlay {
            match document.removes() {
                true => drop(self.effective.remove(key)),
                false => drop(self.effective.insert(key.clone(), document.clone())),
            }
        }
        Ok(())
    }

    fn read_services(&mut self) {
        self.services.clear();
        let documents: Vec<_> =
            self.effective.values().filter(|document| document.key.kind == "Service").collect();
        let wanted: BTreeSet<_> = documents.iter().map(|document| full_name(&document.key)).collect();
        self.addresses.keep_services(|name| wanted.contains(name));
        // Those that ask for an address come first, or another could have taken it.
        let (asking, others): (Vec<_>, Vec<_>) =
            documents.into_iter().partition(|document| document.at(&["spec", "clusterIP"]).is_some());
        for document in asking.into_iter().chain(others) {
            if text(&document.value, &["spec", "type"]) == Some("ExternalName") {
                continue;
            }
            let asked = text(&document.value, &["spec", "clusterIP"]).filter(|asked| !asked.is_empty());
            let address = match asked {
                Some("None") => Ok(None),
                Some(asked) => match asked.parse() {
                    Ok(asked) => self.addresses.service(&full_name(&document.key), Some(asked)).map(Some),
                    Err(_invalid) => Err(LabError::Manifest(format!(
                        "{}: spec.clusterIP {asked:?} is no address",
                        document.key
                    ))),
                },
                None => self.addresses.service(&full_name(&document.key), None).map(Some),
            };
            match address
                .map_err(|error| error.to_string())
                .and_then(|address| Service::read(document, address))
            {
                Ok(service) => self.services.push(service),
                Err(message) => self.faults.push(Fault { place: document.place.clone(), message }),
            }
        }
    }

    /// Takes pods that shall not exist any more out of the state, newest names last to stay.
    fn surplus(&mut self, groups: &[Group]) -> Vec<Pod> {
        let mut room: BTreeMap<(Key, String), usize> = groups
            .iter()
            .map(|group| ((group.owner.clone(), group.revision.clone()), group.replicas))
            .collect();
        let mut gone = Vec::new();
        let mut order: Vec<_> = self
            .pods
            .values()
            .map(|pod| (pod.name().len(), pod.name().to_owned(), pod.uid.clone()))
            .collect();
        order.sort();
        for (_length, _name, uid) in order {
            let pod = &self.pods[&uid];
            match room.get_mut(&(pod.owner.clone(), pod.revision.clone())) {
                Some(left) if *left > 0 => *left -= 1,
                _ => gone.extend(self.pods.remove(&uid)),
            }
        }
        gone
    }

    /// Stops pods and takes their network away; those that may take their time end beside.
    pub(crate) fn take_down(&mut self, pods: Vec<Pod>) {
        pods.iter().for_each(Pod::ask_to_end);
        let (slow, quick): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.grace > GRACE);
        for pod in slow {
            let (network, news) = (Arc::clone(&self.network), self.news.clone());
            std::thread::spawn(move || {
                pod.end(pod.grace);
                network.remove_pod(&pod.uid, &pod.wire);
                // The lab is gone when nobody takes the news.
                let _taken = news.send(News::Gone(pod.wire.node, pod.wire.host));
            });
        }
        for pod in quick {
            pod.end(GRACE);
            self.network.remove_pod(&pod.uid, &pod.wire);
            self.addresses.free_pod(pod.wire.node, pod.wire.host);
        }
    }

    /// Creates the pods a group lacks and brings a lone pod's labels up to date.
    fn fill(&mut self, group: &Group) -> Result<(), LabError> {
        let have: Vec<_> = self
            .pods
            .values()
            .filter(|pod| pod.owner == group.owner)
            .map(|pod| pod.name().to_owned())
            .collect();
        if group.owner.kind == "Pod" {
            self.refresh_labels(group);
        }
        for name in group.names(group.replicas.saturating_sub(have.len()), &have, &mut self.random) {
            let node = self.place(group)?;
            let uid = uid(&mut self.random);
            let (host, address) = self.addresses.pod(node, &uid)?;
            let wire = Wire { node, host, address };
            let object = group.pod(&name, &uid, &node.name());
            let files = self.name_service(&group.owner.namespace)?;
            let space = self
                .network
                .add_pod(&uid, &wire, files)
                .inspect_err(|_error| self.addresses.free_pod(node, host))?;
            let pod = Pod {
                uid: uid.clone(),
                owner: group.owner.clone(),
                revision: group.revision.clone(),
                wire,
                object,
                ready: false,
                phase: "Running",
                space: Arc::new(space),
                life: Arc::new(Life::default()),
                grace: group.grace(),
            };
            let logs = self.folders.inside("logs");
            let waypoints = self.waypoints.as_ref();
            pod.start(&group.containers, &Surroundings { logs: &logs, news: &self.news, waypoints });
            self.pods.insert(uid, pod);
        }
        Ok(())
    }

    fn refresh_labels(&mut self, group: &Group) {
        for pod in self.pods.values_mut().filter(|pod| pod.owner == group.owner) {
            for field in ["labels", "annotations"] {
                let wanted = group.metadata.get(field).cloned().unwrap_or(Value::Null);
                pod.object["metadata"][field] = wanted;
            }
        }
    }

    /// The node a pod asks for, else the one with the fewest of its group, then the fewest pods.
    fn place(&self, group: &Group) -> Result<NodeNumber, LabError> {
        if let Some(asked) = group.asked_node() {
            let found = self.network.nodes.keys().find(|node| node.name() == asked);
            return found
                .copied()
                .ok_or_else(|| LabError::Unknown(format!("node {asked}, which {} asks for", group.owner)));
        }
        let count = |node: NodeNumber, mine: bool| {
            let pods = self.pods.values().filter(|pod| pod.wire.node == node);
            pods.filter(|pod| !mine || pod.owner == group.owner).count()
        };
        let nodes = self.network.nodes.keys().copied();
        nodes
            .min_by_key(|node| (count(*node, true), count(*node, false)))
            .ok_or_else(|| LabError::Unknown("node".to_owned()))
    }

    /// The resolver's files for pods of a namespace.
    fn name_service(&self, namespace: &str) -> Result<Vec<(PathBuf, &'static str)>, LabError> {
        let files = crate::visit::resolver_files(&self.folders.state, namespace);
        let search = format!("{namespace}.svc.cluster.local svc.cluster.local cluster.local");
        let text = format!("nameserver {}\nsearch {search}\noptions ndots:5\n", crate::address::DNS.v4);
        let write = |path: &Path, text: &str| {
            // A file that pods look through must stay the same file.
            if path.exists() { Ok(()) } else { std::fs::write(path, text) }
        };
        let texts = [text.as_str(), "passwd: files\ngroup: files\nhosts: files dns\n"];
        for ((file, _seen_at), text) in files.iter().zip(texts) {
            write(file, text).map_err(LabError::system(format!("writing {}", file.display())))?;
        }
        Ok(files)
    }

    /// Whether an object is one of the controller's own and nobody has laid another over it.
    pub(crate) fn owned(&self, document: &Document) -> bool {
        document.place.file.starts_with(self.folders.objects()) && !self.overlay.contains_key(&document.key)
    }

    /// Takes news of a pod in; whether something changed.
    pub(crate) fn hear(&mut self, news: &News) -> bool {
        let (uid, value, change): (_, _, fn(&mut Pod, bool)) = match news {
            News::Ready(uid, value) => (uid, *value, |pod, ready| pod.ready = ready),
            News::Ended(uid, value) => {
                (uid, *value, |pod, well| pod.phase = if well { "Succeeded" } else { "Failed" })
            }
            News::Gone(node, host) => {
                self.addresses.free_pod(*node, *host);
                return false;
            }
        };
        self.pods.get_mut(uid).map(|pod| change(pod, value)).is_some()
    }

    pub(crate) fn backends(&self) -> Vec<Backend> {
        self.pods.values().map(Pod::backend).collect()
    }

    /// Namespaces that must exist, written or not.
    pub(crate) fn namespaces(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<_> =
            self.effective.keys().map(|key| key.namespace.clone()).filter(|name| !name.is_empty()).collect();
        names.extend(["default", "kube-system", "ambit-system"].map(str::to_owned));
        names
    }

    /// Service accounts that must exist: (namespace, name).
    pub(crate) fn accounts(&self) -> BTreeSet<(String, String)> {
        let objects = self.pods.values().map(|pod| &pod.object).chain(&self.system);
        let named = objects.filter_map(|pod| {
            let namespace = text(pod, &["metadata", "namespace"])?;
            Some((namespace.to_owned(), text(pod, &["spec", "serviceAccountName"])?.to_owned()))
        });
        let default = self.namespaces().into_iter().map(|namespace| (namespace, "default".to_owned()));
        default.chain(named).collect()
    }
}

/// Namespace and name in one word.
pub(crate) fn full_name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// Sets labels (or, with `-` at the end of a key, takes them away).
pub(crate) fn relabel(object: &mut Value, changes: &[&str]) -> Result<(), LabError> {
    if at(object, &["metadata", "labels"]).is_none_or(|labels| !labels.is_object()) {
        object["metadata"]["labels"] = serde_json::json!({});
    }
    let Some(labels) = object["metadata"]["labels"].as_object_mut() else { return Ok(()) };
    for change in changes {
        match (change.split_once('='), change.strip_suffix('-')) {
            (Some((key, value)), _) => drop(labels.insert(key.to_owned(), value.into())),
            (None, Some(key)) => drop(labels.remove(key)),
            (None, None) => {
                return Err(LabError::Manifest(format!(
                    "label {change:?}: write key=value, or key- to remove it"
                )));
            }
        }
    }
    Ok(())
}
