//! Facts for verdicts about Gateways, bindings, and policies that a waypoint judges.

use std::collections::BTreeSet;

use ambit_crds::authorization_policy::TargetRef;
use ambit_crds::gateway::Gateway;
use ambit_crds::gateway_class::GatewayClass;
use ambit_crds::mesh_config::PolicyPlacement;
use ambit_crds::pod::Pod;
use ambit_crds::service::{Addressing, Service};

use crate::objects::Key;
use crate::status::waypoint::{Bound, Canary, GatewayOutcome, How, Parameters, Ready, Role};
use crate::status::{Fronted, Targets};
use crate::translate::binding::{self, Link, Share, Unbound};
use crate::translate::gateways::{Readiness, Refusal, Standing};
use crate::translate::record::Policies;
use crate::translate::state::State;
use crate::translate::waypoints::resource_name;

impl State {
    /// What became of a Gateway; `None` for those of other classes.
    pub(super) fn gateway_outcome(&self, key: &Key) -> Option<GatewayOutcome> {
        Some(match self.gateways.get(key)? {
            Standing::Refused(refusal) => {
                let (reason, message) = said(refusal);
                GatewayOutcome::Refused(reason, message)
            }
            Standing::Accepted(waypoint) => {
                let mut addresses = vec![self.names.hostname(&key.namespace, &key.name)];
                let service = self.objects.get::<Service>(key).map(Service::addressing);
                if let Some(Addressing::Virtual(ips)) = service {
                    addresses.extend(ips.iter().map(ToString::to_string));
                }
                let role = if waypoint.plain.is_empty() { Role::Waypoint } else { Role::Gateway };
                let parameters = match self.objects.get::<Gateway>(key)?.spec.infrastructure.as_ref() {
                    Some(infrastructure) if infrastructure.parameters_ref.is_some() => Parameters::Asked,
                    _ => Parameters::None,
                };
                let readiness = ready(waypoint.readiness);
                GatewayOutcome::Accepted { role, addresses, readiness, parameters }
            }
        })
    }

    /// What a Service's label came to; `None` without one.
    pub(super) fn bound(&self, key: &Key, service: &Service) -> Option<Bound> {
        let binding = self.labels().service(service);
        let primary = binding.primary.as_ref()?;
        let lead = self.lead(key, service);
        let led = |link: &Link<'_>| lead.0.iter().find(|(gateway, _)| *gateway == link.gateway);
        let how = self.how(primary, &key.namespace, self.requires(key, service));
        let canary = binding.canary.as_ref().map(|link| match (binding.share, led(link)) {
            (Share::SameAsPrimary, _) => Canary::SameAsPrimary,
            (Share::Invalid, _) => Canary::InvalidWeight,
            (_, Some((gateway, share))) => Canary::Led(resource_name(gateway), *share),
            _ => Canary::Unbound(resource_name(&link.gateway)),
        });
        Some(Bound { gateway: resource_name(&primary.gateway), how, canary })
    }

    /// What a pod's own label came to; `None` without one.
    pub(super) fn bound_pod(&self, key: &Key, pod: &Pod) -> Option<Bound> {
        let link = self.labels().pod(pod).filter(|_| binding::names_any(&pod.meta))?;
        let required = self.records.get(key).is_some_and(|record| record.needs_l7);
        let gateway = resource_name(&link.gateway);
        Some(Bound { gateway, how: self.how(&link, &key.namespace, required), canary: None })
    }

    fn how(&self, link: &Link<'_>, namespace: &str, required: bool) -> How {
        let not_ready = if required { How::Closed } else { How::Waiting };
        match link.found {
            Ok(waypoint) if waypoint.readiness.is_used() => How::Led,
            Ok(_) => not_ready,
            // It is being brought up.
            Err(Unbound::Missing) if self.autos.gateway(namespace).as_ref() == Some(&link.gateway) => {
                not_ready
            }
            Err(Unbound::Missing) => How::Missing,
            Err(Unbound::Refused) => How::Refused,
            Err(Unbound::NotAdmitted) => How::NotAdmitted,
            Err(Unbound::OtherTraffic) => How::OtherTraffic,
        }
    }

    /// The waypoint before a Service, if one stands there.
    pub(crate) fn waypoint_before(&self, service: &Key) -> Option<Key> {
        let service = self.objects.get::<Service>(service)?;
        let primary = self.labels().service(service).primary?;
        primary.found.is_ok().then_some(primary.gateway)
    }

    /// Before how many of the pods a policy covers a waypoint stands, and which.
    pub(super) fn fronted(&self, policy: &Key) -> Fronted {
        let mesh_wide = policy.namespace == self.mesh.root;
        let from = if mesh_wide { Key::new("", "") } else { Key::new(&policy.namespace, "") };
        let records = self.records.range(from..);
        let records = records.take_while(|(pod, _)| mesh_wide || pod.namespace == policy.namespace);
        let mut fronted = Fronted::default();
        for (pod, record) in records.filter(|(_, record)| record.applies.contains(policy)) {
            fronted.pods += 1;
            if record.waypoints.is_empty() {
                fronted.bare.insert(pod.namespace.clone());
            }
            fronted.enrolled += usize::from(record.enrolled);
            fronted.behind += usize::from(!record.waypoints.is_empty());
            let names = record.waypoints.iter();
            fronted
                .waypoints
                .extend(names.map(|one| format!("{}/{}", one.namespace(), one.service_account())));
        }
        fronted
    }

    /// The objects a policy is attached to, by what became of each.
    pub(crate) fn targets(&self, key: &Key, targets: &[TargetRef]) -> Targets {
        let mut sorted = Targets::default();
        for target in targets {
            let elsewhere =
                target.namespace.as_ref().is_some_and(|one| !one.is_empty() && *one != key.namespace);
            let name = format!("{} {}", target.kind, target.name);
            match target.kind.as_str() {
                _ if elsewhere => sorted.missing.push(name),
                "Service" => self.service_target(key, target, &mut sorted),
                "Gateway" => self.gateway_target(key, target, &mut sorted),
                "GatewayClass" => self.class_target(key, target, &mut sorted),
                _ => sorted.others.push(name),
            }
        }
        sorted
    }

    fn service_target(&self, key: &Key, target: &TargetRef, sorted: &mut Targets) {
        let service = Key::new(&key.namespace, &target.name);
        let name = format!("Service {}", target.name);
        let Some(object) = self.objects.get::<Service>(&service) else {
            sorted.missing.push(name);
            return;
        };
        match self.waypoint_before(&service) {
            Some(waypoint) => {
                sorted.bound.insert(resource_name(&waypoint));
            }
            None if Policies::waived(object) => sorted.waived.push(name),
            // Under Istio's placement a missing waypoint closes nothing.
            None if self.mesh.placement == PolicyPlacement::Istio => sorted.others.push(name),
            None => sorted.services.push(target.name.clone()),
        }
    }

    fn gateway_target(&self, key: &Key, target: &TargetRef, sorted: &mut Targets) {
        let gateway = Key::new(&key.namespace, &target.name);
        let name = format!("Gateway {}", target.name);
        match self.gateways.get(&gateway) {
            Some(Standing::Accepted(_)) => {
                sorted.bound.insert(resource_name(&gateway));
            }
            Some(Standing::Refused(_)) => sorted.others.push(name),
            None if self.objects.get::<Gateway>(&gateway).is_some() => {
                sorted.others.push(name);
            }
            None => sorted.missing.push(name),
        }
    }

    fn class_target(&self, key: &Key, target: &TargetRef, sorted: &mut Targets) {
        let name = format!("GatewayClass {}", target.name);
        if key.namespace != self.mesh.root {
            sorted.others.push(format!("{name} (only policies of {} can be attached to it)", self.mesh.root));
        } else if self.serves_class(&target.name) {
            let all = self.gateways.iter().filter_map(|(key, one)| Some((key, one.waypoint()?)));
            let of_class: BTreeSet<String> = all
                .filter(|(_, waypoint)| waypoint.class == target.name)
                .map(|(key, _)| resource_name(key))
                .collect();
            if of_class.is_empty() {
                sorted.others.push(name);
            }
            sorted.bound.extend(of_class);
        } else if self.objects.get::<GatewayClass>(&Key::new("", &target.name)).is_some() {
            sorted.others.push(name);
        } else {
            sorted.missing.push(name);
        }
    }
}

fn ready(readiness: Readiness) -> Ready {
    match (readiness.ready, readiness.programmed, readiness.down) {
        (true, _, _) => Ready::Yes,
        (false, false, _) => Ready::Never,
        (false, true, false) => Ready::NotNow,
        (false, true, true) => Ready::Down,
    }
}

fn said(refusal: &Refusal) -> (&'static str, String) {
    match refusal {
        Refusal::Listeners(why) => ("ListenersNotValid", why.clone()),
        Refusal::Addresses => (
            "UnsupportedAddress",
            "spec.addresses names a proxy that somebody else runs; remove it".to_owned(),
        ),
        Refusal::Taken(object) => (
            "Invalid",
            format!(
                "{object} is not ours, and what we deploy would have its name; rename the Gateway or that object"
            ),
        ),
        Refusal::Name(why) => ("Invalid", why.clone()),
    }
}
