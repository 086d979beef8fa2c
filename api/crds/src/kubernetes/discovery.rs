//! Which kinds the cluster serves, and in which version: asked again and again, since definitions come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::backoff::Backoff;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use tokio::sync::watch;

use crate::kind::Kind;

/// Between two questions.
const POLL: Duration = Duration::from_secs(10);
/// First and longest wait after a failed question.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// One answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    /// Counts the answers; 0 before the first.
    pub(super) round: u64,
    /// The last look that was asked for before this answer.
    pub(super) ticket: u64,
    /// Where each kind is found.
    pub(super) kinds: BTreeMap<Kind, ApiResource>,
}

/// Asks for as long as somebody listens, and at once for every new ticket.
pub(super) async fn run(
    client: Client,
    wanted: Vec<Kind>,
    mut tickets: watch::Receiver<u64>,
    answers: watch::Sender<Arc<Served>>,
) {
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    loop {
        let ticket = *tickets.borrow_and_update();
        let wait = match ask(&client, &wanted).await {
            Ok(kinds) => {
                backoff.reset();
                let round = answers.borrow().round + 1;
                answers.send_replace(Arc::new(Served { round, ticket, kinds }));
                POLL
            }
            Err(error) => {
                tracing::warn!(%error, "cannot ask the API server what it serves");
                backoff.delay()
            }
        };
        tokio::select! {
            () = answers.closed() => return,
            () = tokio::time::sleep(wait) => {}
            Ok(()) = tickets.changed() => {}
        }
    }
}

/// Where each wanted kind that is served is found, by the first of its versions that is.
async fn ask(client: &Client, wanted: &[Kind]) -> kube::Result<BTreeMap<Kind, ApiResource>> {
    let mut versions: BTreeMap<String, Vec<String>> =
        BTreeMap::from([(String::new(), vec!["v1".to_owned()])]);
    for group in client.list_api_groups().await?.groups {
        versions.insert(group.name, group.versions.into_iter().map(|one| one.version).collect());
    }
    let mut lists: BTreeMap<String, APIResourceList> = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for kind in wanted {
        for version in candidates(*kind, &versions) {
            let gvk = GroupVersionKind::gvk(kind.group(), version, kind.name());
            let api_version = gvk.api_version();
            if !lists.contains_key(&api_version) {
                lists.insert(api_version.clone(), resources(client, &api_version).await?);
            }
            // Subresources have the kind's name too, and a path below it.
            let is_it = |one: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource| {
                one.kind == kind.name() && !one.name.contains('/')
            };
            if let Some(one) = lists[&api_version].resources.iter().find(is_it) {
                kinds.insert(*kind, ApiResource::from_gvk_with_plural(&gvk, &one.name));
                break;
            }
        }
    }
    Ok(kinds)
}

/// The versions to look for a kind in: those we read, in our order; any that are served where we do not mind.
fn candidates(kind: Kind, served: &BTreeMap<String, Vec<String>>) -> Vec<&str> {
    let Some(served) = served.get(kind.group()) else {
        return Vec::new();
    };
    match kind.versions() {
        [] => served.iter().map(String::as_str).collect(),
        known => known.iter().copied().filter(|known| served.iter().any(|one| one == known)).collect(),
    }
}

async fn resources(client: &Client, api_version: &str) -> kube::Result<APIResourceList> {
    let list = match api_version {
        "v1" => client.list_core_api_resources("v1").await,
        other => client.list_api_group_resources(other).await,
    };
    match list {
        // Gone since the groups were listed.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(APIResourceList::default()),
        list => list,
    }
}
