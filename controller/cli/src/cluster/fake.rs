//! An API server in memory: objects by path, refusals that a test asks for, and a log of what was called.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use super::{Api, Refused, Verb, kinds, whose};
use crate::chart;

/// The server; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    refusals: BTreeMap<String, Refused>,
    version: u64,
    calls: Vec<String>,
}

impl Fake {
    /// A server with these objects.
    pub(crate) fn with(objects: &[Value]) -> Self {
        let fake = Self::default();
        objects.iter().for_each(|object| fake.put(object));
        fake
    }

    /// Puts an object there as somebody else would.
    pub(crate) fn put(&self, object: &Value) {
        let (kind, namespace, name) = whose(object).expect("a kind that ambit works with");
        self.store(&kind.path(namespace, name), object.clone());
    }

    /// Answers a path like this from now on.
    pub(crate) fn answer(&self, path: &str, body: Value) {
        self.inner.borrow_mut().objects.insert(path.to_owned(), body);
    }

    /// Refuses writes to a path from now on.
    pub(crate) fn refuse(&self, path: &str, code: u16, says: &str) {
        let refused = Refused { code, says: says.to_owned() };
        self.inner.borrow_mut().refusals.insert(path.to_owned(), refused);
    }

    /// What stands at a path.
    pub(crate) fn at(&self, path: &str) -> Option<Value> {
        self.inner.borrow().objects.get(path).cloned()
    }

    /// The calls that were no reading, in order.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.inner.borrow().calls.clone()
    }

    fn store(&self, path: &str, mut object: Value) -> Value {
        let mut inner = self.inner.borrow_mut();
        let before = inner.objects.get(path).cloned();
        let bare = |object: &Value| {
            let mut object = object.clone();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
                metadata.remove("uid");
            }
            object
        };
        match before {
            Some(before) if bare(&before) == bare(&object) => return before,
            Some(before) => object["metadata"]["uid"] = before["metadata"]["uid"].clone(),
            None => object["metadata"]["uid"] = json!(format!("uid of {path}")),
        }
        inner.version += 1;
        object["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        inner.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn list(&self, path: &str) -> Value {
        let (path, selector) = path.split_once("?labelSelector=").unwrap_or((path, ""));
        let selector = selector.replace("%3D", "=").replace("%2C", ",");
        let wanted: Vec<(&str, &str)> = selector.split(',').filter_map(|one| one.split_once('=')).collect();
        let (root, plural) = path.rsplit_once('/').unwrap_or(("", path));
        let inner = self.inner.borrow();
        let fits = |(held, object): &(&String, &Value)| {
            let inside = held.starts_with(root) && held.rsplit('/').nth(1) == Some(plural);
            inside && wanted.iter().all(|(key, value)| object["metadata"]["labels"][*key] == *value)
        };
        let bare = |(_, object): (&String, &Value)| {
            let mut object = object.clone();
            // As API servers do.
            for field in ["apiVersion", "kind"] {
                object.as_object_mut().and_then(|object| object.remove(field));
            }
            object
        };
        json!({ "items": inner.objects.iter().filter(fits).map(bare).collect::<Vec<_>>() })
    }
}

impl Api for Fake {
    fn call(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Refused> {
        let gone = || Refused { code: 404, says: format!("{path} not found") };
        if verb == Verb::Get {
            let (bare, _) = path.split_once('?').unwrap_or((path, ""));
            let is_list = kinds::ALL.iter().any(|kind| bare.rsplit('/').next() == Some(kind.plural()));
            return match self.at(path) {
                Some(object) => Ok(object),
                None if is_list => Ok(self.list(path)),
                None => Err(gone()),
            };
        }
        self.inner.borrow_mut().calls.push(format!("{verb:?} {path}"));
        if let Some(refused) = self.inner.borrow().refusals.get(path) {
            return Err(refused.clone());
        }
        let body = body.cloned().unwrap_or_default();
        match verb {
            Verb::Delete => self.inner.borrow_mut().objects.remove(path).ok_or_else(gone),
            Verb::Post => Ok(self.store(&format!("{path}/{}", super::name(&body)), body)),
            Verb::Merge | Verb::Apply | Verb::ApplyForced => {
                let mut object = match (self.at(path), verb) {
                    (Some(object), _) => object,
                    (None, Verb::Merge) => return Err(gone()),
                    (None, _) => Value::Null,
                };
                chart::lay(body, &mut object);
                Ok(self.store(path, object))
            }
            Verb::Get => Err(gone()),
        }
    }
}
