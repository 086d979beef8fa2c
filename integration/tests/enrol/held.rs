//! A pod whose application listens where the ztunnel must: closed and pending until the port is free, and told so.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use ambit_lab::{Component, Lab, LabError, PodHandle, Programs};
use libtest_mimic::Failed;

use super::{AMBIENT, Crossing, LIMIT, UNLABELLED, WEB, crosses, up};
use crate::support::{Check, check};
use crate::traffic::until;

const MANIFESTS: &str = include_str!("../manifests/held.yaml");
/// Longest time a connection may take that must fail or must succeed.
const SHORT: Duration = Duration::from_secs(3);

/// An application that is in the way.
struct Held {
    pod: PodHandle,
    port: u16,
    application: Child,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        // It has ended already when the test went well.
        let _gone = self.application.kill();
        let _reaped = self.application.wait();
    }
}

impl Held {
    fn start(lab: &Lab, port: u16) -> Result<Self, Failed> {
        let pod = lab.pod(&format!("held/on-{port}"))?;
        let mut command = ambit_lab::standin::command(&["echo", &format!("--port={port}")]);
        command.stdin(Stdio::null());
        let application = lab.spawn_in(&pod, command)?;
        let name = std::fs::read_to_string(format!("/proc/{}/comm", application.id()))?.trim().to_owned();
        let held = Held { pod, port, application, name };
        until(LIMIT, || {
            connects(lab, &held.pod, &held.pod, port)
                .then_some(())
                .map_or(Some("the application".into()), |()| None)
        })?;
        Ok(held)
    }

    /// What the event about it must say.
    fn told(&self, lab: &Lab) -> Option<String> {
        let words = [
            self.pod.name.clone(),
            "PortInUse".to_owned(),
            format!("(pid {})", self.application.id()),
            format!("port {}", self.port),
            self.name.clone(),
        ];
        let events = lab.events().into_iter().map(|event| event.to_string());
        events.into_iter().find(|event| words.iter().all(|word| event.contains(word)))
    }

    /// Closed: nobody gets in on any port, nothing gets out.
    fn closed(&self, lab: &Lab) -> Check {
        let outside = lab.pod("held/outside")?;
        for (from, to, port) in
            [(&outside, &self.pod, WEB), (&outside, &self.pod, self.port), (&self.pod, &outside, WEB)]
        {
            let opened = connects(lab, from, to, port);
            check(!opened, || format!("{} reached {} on port {port}", from.name, to.name))?;
        }
        let stands = lab.enrolment(&self.pod);
        check(stands.as_deref() == Some("pending"), || format!("{} is {stands:?}", self.pod.name))
    }
}

/// Whether a connection opens over either family.
fn connects(lab: &Lab, from: &PodHandle, to: &PodHandle, port: u16) -> bool {
    to.address.both().into_iter().any(|address| {
        let to = SocketAddr::new(address, port);
        lab.in_pod(from, move || TcpStream::connect_timeout(&to, SHORT).is_ok())
    })
}

/// Waits until every pod has been looked at twice more.
fn looked_at_again(lab: &Lab, agent: Component, pods: usize) -> Check {
    let looks = || -> Result<f64, LabError> {
        Ok(lab.metrics(agent)?.sum("ambit_agent_failures_total", &[("reason", "PortInUse")]))
    };
    let enough = looks()? + 2.0 * pods as f64;
    until(LIMIT, || match looks() {
        Ok(count) if count >= enough => None,
        Ok(count) => Some(format!("{enough} looks at held ports, {count} so far")),
        Err(error) => Some(error.to_string()),
    })
}

fn stands(lab: &Lab, pod: &PodHandle, expected: Option<&str>) -> Check {
    until(LIMIT, || {
        let found = lab.enrolment(pod);
        (found.as_deref() != expected).then(|| format!("{} as {expected:?}, it is {found:?}", pod.name))
    })
}

pub(crate) fn closed_until_free() -> Check {
    let lab = up(MANIFESTS, Programs::default())?;
    let (inside, outside) = (lab.pod("held/inside")?, lab.pod("held/outside")?);
    let mut held = [15001, 15006, 15008]
        .map(|port| Held::start(&lab, port))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for one in &held {
        crosses(&lab, &outside, &one.pod, Crossing::Clear)?;
    }
    lab.label("ns", "held", &[AMBIENT])?;
    stands(&lab, &inside, Some("enabled"))?;
    for one in &held {
        stands(&lab, &one.pod, Some("pending"))?;
        until(LIMIT, || {
            one.told(&lab)
                .is_none()
                .then(|| format!("an event about {} among {:?}", one.pod.name, lab.events()))
        })?;
        println!("{}", one.told(&lab).unwrap_or_default());
        one.closed(&lab)?;
    }
    looked_at_again(&lab, Component::Agent(held[0].pod.node), held.len())?;
    held.iter().try_for_each(|one| one.closed(&lab))?;

    // Out of the mesh the application may listen where it likes.
    let first = held[0].pod.clone();
    let words = format!("held/{}", first.name);
    lab.label("pod", &words, &["istio.io/dataplane-mode=none"])?;
    stands(&lab, &first, None)?;
    crosses(&lab, &outside, &first, Crossing::Clear)?;
    check(connects(&lab, &outside, &first, held[0].port), || "the application cannot be reached".to_owned())?;
    lab.label("pod", &words, &[UNLABELLED])?;
    stands(&lab, &first, Some("pending"))?;
    // The ztunnel finds the port held this time: until it has said so the pod is as before.
    until(LIMIT, || held[0].closed(&lab).err().map(|error| format!("{error:?}")))?;

    for one in &mut held {
        one.application.kill()?;
        one.application.wait()?;
    }
    lab.settled()?;
    for one in &held {
        stands(&lab, &one.pod, Some("enabled"))?;
        crosses(&lab, &inside, &one.pod, Crossing::Tunnel)?;
    }
    Ok(())
}
