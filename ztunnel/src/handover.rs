//! Pods arrive from the node agent over ZDS: one packet per message, one answer per packet, in order.
//!
//! connect → hello → the agent's whole list → `SnapshotSent` → live changes. A broken session ends and is begun
//! anew; pods already served stay served meanwhile, so the data plane does not depend on the agent.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_api::wire::zds::{
    self, Ack, DelWorkload, WorkloadRequest, WorkloadResponse, ZdsHello, workload_request, workload_response,
};
use ambit_process::backoff::Backoff;
use ambit_process::drain::Watch;
use ambit_process::readiness::Hold;
use ambit_transport::fdpass::Socket;
use prost::Message;
use tracing::{info, warn};

use crate::pods::{Departure, Handed, Pods};

/// Longest packet read; larger than any message of the protocol.
const PACKET: usize = 4096;

/// Our own extension of the protocol that this program speaks: departures say whether the pod left or is gone.
const AMBIT_VERSION: u32 = 1;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("cannot read a message: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("{0}")]
    Protocol(&'static str),
}

/// Keeps a session with the agent until the process drains. `ready` is released by the first complete list.
pub async fn run(socket: &Path, pods: &Pods, ready: Hold, drain: Watch) {
    let mut ready = Some(ready);
    // It is on this machine, and pods wait for us to start.
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(2));
    let mut last = None;
    loop {
        let ended = tokio::select! {
            () = drain.signalled() => return,
            ended = session(socket, pods, &mut ready, &mut backoff) => ended,
        };
        if let Err(broken) = ended {
            let error = broken.to_string();
            if last.as_ref() != Some(&error) {
                warn!(socket = %socket.display(), error, "session with the node agent ended");
            }
            last = Some(error);
        }
        tokio::select! {
            () = drain.signalled() => return,
            () = tokio::time::sleep(backoff.delay()) => {}
        }
    }
}

async fn session(
    socket: &Path,
    pods: &Pods,
    ready: &mut Option<Hold>,
    backoff: &mut Backoff,
) -> Result<(), Broken> {
    let connection = Socket::connect(socket)?;
    // Whoever hands over namespaces decides whose identity we lend.
    if !connection.peer()?.is_trusted() {
        return Err(Broken::Protocol("the socket is served by neither root nor our own user"));
    }
    let hello = ZdsHello { version: zds::Version::V1.into(), ambit_version: AMBIT_VERSION };
    connection.send(&hello.encode_to_vec(), None).await?;
    let mut listed = Some(HashSet::new());
    let mut packet = vec![0; PACKET];
    loop {
        let (length, fd) = connection.recv(&mut packet).await?;
        if length == 0 {
            return Ok(());
        }
        let request = WorkloadRequest::decode(&packet[..length])?;
        let outcome = apply(request, fd, pods, &mut listed).await;
        answer(&connection, &outcome).await?;
        match outcome {
            Ok(Applied::Snapshot) => {
                info!("the node agent's list of pods is complete");
                ready.take();
                backoff.reset();
            }
            Err(Fault::Protocol(what)) => return Err(Broken::Protocol(what)),
            Ok(Applied::Change) | Err(Fault::Pod(_)) => {}
        }
    }
}

/// What a message did.
enum Applied {
    Change,
    Snapshot,
}

/// What was wrong with a message.
enum Fault {
    /// This pod cannot be served now; the agent asks again.
    Pod(String),
    /// The agent and we disagree about the protocol; the session ends.
    Protocol(&'static str),
}

async fn answer(connection: &Socket, outcome: &Result<Applied, Fault>) -> Result<(), Broken> {
    let error = match outcome {
        Ok(_) => String::new(),
        Err(Fault::Pod(text)) => text.clone(),
        Err(Fault::Protocol(text)) => (*text).to_owned(),
    };
    let response = WorkloadResponse { payload: Some(workload_response::Payload::Ack(Ack { error })) };
    Ok(connection.send(&response.encode_to_vec(), None).await?)
}

/// Applies one message. `listed` holds the names seen so far, until the list is complete.
async fn apply(
    request: WorkloadRequest,
    fd: Option<OwnedFd>,
    pods: &Pods,
    listed: &mut Option<HashSet<Arc<str>>>,
) -> Result<Applied, Fault> {
    use workload_request::Payload;
    let payload = request.payload.ok_or(Fault::Protocol("a message without content"))?;
    if fd.is_some() && !matches!(payload, Payload::Add(_)) {
        return Err(Fault::Protocol("a descriptor on a message that carries none"));
    }
    match payload {
        Payload::Add(add) => {
            let uid: Arc<str> = add.uid.into();
            let info = add.workload_info.ok_or(Fault::Protocol("a pod without workload_info"))?;
            let netns = fd.ok_or(Fault::Protocol("a pod without its network namespace"))?;
            if let Some(listed) = listed {
                listed.insert(uid.clone());
            }
            let handed = Handed {
                uid,
                namespace: info.namespace.into(),
                name: info.name.into(),
                service_account: info.service_account.into(),
                netns,
            };
            pods.add(handed).map_err(|refused| Fault::Pod(refused.to_string()))?;
        }
        Payload::Keep(keep) => {
            let listed = listed.as_mut().ok_or(Fault::Protocol("keep after the list was complete"))?;
            listed.insert(keep.uid.into());
        }
        Payload::Del(gone) => {
            if let Some(listed) = listed {
                listed.remove(gone.uid.as_str());
            } else {
                let departure = departure(&gone);
                pods.remove(&gone.uid, departure);
            }
        }
        Payload::SnapshotSent(_) => {
            let listed = listed.take().ok_or(Fault::Protocol("a second complete list in one session"))?;
            pods.retain(&listed);
            return Ok(Applied::Snapshot);
        }
    }
    Ok(Applied::Change)
}

fn departure(gone: &DelWorkload) -> Departure {
    match zds::Departure::try_from(gone.departure) {
        Ok(zds::Departure::LeftMesh) => Departure::LeftMesh,
        Ok(zds::Departure::PodGone) => Departure::PodGone,
        Ok(zds::Departure::Unspecified) | Err(_) => Departure::Unknown,
    }
}

#[cfg(test)]
mod tests;
