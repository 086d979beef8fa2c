//! The answer as people read it, and the words for why.

use std::net::SocketAddr;

use ambit_api::authz::Denied;
use ambit_api::workload::{TunnelProtocol, Workload};
use ambit_crds::enrolment::{DATAPLANE_MODE, Enrolment, enrolled};
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use controller::objects::Key;
use controller::translate::about::{Mode, Pod as About};

use super::{Checked, Leg, Membership, Plaintext, Transport, Verdict};
use crate::mesh::Mesh;
use crate::mesh::arrive::{Arrival, Caller, judge};
use crate::output::{Page, Row, Show, Table};

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::MutualTls => "MUTUAL TLS",
            Self::PlainText => "PLAIN TEXT",
            Self::NoConnection => "NO CONNECTION",
            Self::Depends => "DEPENDS",
        }
    }
}

impl Transport {
    fn words(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual TLS",
            Self::PlainText => "plain text",
            Self::Refused => "no connection",
        }
    }
}

impl Show for Checked {
    fn show(&self, page: &mut Page) {
        let dialled: Vec<String> = self.dialled.iter().map(SocketAddr::to_string).collect();
        let to = match dialled.join(", ") {
            same if same == self.to => same,
            dialled => format!("{} ({dialled})", self.to),
        };
        page.line(&format!("{} -> {to}: {}", self.from, self.verdict.words()));
        let because = self.caller.because.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let is = if self.caller.in_mesh { "is in the mesh" } else { "is not in the mesh" };
        page.line(&format!("{} {is}{because}", self.caller.pod));
        for leg in &self.legs {
            leg.show(page);
        }
        if !self.plaintext.is_empty() {
            page.section("A caller in plain text:", |page| page.table(&Table::of(&self.plaintext)));
        }
    }
}

impl Leg {
    fn show(&self, page: &mut Page) {
        let why = self.because.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let heading = format!("{} -> {}: {}{why}", self.from, self.to.join(", "), self.transport.words());
        page.section(&heading, |page| {
            if self.transport == Transport::MutualTls {
                let none = || vec!["none: its names make no identity".to_owned()];
                let client = self.client_identity.clone().map_or_else(none, |one| vec![one]);
                page.fields(&[("client", client), ("server", self.server_identities.clone())]);
            }
        });
    }
}

impl Row for Plaintext {
    const HEAD: &'static [&'static str] = &["POD", "PORT", "GETS", "MODE", "BECAUSE"];

    fn cells(&self) -> Vec<String> {
        let gets = if self.accepted { "accepted" } else { "refused" };
        let mode = self.mode.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.pod.clone(), self.port.to_string(), gets.to_owned(), mode, self.because.clone()]
    }
}

impl Mesh {
    /// Whether a pod is in the mesh, and which label says so.
    pub(super) fn membership(&self, workload: &Workload) -> Membership {
        let in_mesh = workload.tunnel == TunnelProtocol::Hbone;
        Membership {
            pod: format!("{}/{}", workload.namespace, workload.name),
            in_mesh,
            identity: workload.identity().filter(|_| in_mesh).map(|one| one.uri().to_owned()),
            because: self.enrolment(&workload.namespace, &workload.name, in_mesh),
        }
    }

    /// Why a pod is in the mesh or not; `None` where objects are not known.
    pub(crate) fn enrolment(&self, namespace: &str, name: &str, in_mesh: bool) -> Option<String> {
        let pod = self.pod(namespace, name)?;
        Some(match (enrolled(&self.namespace(namespace), pod), in_mesh) {
            (Enrolment::Out(why), false) => why.to_string(),
            (Enrolment::Out(why), true) => format!("{why}, and it is about to be let go"),
            (Enrolment::In, true) => match pod.meta.label(DATAPLANE_MODE) {
                Some(_) => format!("the pod has the label {DATAPLANE_MODE}=ambient"),
                None => format!("namespace {namespace} has the label {DATAPLANE_MODE}=ambient"),
            },
            (Enrolment::In, false) => {
                "its labels ask for it, and its node has not captured it yet".to_owned()
            }
        })
    }

    /// What becomes of a caller in plain text at a pod.
    pub(super) fn plaintext(&self, workload: &Workload, at: SocketAddr) -> Plaintext {
        let arrival = judge(&self.world, workload, &Caller::plain(), at);
        let about = self.translator.about_pod(&Key::new(&workload.namespace, &workload.name));
        let mode = about.as_ref().map(|about| about.mode.clone());
        let refuses = mode.as_ref().is_some_and(|mode| mode.refuses(at.port()));
        let because = match &arrival {
            Arrival::Unjudged => "the pod is not in the mesh: nobody judges there".to_owned(),
            // Whatever else denies it too, the mode alone would.
            Arrival::Denied(_) if refuses => decided(mode.as_ref()),
            Arrival::Denied(denied) => self.denied(denied, about.as_ref(), at.port()),
            Arrival::Failed(_, says) => says.clone(),
            Arrival::Allowed(_) => decided(mode.as_ref()),
        };
        let unjudged = arrival == Arrival::Unjudged;
        Plaintext {
            pod: format!("{}/{}", workload.namespace, workload.name),
            port: at.port(),
            accepted: unjudged || matches!(arrival, Arrival::Allowed(_)),
            mode: mode.filter(|_| !unjudged).map(|mode| mode.word(at.port()).to_owned()),
            because,
        }
    }

    /// Who denies a connection: a policy that somebody wrote, or what follows from others.
    fn denied(&self, denied: &Denied, about: Option<&About>, port: u16) -> String {
        let Some(policy) = &denied.policy else { return denied.reason.to_string() };
        let object = ObjectRef::new(Kind::AuthorizationPolicy, &policy.namespace, &policy.name);
        match about.and_then(|about| about.locked_to(port)) {
            Some(waypoints) if !self.objects.contains_key(&object) => {
                let names: Vec<String> = waypoints
                    .iter()
                    .map(|one| format!("{}/{}", one.namespace(), one.service_account()))
                    .collect();
                match names.as_slice() {
                    [] => "locked: no waypoint is named, so nobody may reach it".to_owned(),
                    names => format!("locked: only waypoint {} may reach it", names.join(", ")),
                }
            }
            _ => format!("AuthorizationPolicy {policy} denies it"),
        }
    }
}

/// Who decides the mode.
fn decided(mode: Option<&Mode>) -> String {
    let by = mode.map(|mode| mode.decided_by.as_slice()).unwrap_or_default();
    match by {
        [] if mode.is_some() => "no PeerAuthentication asks for anything else".to_owned(),
        [] => "as the controller tells its node".to_owned(),
        by => by.iter().map(ObjectRef::to_string).collect::<Vec<_>>().join(", then "),
    }
}
