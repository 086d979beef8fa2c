//! Host names as routes write them: short ones are of the object's own namespace, wildcards stand for suffixes.

use std::cmp::Ordering;

use ambit_crds::service::Service;

use super::Context;
use crate::objects::Key;
use crate::translate::names::Names;
use crate::translate::service::is_served;

/// Which names a host stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// One name.
    Exact(String),
    /// Every name with this ending; the empty one is `*`.
    Suffix(String),
}

/// How closely a host names a Service; the closest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closeness {
    /// By its own name.
    Exact,
    /// By an ending of so many bytes.
    Suffix(usize),
}

impl Host {
    /// As an object of `namespace` writes it: a name without a dot belongs to that namespace, any other is literal.
    pub(crate) fn new(text: &str, namespace: &str, names: &Names) -> Self {
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some(suffix) => Self::Suffix(suffix.to_owned()),
            None if !text.contains(['.', ':']) => Self::Exact(names.hostname(namespace, &text)),
            None => Self::Exact(text),
        }
    }

    /// How closely it names a host, if it does.
    pub(crate) fn closeness(&self, hostname: &str) -> Option<Closeness> {
        match self {
            Self::Exact(name) => (name == hostname).then_some(Closeness::Exact),
            Self::Suffix(suffix) => hostname.ends_with(suffix).then_some(Closeness::Suffix(suffix.len())),
        }
    }

    /// The Service it names, whether or not that exists; nothing for other names.
    pub(crate) fn key(&self, names: &Names) -> Option<Key> {
        let Self::Exact(name) = self else { return None };
        let rest = name.strip_suffix(&names.domain)?.strip_suffix(".svc.")?;
        let (service, namespace) = rest.split_once('.')?;
        (!service.is_empty() && !namespace.is_empty() && !namespace.contains('.'))
            .then(|| Key::new(namespace, service))
    }
}

impl Ord for Closeness {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Exact, Self::Exact) => Ordering::Equal,
            (Self::Exact, Self::Suffix(_)) => Ordering::Less,
            (Self::Suffix(_), Self::Exact) => Ordering::Greater,
            (Self::Suffix(own), Self::Suffix(other)) => other.cmp(own),
        }
    }
}

impl PartialOrd for Closeness {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Context<'a> {
    /// A Service that the mesh carries traffic to.
    pub(crate) fn served(&self, key: &Key) -> Option<&'a Service> {
        self.objects.get::<Service>(key).filter(|service| is_served(service))
    }

    /// A Service's host name.
    pub(crate) fn hostname(&self, service: &Key) -> String {
        self.names.hostname(&service.namespace, &service.name)
    }

    /// The Services that any of the hosts names.
    pub(crate) fn named<'h>(&self, hosts: impl Iterator<Item = &'h Host>) -> Vec<Key> {
        let mut found = Vec::new();
        for host in hosts {
            if let Host::Suffix(_) = host {
                let all = self.objects.all::<Service>().map(|(key, _)| key);
                found.extend(all.filter(|key| host.closeness(&self.hostname(key)).is_some()).cloned());
            } else {
                found.extend(host.key(self.names));
            }
        }
        found
    }
}

/// Whether an object of namespace `own` that says `exportTo` is seen from another one.
pub(crate) fn is_exported(export_to: &[String], own: &str, viewer: &str) -> bool {
    own == viewer || export_to.is_empty() || export_to.iter().any(|to| to == "*" || to == viewer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_dot_are_of_the_own_namespace_and_others_are_literal() {
        let table = [
            ("web", Some(("shop", "web")), true),
            ("Web", Some(("shop", "web")), true),
            ("web.shop.svc.cluster.local", Some(("shop", "web")), true),
            ("web.shop.svc.cluster.local.", Some(("shop", "web")), true),
            ("web.other.svc.cluster.local", Some(("other", "web")), false),
            ("web.shop", None, false),
            ("web.shop.svc", None, false),
            ("a.web.shop.svc.cluster.local", None, false),
            ("*.shop.svc.cluster.local", None, true),
            ("*.svc.cluster.local", None, true),
            ("*", None, true),
            ("*.example.com", None, false),
            ("10.0.0.1", None, false),
            ("fd00::1", None, false),
        ];
        let names = Names::default();
        for (text, key, matches) in table {
            let host = Host::new(text, "shop", &names);
            let key = key.map(|(namespace, name)| Key::new(namespace, name));
            assert_eq!(host.key(&names), key, "{text}");
            let close = host.closeness("web.shop.svc.cluster.local");
            assert_eq!(close.is_some(), matches, "{text}");
        }
    }

    #[test]
    fn the_exact_name_is_closest_then_the_longest_ending() {
        let close = |text: &str| {
            Host::new(text, "shop", &Names::default()).closeness("web.shop.svc.cluster.local").unwrap()
        };
        assert!(close("web") < close("*.shop.svc.cluster.local"));
        assert!(close("*.shop.svc.cluster.local") < close("*.svc.cluster.local"));
        assert!(close("*.svc.cluster.local") < close("*"));
    }

    #[test]
    fn an_object_is_seen_at_home_and_where_it_is_exported_to() {
        let list = |texts: &[&str]| texts.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        for (export_to, viewer, seen) in [
            (list(&[]), "b", true),
            (list(&["*"]), "b", true),
            (list(&["."]), "b", false),
            (list(&["."]), "a", true),
            (list(&["b", "c"]), "b", true),
            (list(&["c"]), "b", false),
            (list(&["c"]), "a", true),
        ] {
            assert_eq!(is_exported(&export_to, "a", viewer), seen, "{export_to:?} from {viewer}");
        }
    }
}
