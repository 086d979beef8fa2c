//! The ConfigMap with the mesh's root certificates, in every namespace whose pods need it: made and mended by the leader, and
//! never taken from another control plane, which uses the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;
use std::time::Duration;

use ambit_process::backoff::Backoff;
use ambit_process::spawn::spawn;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::own::{self, MANAGED_BY};
use super::writer::request_failed;

/// Its name, as everywhere in Istio's world.
pub const NAME: &str = "istio-ca-root-cert";
/// The key of the certificates.
const KEY: &str = "root-cert.pem";
/// First and longest wait after a failure.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));

/// Where the roots have to be.
pub struct Roots {
    /// The way to the API server.
    pub client: Client,
    /// Our name as a writer of fields.
    pub writer: String,
    /// Whether this process is the one that writes.
    pub leading: watch::Receiver<bool>,
    /// The namespaces; `None` until they are known.
    pub namespaces: watch::Receiver<Option<BTreeSet<String>>>,
    /// The roots, PEM.
    pub pem: String,
}

/// One that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    uid: String,
    is_ours: bool,
    is_right: bool,
}

/// What is to be done in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Make,
    Mend(String),
    Remove(String),
    /// It is somebody else's.
    Leave,
}

impl Roots {
    /// Looks after them until the process ends. Must be called within a runtime.
    pub fn keep(self) {
        spawn("root certificates", self.run());
    }

    async fn run(mut self) {
        let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let all: Api<ConfigMap> = Api::all(self.client.clone());
        let mut stream = pin!(watcher::watcher(all, config));
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let (mut held, mut listing) = (BTreeMap::new(), BTreeMap::new());
        let (mut is_listed, mut left) = (false, BTreeSet::new());
        let mut again = None;
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    None => return,
                    Some(Ok(Event::Init)) => listing.clear(),
                    Some(Ok(Event::InitApply(one))) => self.note(&mut listing, &one),
                    Some(Ok(Event::InitDone)) => {
                        held = std::mem::take(&mut listing);
                        is_listed = true;
                        backoff.reset();
                    }
                    Some(Ok(Event::Apply(one))) => self.note(&mut held, &one),
                    Some(Ok(Event::Delete(one))) => drop(held.remove(&one.namespace().unwrap_or_default())),
                    Some(Err(error)) => {
                        tracing::debug!(%error, "cannot follow ConfigMaps; what is there stays");
                        tokio::time::sleep(backoff.delay()).await;
                    }
                },
                changed = self.namespaces.changed() => if changed.is_err() { return },
                changed = self.leading.changed() => if changed.is_err() { return },
                () = wait(again) => {}
            }
            let wanted = self.namespaces.borrow_and_update().clone();
            let (Some(wanted), true, true) = (wanted, is_listed, *self.leading.borrow_and_update()) else {
                continue;
            };
            let failed = self.settle(plan(&wanted, &held), &mut held, &mut left).await;
            again = failed.then(|| backoff.delay());
        }
    }

    fn note(&self, held: &mut BTreeMap<String, Held>, one: &ConfigMap) {
        let is_ours = one.labels().get(MANAGED_BY.0).map(String::as_str) == Some(MANAGED_BY.1);
        let is_right = one.data.as_ref().and_then(|data| data.get(KEY)) == Some(&self.pem);
        let uid = one.uid().unwrap_or_default();
        held.insert(one.namespace().unwrap_or_default(), Held { uid, is_ours, is_right });
    }

    /// Takes the steps; whether one has to be taken again.
    async fn settle(
        &self,
        steps: Vec<(String, Step)>,
        held: &mut BTreeMap<String, Held>,
        left: &mut BTreeSet<String>,
    ) -> bool {
        let mut has_failed = false;
        for (namespace, step) in steps {
            if step == Step::Leave {
                if left.insert(namespace.clone()) {
                    tracing::warn!(
                        namespace,
                        "ConfigMap {NAME} is another control plane's and is left alone: waypoints there do not trust this \
                         mesh; take the namespace out of one of the two"
                    );
                }
                continue;
            }
            left.remove(&namespace);
            match self.take(&namespace, &step).await {
                Ok(now) => {
                    match now {
                        Some(now) => held.insert(namespace, now),
                        None => held.remove(&namespace),
                    };
                }
                // The namespace is going or gone; the next change of namespaces tells.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
                {
                    tracing::debug!(%error, "the root certificates are not written");
                    has_failed = true;
                }
                Err(error) => {
                    tracing::warn!(%error, "the root certificates could not be written");
                    has_failed = true;
                }
            }
        }
        has_failed
    }

    /// Takes one step; what is there afterwards.
    async fn take(&self, namespace: &str, step: &Step) -> io::Result<Option<Held>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let failed = |error| request_failed(&format!("ConfigMap {namespace}/{NAME}"), error);
        let ours =
            |one: ConfigMap| Held { uid: one.uid().unwrap_or_default(), is_ours: true, is_right: true };
        match step {
            Step::Make => {
                let metadata = ObjectMeta {
                    name: Some(NAME.to_owned()),
                    labels: Some(own::labels()),
                    ..ObjectMeta::default()
                };
                let data = BTreeMap::from([(KEY.to_owned(), self.pem.clone())]);
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                let parameters =
                    PostParams { field_manager: Some(self.writer.clone()), ..PostParams::default() };
                maps.create(&parameters, &map).await.map(|one| Some(ours(one))).map_err(failed)
            }
            Step::Mend(uid) => {
                // The UID makes the server refuse a successor of the same name.
                let body = json!({ "metadata": { "uid": uid }, "data": { (KEY): self.pem } });
                let parameters =
                    PatchParams { field_manager: Some(self.writer.clone()), ..PatchParams::default() };
                maps.patch(NAME, &parameters, &Patch::Merge(body))
                    .await
                    .map(|one| Some(ours(one)))
                    .map_err(failed)
            }
            Step::Remove(uid) => {
                let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let parameters =
                    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                match maps.delete(NAME, &parameters).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                    gone => gone.map(|_| None).map_err(failed),
                }
            }
            Step::Leave => Ok(None),
        }
    }
}

async fn wait(again: Option<Duration>) {
    match again {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// What has to be done so that the roots are where they are wanted, and nowhere else by our hand.
fn plan(wanted: &BTreeSet<String>, held: &BTreeMap<String, Held>) -> Vec<(String, Step)> {
    let needed = wanted.iter().filter_map(|namespace| {
        let step = match held.get(namespace) {
            None => Step::Make,
            Some(Held { is_right: true, .. }) => return None,
            Some(Held { is_ours: true, uid, .. }) => Step::Mend(uid.clone()),
            Some(Held { is_ours: false, .. }) => Step::Leave,
        };
        Some((namespace.clone(), step))
    });
    let superfluous = held.iter().filter(|(namespace, one)| one.is_ours && !wanted.contains(*namespace));
    let superfluous = superfluous.map(|(namespace, one)| (namespace.clone(), Step::Remove(one.uid.clone())));
    needed.chain(superfluous).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_where_they_are_wanted_and_others_are_left_alone() {
        let held = |is_ours, is_right| Held { uid: "u".to_owned(), is_ours, is_right };
        let mend = || Some(Step::Mend("u".to_owned()));
        let remove = || Some(Step::Remove("u".to_owned()));
        let table = [
            (true, None, Some(Step::Make)),
            (true, Some(held(true, true)), None),
            (true, Some(held(true, false)), mend()),
            (true, Some(held(false, false)), Some(Step::Leave)),
            // Somebody else keeps the same roots there: nothing to say.
            (true, Some(held(false, true)), None),
            (false, None, None),
            (false, Some(held(true, true)), remove()),
            (false, Some(held(true, false)), remove()),
            (false, Some(held(false, false)), None),
        ];
        for (is_wanted, held, expected) in table {
            let wanted: BTreeSet<String> = is_wanted.then(|| "shop".to_owned()).into_iter().collect();
            let there = held.clone().map(|held| ("shop".to_owned(), held)).into_iter().collect();
            let steps: Vec<Step> = plan(&wanted, &there).into_iter().map(|(_, step)| step).collect();
            assert_eq!(steps, Vec::from_iter(expected), "wanted: {is_wanted}, held: {held:?}");
        }
    }
}
