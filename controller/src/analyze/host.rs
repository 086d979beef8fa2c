//! VirtualServices against one another, and the Gateways that they name.

use std::collections::BTreeMap;

use ambit_crds::code::Code;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::virtual_service::{MESH_GATEWAY, VirtualService};

use super::{Context, Report};
use crate::objects::Key;
use crate::translate::routes::{Host, is_of_mesh};

impl<'a> Context<'a> {
    /// The VirtualServices of each host as one namespace sees it, oldest first.
    fn hosts(&self) -> &BTreeMap<String, Vec<&'a Key>> {
        self.hosts.get_or_init(|| {
            let mut all: Vec<(&Key, &VirtualService)> = self.state.objects.all::<VirtualService>().collect();
            all.sort_by_key(|(key, one)| (one.meta.creation.clone(), *key));
            let mut hosts: BTreeMap<String, Vec<&Key>> = BTreeMap::new();
            for (key, one) in all.into_iter().filter(|(_, one)| is_of_mesh(&one.spec.gateways)) {
                for host in &one.spec.hosts {
                    hosts.entry(self.seen(key, host)).or_default().push(key);
                }
            }
            hosts
        })
    }

    /// A host as an object of a namespace means it. Objects of other namespaces than the Service's and the waypoint's do not
    /// meet, so only those of one namespace are compared.
    fn seen(&self, key: &Key, host: &str) -> String {
        format!("{}/{:?}", key.namespace, Host::new(host, &key.namespace, &self.state.names))
    }
}

pub(super) fn check(ctx: &Context<'_>, one: &VirtualService, report: &mut Report) {
    let key = Key::of(&one.meta);
    if is_of_mesh(&one.spec.gateways) {
        for (at, host) in one.spec.hosts.iter().enumerate() {
            let sharing = ctx.hosts().get(&ctx.seen(&key, host)).map_or(&[][..], Vec::as_slice);
            let Some(oldest) = sharing.first().filter(|oldest| ***oldest != key) else { continue };
            let message = format!(
                "VirtualService {}/{} has rules for this host too and is older, so its rules come first",
                oldest.namespace, oldest.name
            );
            let mend = "put the rules of one host into one VirtualService";
            report.warning(Code::HostShared, &format!("spec.hosts[{at}]"), message, mend);
        }
    }
    for (at, gateway) in one.spec.gateways.iter().enumerate() {
        let (namespace, name) = gateway.split_once('/').unwrap_or((&key.namespace, gateway));
        let object = ObjectRef::new(Kind::IstioGateway, namespace, name);
        if gateway != MESH_GATEWAY && ctx.state.objects.any(&object).is_none() {
            let message = format!("there is no Gateway {namespace}/{name} of networking.istio.io here");
            let mend = "correct the name; nothing to do if it is written elsewhere";
            report.warning(Code::GatewayMissing, &format!("spec.gateways[{at}]"), message, mend);
        }
    }
}
