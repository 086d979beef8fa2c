//! What pods and Services have in common: policies and who enforces them, waypoints and how they are, conditions.

use std::collections::BTreeSet;

use ambit_crds::authorization_policy::Action;
use ambit_crds::kind::{Kind, Standing as KindStanding};
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;
use ambit_crds::status::{Condition, ConditionStatus};
use controller::objects::Key;
use controller::translate::about::{Attached, Pod, Service, Standing};
use serde::Serialize;

use crate::mesh::Mesh;
use crate::output::{Page, Row, Table};

/// A policy that concerns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyRow {
    /// `S` of a pod, `T` of a Service.
    layer: &'static str,
    policy: String,
    action: String,
    standing: &'static str,
    enforced_by: String,
}

/// A waypoint that may stand before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaypointRow {
    gateway: String,
    ready: bool,
    state: String,
}

/// What is said of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConditionRow {
    object: String,
    condition: String,
    reason: String,
    message: String,
}

impl Row for PolicyRow {
    const HEAD: &'static [&'static str] = &["LAYER", "POLICY", "ACTION", "STATE", "ENFORCED BY"];

    fn cells(&self) -> Vec<String> {
        let cells = [self.layer, &self.policy, &self.action, self.standing, &self.enforced_by];
        cells.map(str::to_owned).to_vec()
    }
}

impl Row for WaypointRow {
    const HEAD: &'static [&'static str] = &["WAYPOINT", "READY", "STATE"];

    fn cells(&self) -> Vec<String> {
        let ready = if self.ready { "yes" } else { "no" };
        [self.gateway.as_str(), ready, &self.state].map(str::to_owned).to_vec()
    }
}

impl Row for ConditionRow {
    const HEAD: &'static [&'static str] = &["OBJECT", "CONDITION", "REASON", "MESSAGE"];

    fn cells(&self) -> Vec<String> {
        [&self.object, &self.condition, &self.reason, &self.message].map(String::clone).to_vec()
    }
}

/// A section with a table, or the word for none.
pub(super) fn section<R: Row>(page: &mut Page, heading: &str, rows: &[R], none: &str) {
    match (rows, none) {
        ([], "") => {}
        ([], none) => page.section(heading, |page| page.line(none)),
        (rows, _) => page.section(heading, |page| page.table(&Table::of(rows))),
    }
}

impl Mesh {
    /// S of a pod.
    pub(super) fn endpoint_policies(&self, about: &Pod, node: &str) -> Vec<PolicyRow> {
        let waypoints: Vec<String> = about
            .waypoints
            .iter()
            .map(|one| format!("{}/{}", one.namespace(), one.service_account()))
            .collect();
        let by = |attached: &Attached| match (waypoints.as_slice(), attached.beyond_ztunnel) {
            _ if !about.enrolled => "nobody: the pod is not in the mesh".to_owned(),
            ([], false) => format!("ztunnel of {node}"),
            ([], true) => format!("ztunnel of {node}, closed where only a waypoint could judge"),
            (waypoints, _) => {
                format!("waypoint {}; ztunnel of {node} for other callers", waypoints.join(", "))
            }
        };
        about.policies.iter().map(|attached| self.row("S", attached, &by)).collect()
    }

    /// T of a Service.
    pub(super) fn target_policies(&self, about: &Service) -> Vec<PolicyRow> {
        let by = |_: &Attached| match (&about.waypoint, about.locked) {
            (Some(waypoint), _) => format!("waypoint {}", full(waypoint)),
            (None, Some(_)) => "nobody: no waypoint is named, so everyone is refused".to_owned(),
            (None, None) => "nobody: no waypoint is named".to_owned(),
        };
        about.policies.iter().map(|attached| self.row("T", attached, &by)).collect()
    }

    fn row(&self, layer: &'static str, attached: &Attached, by: &dyn Fn(&Attached) -> String) -> PolicyRow {
        let object = &attached.policy;
        let (standing, enforced_by) = match attached.standing {
            Standing::Enforced => ("enforced", by(attached)),
            Standing::DryRun => ("dry run", "nobody: it is counted only".to_owned()),
            Standing::Audit => ("audit", "nobody: it only marks for an audit log".to_owned()),
            Standing::Invalid => ("invalid, closes", by(attached)),
        };
        let action = match self.objects.get(object).map(|object| &**object) {
            Some(Object::AuthorizationPolicy(policy)) => match policy.spec.action {
                Action::Allow => "ALLOW",
                Action::Deny => "DENY",
                Action::Audit => "AUDIT",
                Action::Custom { .. } => "CUSTOM",
            },
            _ => "-",
        };
        PolicyRow {
            layer,
            policy: format!("{}/{}", object.namespace, object.name),
            action: action.to_owned(),
            standing,
            enforced_by,
        }
    }

    /// How waypoints are, as their Gateways say.
    pub(super) fn waypoint_rows<'a>(&self, gateways: impl Iterator<Item = &'a Key>) -> Vec<WaypointRow> {
        let gateways: BTreeSet<&Key> = gateways.collect();
        let rows = gateways.into_iter().map(|gateway| {
            let object = ObjectRef::new(Kind::Gateway, &gateway.namespace, &gateway.name);
            let conditions = self.conditions.get(&object).map(Vec::as_slice).unwrap_or_default();
            let programmed = conditions.iter().find(|one| one.kind == "Programmed");
            WaypointRow {
                gateway: full(gateway),
                ready: programmed.is_some_and(|one| one.status == ConditionStatus::True),
                state: programmed
                    .map_or_else(|| "nothing is said of it".to_owned(), |one| one.message.clone()),
            }
        });
        rows.collect()
    }

    /// What is said of these objects: what is in effect, and what is not. Of kinds that nothing obeys yet, all that are in
    /// the namespace.
    pub(super) fn said(
        &self,
        objects: &BTreeSet<ObjectRef>,
        namespace: &str,
    ) -> (Vec<ConditionRow>, Vec<ConditionRow>) {
        let unobeyed = self.objects.keys().filter(|object| {
            object.namespace == namespace && object.kind.standing() == KindStanding::NotYetEnforced
        });
        let objects: BTreeSet<&ObjectRef> = objects.iter().chain(unobeyed).collect();
        let each = objects.into_iter().flat_map(|object| {
            let conditions = self.conditions.get(object).map(Vec::as_slice).unwrap_or_default();
            conditions.iter().map(move |condition| (object, condition))
        });
        let (good, bad): (Vec<_>, Vec<_>) =
            each.partition(|(_, condition)| condition.status == ConditionStatus::True);
        let rows = |list: Vec<(&ObjectRef, &Condition)>| list.into_iter().map(condition_row).collect();
        (rows(good), rows(bad))
    }
}

fn condition_row((object, condition): (&ObjectRef, &Condition)) -> ConditionRow {
    let status = match condition.status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    };
    ConditionRow {
        object: object.to_string(),
        condition: format!("{}={status}", condition.kind),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

/// `namespace/name`.
pub(super) fn full(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}
