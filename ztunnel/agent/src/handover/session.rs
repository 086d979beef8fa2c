//! The protocol with one ztunnel, pure: what arrived goes in, what is to be done comes out.
//!
//! hello → every pod (`Add`, or `Keep` without a descriptor) → `SnapshotSent` → live changes. Strictly one message, then
//! its answer: answers carry no number, so after a time-out nothing that follows could be trusted and the connection is
//! given up. The queue holds at most one command for each pod, so it is bounded by the pods of the node.

use std::collections::VecDeque;
use std::sync::Arc;

use ambit_api::wire::zds::{
    self, AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, WorkloadRequest, WorkloadResponse, ZdsHello,
    workload_request, workload_response,
};
use prost::Message;

use crate::handover::{Departure, PodUid, Workload};

/// The largest message: what Istio's ztunnel has room for.
pub const MESSAGE_LIMIT: usize = 1024;
/// From this version of ours a ztunnel understands `DelWorkload.departure`.
const KNOWS_DEPARTURE: u32 = 1;

/// One message to the ztunnel.
#[derive(Clone, Debug)]
pub enum Command {
    /// A pod is in the mesh.
    Add(Arc<Workload>),
    /// A pod stays in the mesh, though there is no descriptor to hand over.
    Keep(PodUid),
    /// Every pod has been named.
    SnapshotSent,
    /// A pod is no longer in the mesh.
    Del(PodUid, Departure),
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Send this, with the descriptor of the workload that an `Add` carries, and set the deadline for its answer.
    Send(Command, Vec<u8>),
    /// The ztunnel answered; no deadline runs.
    Answered(Command, Result<(), String>),
    /// Give up the connection.
    Close(Broken),
}

/// Why a connection was given up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It does not speak our version of the protocol.
    #[error("the ztunnel speaks version {0} of the protocol, not 1")]
    Version(i32),
    /// It sent what cannot be read.
    #[error("unreadable message: {0}")]
    Unreadable(String),
    /// It answered what was not asked.
    #[error("an answer to nothing")]
    Unasked,
    /// It answered without an answer in it.
    #[error("an empty answer")]
    Empty,
    /// It sent a descriptor.
    #[error("a descriptor where none belongs")]
    Descriptor,
    /// It did not answer in time.
    #[error("no answer in time")]
    TimedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Hello,
    Snapshot,
    Live,
    Closed,
}

/// One ztunnel's session.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    ambit_version: u32,
    queue: VecDeque<Command>,
    outstanding: Option<Command>,
}

impl Command {
    fn uid(&self) -> Option<&PodUid> {
        match self {
            Command::Add(workload) => Some(&workload.uid),
            Command::Keep(uid) | Command::Del(uid, _) => Some(uid),
            Command::SnapshotSent => None,
        }
    }

    fn encode(&self, ambit_version: u32) -> Vec<u8> {
        let uid = |uid: &PodUid| uid.0.to_string();
        let payload = match self {
            Command::Add(workload) => workload_request::Payload::Add(AddWorkload {
                uid: uid(&workload.uid),
                workload_info: Some(workload.info()),
            }),
            Command::Keep(kept) => workload_request::Payload::Keep(KeepWorkload { uid: uid(kept) }),
            Command::SnapshotSent => workload_request::Payload::SnapshotSent(SnapshotSent {}),
            Command::Del(gone, departure) => workload_request::Payload::Del(DelWorkload {
                uid: uid(gone),
                departure: departure_for(*departure, ambit_version).into(),
            }),
        };
        WorkloadRequest { payload: Some(payload) }.encode_to_vec()
    }
}

impl Default for Session {
    fn default() -> Self {
        Self { phase: Phase::Hello, ambit_version: 0, queue: VecDeque::new(), outstanding: None }
    }
}

impl Session {
    /// A packet arrived; `pods` is the whole list, for the snapshot that a hello asks for.
    pub fn received<'a>(
        &mut self,
        packet: &[u8],
        pods: impl Iterator<Item = &'a Arc<Workload>>,
    ) -> Vec<Effect> {
        match self.phase {
            Phase::Hello => self.hello(packet, pods),
            Phase::Snapshot | Phase::Live => self.answer(packet),
            Phase::Closed => Vec::new(),
        }
    }

    /// The deadline for the hello or for an answer has passed.
    pub fn expired(&mut self) -> Vec<Effect> {
        self.close(Broken::TimedOut)
    }

    /// It sent a descriptor, which no message of a ztunnel's carries.
    pub fn descriptor(&mut self) -> Vec<Effect> {
        self.close(Broken::Descriptor)
    }

    /// A pod came into the mesh or changed. Without a descriptor there is nothing to say after the snapshot.
    pub fn add(&mut self, workload: &Arc<Workload>) -> Vec<Effect> {
        if matches!(self.phase, Phase::Hello | Phase::Closed) {
            return Vec::new();
        }
        self.forget(&workload.uid);
        // While the list is still being told, a pod must stand before its end: what comes after it is dropped first.
        let listing = self.queue.iter().any(|command| matches!(command, Command::SnapshotSent));
        match (&workload.network, listing) {
            (Some(_), true) => self.queue.push_front(Command::Add(Arc::clone(workload))),
            (Some(_), false) => self.queue.push_back(Command::Add(Arc::clone(workload))),
            (None, true) => self.queue.push_front(Command::Keep(workload.uid.clone())),
            (None, false) => {}
        }
        self.next()
    }

    /// A pod left the mesh.
    pub fn del(&mut self, uid: &PodUid, departure: Departure) -> Vec<Effect> {
        if matches!(self.phase, Phase::Hello | Phase::Closed) {
            return Vec::new();
        }
        self.forget(uid);
        self.queue.push_back(Command::Del(uid.clone(), departure));
        self.next()
    }

    /// A newer ztunnel has connected: this one gets no more pods, but its snapshot is completed.
    pub fn supersede(&mut self) {
        if self.phase == Phase::Live {
            self.queue.retain(|command| !matches!(command, Command::Add(_)));
        }
    }

    /// Whether it has said hello and is still of use.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Snapshot | Phase::Live)
    }

    /// Whether a withdrawal of this pod has not been answered yet.
    pub fn is_withdrawing(&self, uid: &PodUid) -> bool {
        let mut commands = self.queue.iter().chain(&self.outstanding);
        commands.any(|command| matches!(command, Command::Del(gone, _) if gone == uid))
    }

    fn hello<'a>(&mut self, packet: &[u8], pods: impl Iterator<Item = &'a Arc<Workload>>) -> Vec<Effect> {
        let hello = match ZdsHello::decode(packet) {
            Ok(hello) => hello,
            Err(error) => return self.close(Broken::Unreadable(error.to_string())),
        };
        if hello.version != i32::from(zds::Version::V1) {
            return self.close(Broken::Version(hello.version));
        }
        self.phase = Phase::Snapshot;
        self.ambit_version = hello.ambit_version;
        self.queue.extend(pods.map(|workload| match workload.network {
            Some(_) => Command::Add(Arc::clone(workload)),
            None => Command::Keep(workload.uid.clone()),
        }));
        self.queue.push_back(Command::SnapshotSent);
        self.next()
    }

    fn answer(&mut self, packet: &[u8]) -> Vec<Effect> {
        let response = match WorkloadResponse::decode(packet) {
            Ok(response) => response,
            Err(error) => return self.close(Broken::Unreadable(error.to_string())),
        };
        let Some(workload_response::Payload::Ack(ack)) = response.payload else {
            return self.close(Broken::Empty);
        };
        let Some(command) = self.outstanding.take() else { return self.close(Broken::Unasked) };
        if matches!(command, Command::SnapshotSent) {
            self.phase = Phase::Live;
        }
        let outcome = if ack.error.is_empty() { Ok(()) } else { Err(ack.error) };
        let mut effects = vec![Effect::Answered(command, outcome)];
        effects.extend(self.next());
        effects
    }

    /// Takes the next command if nothing is outstanding. One that is too long is answered on the ztunnel's behalf.
    fn next(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.outstanding.is_none() {
            let Some(command) = self.queue.pop_front() else { break };
            let message = command.encode(self.ambit_version);
            if message.len() > MESSAGE_LIMIT {
                let error = format!("its message of {} bytes exceeds {MESSAGE_LIMIT}", message.len());
                effects.push(Effect::Answered(command, Err(error)));
            } else {
                self.outstanding = Some(command.clone());
                effects.push(Effect::Send(command, message));
            }
        }
        effects
    }

    fn forget(&mut self, uid: &PodUid) {
        self.queue.retain(|command| command.uid() != Some(uid));
    }

    fn close(&mut self, broken: Broken) -> Vec<Effect> {
        self.phase = Phase::Closed;
        self.queue.clear();
        self.outstanding = None;
        vec![Effect::Close(broken)]
    }
}

/// A ztunnel that does not know the field is not sent it.
fn departure_for(departure: Departure, ambit_version: u32) -> zds::Departure {
    match departure {
        _ if ambit_version < KNOWS_DEPARTURE => zds::Departure::Unspecified,
        Departure::LeftMesh => zds::Departure::LeftMesh,
        Departure::Gone => zds::Departure::PodGone,
    }
}

#[cfg(test)]
mod tests;
