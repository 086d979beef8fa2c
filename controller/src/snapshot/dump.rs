//! A snapshot as JSON and back: what the admin port shows, and `ambit explain --live` reads.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Resource, Resources, Snapshot, WaypointResources};
use crate::ca::tokens::Account;

/// A dump that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a controller's snapshot: {0}")]
pub struct DumpError(String);

impl Snapshot {
    /// All of it.
    pub fn dump(&self) -> Value {
        let waypoint = |own: &WaypointResources| {
            json!({
                "account": { "namespace": own.account.namespace, "name": own.account.name },
                "gateway": list(&own.gateway),
                "services": list(&own.services),
                "destinations": list(&own.destinations),
                "workloads": list(&own.workloads),
                "policies": list(&own.policies),
            })
        };
        let waypoints: Map<_, _> =
            self.waypoints.iter().map(|(gateway, own)| (gateway.to_string(), waypoint(own))).collect();
        json!({
            "generation": self.generation,
            "addresses": list(&self.addresses),
            "authorizations": list(&self.authorizations),
            "waypoints": waypoints,
        })
    }

    /// What [`Snapshot::dump`] wrote.
    pub fn from_dump(dump: &Value) -> Result<Self, DumpError> {
        let waypoints = dump["waypoints"].as_object().ok_or_else(|| missing("waypoints"))?;
        let waypoints = waypoints.iter().map(|(gateway, own)| {
            let name =
                |field: &str| Ok(own["account"][field].as_str().ok_or_else(|| missing(field))?.to_owned());
            let own = WaypointResources {
                account: Account { namespace: name("namespace")?, name: name("name")? },
                gateway: resources(own, "gateway")?,
                services: resources(own, "services")?,
                destinations: resources(own, "destinations")?,
                workloads: resources(own, "workloads")?,
                policies: resources(own, "policies")?,
            };
            Ok((Arc::<str>::from(gateway.as_str()), Arc::new(own)))
        });
        Ok(Self {
            generation: dump["generation"].as_u64().ok_or_else(|| missing("generation"))?,
            step: 0,
            addresses: resources(dump, "addresses")?,
            authorizations: resources(dump, "authorizations")?,
            waypoints: waypoints.collect::<Result<_, _>>()?,
        })
    }
}

fn missing(field: &str) -> DumpError {
    DumpError(format!("{field} is missing or has another form"))
}

fn list(resources: &Resources) -> Vec<Value> {
    let one = |one: &Arc<Resource>| json!({ "name": one.name, "aliases": one.aliases, "body": STANDARD.encode(&one.body) });
    resources.values().map(one).collect()
}

fn resources(dump: &Value, field: &str) -> Result<Resources, DumpError> {
    let resources = dump[field].as_array().ok_or_else(|| missing(field))?.iter().map(|one| {
        let name: Arc<str> = one["name"].as_str().ok_or_else(|| missing(field))?.into();
        let aliases = one["aliases"].as_array().ok_or_else(|| missing(field))?;
        let aliases = aliases.iter().filter_map(|alias| alias.as_str().map(str::to_owned)).collect();
        let body = one["body"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let body = body.ok_or_else(|| missing(field))?;
        Ok((name.clone(), Arc::new(Resource::new(name, aliases, body.into()))))
    });
    resources.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Resources {
        let resource = Resource::new(name, vec!["/10.0.0.1".to_owned()], vec![0, 255, 7].into());
        Resources::from_iter([(Arc::from(name), Arc::new(resource))])
    }

    #[test]
    fn what_is_dumped_comes_back() {
        let account = Account { namespace: "shop".to_owned(), name: "waypoint".to_owned() };
        let own = WaypointResources { policies: one("shop/p"), ..WaypointResources::new(account) };
        let snapshot = Snapshot {
            generation: 7,
            step: 0,
            addresses: one("a"),
            authorizations: one("b"),
            waypoints: [(Arc::from("shop/waypoint"), Arc::new(own))].into_iter().collect(),
        };
        assert_eq!(Snapshot::from_dump(&snapshot.dump()), Ok(snapshot));
    }

    #[test]
    fn anything_else_is_refused_and_the_field_named() {
        let error = Snapshot::from_dump(&json!({ "waypoints": {} })).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not a controller's snapshot: generation is missing or has another form"
        );
    }
}
