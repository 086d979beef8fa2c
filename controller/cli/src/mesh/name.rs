//! Names as people write them, to the objects they mean.

use std::collections::BTreeSet;

use ambit_crds::kind::Kind;
use ambit_crds::object::Object;

use super::Mesh;
use crate::failure::Failure;

/// Names that are suggested in place of one that is none.
const SUGGESTED: usize = 8;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A pod: by its name, or by its Deployment's or StatefulSet's if that has only one.
    Pod,
    /// A Service.
    Service,
    /// Either.
    Either,
}

/// A pod or a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// `Pod` or `Service`.
    pub(crate) kind: Kind,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl Sought {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Pod => &[Kind::Pod],
            Self::Service => &[Kind::Service],
            Self::Either => &[Kind::Pod, Kind::Service],
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "Service",
            Self::Either => "pod or Service",
        }
    }
}

impl Found {
    /// `namespace/name`.
    pub(crate) fn full(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// With its kind, as commands take it.
    pub(crate) fn told(&self) -> String {
        format!("{} {}", self.kind.name().to_lowercase(), self.full())
    }
}

impl Mesh {
    /// The one thing that words mean: `NAME`, which must be unique, or `NAMESPACE/NAME`. `command` is what to ask instead
    /// when they mean none or several.
    pub(crate) fn find(
        &self,
        words: &str,
        sought: Sought,
        command: &dyn Fn(&Found) -> String,
    ) -> Result<Found, Failure> {
        let (namespace, name) = match words.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, words),
        };
        let here = |one: &Found| namespace.is_none_or(|namespace| one.namespace == namespace);
        let named: Vec<Found> = self.known(sought, |own, _| own == name).filter(here).collect();
        let found = match (named.is_empty(), sought) {
            (true, Sought::Pod | Sought::Either) => {
                self.known(Sought::Pod, |_, owner| owner == Some(name)).filter(here).collect()
            }
            _ => named,
        };
        match found.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(self.unknown((namespace, name), sought, command)),
            [first, ..] => {
                let says = format!("{words} may be any of {} ({})", found.len(), list(&found));
                Err(Failure::new(says, command(first)))
            }
        }
    }

    fn unknown(
        &self,
        (namespace, name): (Option<&str>, &str),
        sought: Sought,
        command: &dyn Fn(&Found) -> String,
    ) -> Failure {
        let place = namespace.map(|one| format!(" in namespace {one}")).unwrap_or_default();
        let says = format!("there is no {} {name}{place}", sought.words());
        let here = |one: &Found| namespace.is_none_or(|namespace| one.namespace == namespace);
        let elsewhere = || self.known(sought, |own, _| own == name).collect();
        let alike = |own: &str, _: Option<&str>| own.starts_with(name) || name.starts_with(own);
        let similar = || self.known(sought, alike).filter(here).collect();
        let neighbours = || self.known(sought, |_, _| namespace.is_some()).filter(here).collect();
        let sets: [&dyn Fn() -> BTreeSet<Found>; 3] = [&elsewhere, &similar, &neighbours];
        let known = sets.iter().map(|set| set()).find(|set| !set.is_empty()).unwrap_or_default();
        let known: Vec<Found> = known.into_iter().collect();
        match (known.first(), namespace) {
            (Some(first), _) => Failure::new(format!("{says} (there is {})", list(&known)), command(first)),
            (None, Some(namespace)) => Failure::new(
                says,
                format!("namespace {namespace} holds none; name another one: NAMESPACE/NAME"),
            ),
            (None, None) => Failure::new(says, "name its namespace too: NAMESPACE/NAME"),
        }
    }

    /// Pods and Services whose name and owner's name are as wanted.
    fn known<'a>(
        &'a self,
        sought: Sought,
        wanted: impl Fn(&str, Option<&str>) -> bool + 'a,
    ) -> impl Iterator<Item = Found> + 'a {
        let all = sought.kinds().iter().flat_map(|kind| self.all(*kind));
        all.filter(move |object| wanted(&object.meta().name, owner(object))).map(|object| Found {
            kind: object.kind(),
            namespace: object.meta().namespace.clone(),
            name: object.meta().name.clone(),
        })
    }
}

fn list(found: &[Found]) -> String {
    let told: Vec<String> = found.iter().take(SUGGESTED).map(Found::told).collect();
    let more = if found.len() > SUGGESTED { ", …" } else { "" };
    told.join(", ") + more
}

/// The Deployment or StatefulSet of a pod; a ReplicaSet is named after its Deployment and a hash.
fn owner(object: &Object) -> Option<&str> {
    let Object::Pod(pod) = object else { return None };
    let owner = pod.meta.owner.as_ref()?;
    let hash = pod.meta.label("pod-template-hash");
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    Some(deployment.unwrap_or(&owner.name))
}
