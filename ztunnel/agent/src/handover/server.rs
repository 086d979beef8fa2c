//! The server of pods: owns the socket, the list of pods and one session for each ztunnel that is connected.
//!
//! One task decides, so that nothing needs a lock; each connection has a task that only moves packets. `Add` goes to the
//! newest ztunnel alone, `Del` to all. The socket file has mode 0600, and who connects is asked for its user too: root
//! and our own only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use ambit_process::spawn::spawn;
use ambit_transport::fdpass::{Listener, Socket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{info, warn};

use crate::handover::session::{Command, Effect, MESSAGE_LIMIT, Session};
use crate::handover::{Handover, Order, PodUid, Standing, Workload};

/// How long a ztunnel may take for its hello and for each answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often a pod that was refused is offered again.
const RETRY: Duration = Duration::from_secs(5);
/// The most ztunnels at a time; two during an upgrade is usual.
const CONNECTIONS: usize = 8;
/// Orders and packets that may wait for the server.
const QUEUE: usize = 64;

/// The order in which ztunnels connected.
type Serial = u64;

/// What a connection's task tells the server.
enum Arrival {
    Packet(Vec<u8>),
    Descriptor,
    Closed(Option<io::Error>),
}

struct Pod {
    workload: Arc<Workload>,
    standing: watch::Sender<Standing>,
}

struct Connection {
    session: Session,
    outgoing: mpsc::Sender<(Command, Vec<u8>)>,
    deadline: Option<Instant>,
    carrier: JoinHandle<()>,
}

struct Withdrawal {
    uid: PodUid,
    done: oneshot::Sender<()>,
}

/// The server's state; `run` drives it.
pub struct Server {
    listener: Listener,
    orders: mpsc::Receiver<Order>,
    pods: BTreeMap<PodUid, Pod>,
    connections: BTreeMap<Serial, Connection>,
    withdrawals: Vec<Withdrawal>,
    /// Given to each connection's task.
    arriving: mpsc::Sender<(Serial, Arrival)>,
    arrivals: mpsc::Receiver<(Serial, Arrival)>,
    serial: Serial,
}

/// Prepares the hand-over. Orders are taken once the server runs.
pub struct Prepared {
    orders: mpsc::Receiver<Order>,
    pods: BTreeMap<PodUid, Pod>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// Begins to take orders; nobody is connected before [`Prepared::listen`].
pub fn prepare() -> (Handover, Prepared) {
    let (sender, orders) = mpsc::channel(QUEUE);
    (Handover { orders: sender }, Prepared { orders, pods: BTreeMap::new() })
}

impl Prepared {
    /// Takes orders until `settled`: a ztunnel that connected earlier would be told an incomplete list, and drop the rest.
    pub async fn collect(&mut self, settled: impl Future<Output = ()>) {
        tokio::pin!(settled);
        loop {
            tokio::select! {
                () = &mut settled => return,
                order = self.orders.recv() => match order {
                    Some(Order::Offer { workload, standing }) => {
                        // The asker may have gone meanwhile.
                        let _ = standing.send(offer(&mut self.pods, workload).0);
                    }
                    Some(Order::Withdraw { uid, done, .. }) => {
                        self.pods.remove(&uid);
                        let _ = done.send(());
                    }
                    None => return,
                },
            }
        }
    }

    /// Opens the socket, replacing a stale one.
    pub fn listen(self, socket: &Path) -> io::Result<Server> {
        let (arriving, arrivals) = mpsc::channel(QUEUE);
        Ok(Server {
            listener: Listener::bind(socket)?,
            orders: self.orders,
            pods: self.pods,
            connections: BTreeMap::new(),
            withdrawals: Vec::new(),
            arriving,
            arrivals,
            serial: 0,
        })
    }
}

impl Server {
    /// Serves until every `Handover` is dropped.
    pub async fn run(mut self) {
        let mut retry = retry_interval();
        loop {
            let deadline = self.connections.values().filter_map(|connection| connection.deadline).min();
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(socket) => self.connect(socket),
                    Err(error) => {
                        warn!(%error, "cannot accept a ztunnel");
                        sleep(Duration::from_millis(200)).await;
                    }
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some((serial, arrival)) = self.arrivals.recv() => self.arrived(serial, arrival),
                () = until(deadline) => self.expire(),
                _ = retry.tick() => self.retry(),
            }
            self.finish_withdrawals();
        }
    }

    fn connect(&mut self, socket: Socket) {
        if self.connections.len() >= CONNECTIONS {
            warn!(connections = CONNECTIONS, "too many ztunnels are connected; one more was turned away");
            return;
        }
        match socket.peer() {
            Ok(peer) if peer.is_trusted() => {
                info!(connection = self.serial + 1, pid = peer.pid, uid = peer.uid, "a ztunnel connects");
            }
            Ok(peer) => {
                return warn!(
                    pid = peer.pid,
                    uid = peer.uid,
                    "turned away: neither root nor the agent's own user"
                );
            }
            Err(error) => return warn!(%error, "turned away: its user cannot be told"),
        }
        self.serial += 1;
        let (outgoing, packets) = mpsc::channel(1);
        let carrier = spawn("zds connection", carry(self.serial, socket, packets, self.arriving.clone()));
        let deadline = Some(Instant::now() + DEADLINE);
        let connection = Connection { session: Session::default(), outgoing, deadline, carrier };
        self.connections.insert(self.serial, connection);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Offer { workload, standing } => {
                let uid = workload.uid.clone();
                let (follow, news) = offer(&mut self.pods, workload);
                let _ = standing.send(follow);
                if news {
                    self.add(&uid);
                }
            }
            Order::Withdraw { uid, departure, done } => {
                self.pods.remove(&uid);
                let serials: Vec<Serial> = self.connections.keys().copied().collect();
                for serial in serials {
                    self.with(serial, |session, _| session.del(&uid, departure));
                }
                self.withdrawals.push(Withdrawal { uid, done });
            }
        }
    }

    fn arrived(&mut self, serial: Serial, arrival: Arrival) {
        let was_open = self.connections.get(&serial).is_some_and(|connection| connection.session.is_open());
        match arrival {
            Arrival::Packet(packet) => self.with(serial, |session, pods| {
                session.received(&packet, pods.values().map(|pod| &pod.workload))
            }),
            Arrival::Descriptor => self.with(serial, |session, _| session.descriptor()),
            Arrival::Closed(error) => {
                info!(
                    connection = serial,
                    error = error.map(|error| error.to_string()),
                    "ztunnel disconnected"
                );
                self.forget(serial);
                return;
            }
        }
        let open = self.connections.get(&serial).is_some_and(|connection| connection.session.is_open());
        if open && !was_open {
            info!(connection = serial, pods = self.pods.len(), "ztunnel connected");
            for (_, older) in self.connections.range_mut(..serial) {
                older.session.supersede();
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late = |connection: &Connection| connection.deadline.is_some_and(|deadline| deadline <= now);
        let serials: Vec<Serial> = self
            .connections
            .iter()
            .filter(|(_, connection)| late(connection))
            .map(|(serial, _)| *serial)
            .collect();
        for serial in serials {
            self.with(serial, |session, _| session.expired());
        }
    }

    fn retry(&mut self) {
        let refused = |pod: &Pod| matches!(*pod.standing.borrow(), Standing::Refused(_));
        let uids: Vec<PodUid> =
            self.pods.iter().filter(|(_, pod)| refused(pod)).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.add(&uid);
        }
    }

    fn add(&mut self, uid: &PodUid) {
        let Some(workload) = self.pods.get(uid).map(|pod| Arc::clone(&pod.workload)) else { return };
        if let Some(newest) = self.newest() {
            self.with(newest, |session, _| session.add(&workload));
        }
    }

    fn newest(&self) -> Option<Serial> {
        let mut open = self.connections.iter().rev().filter(|(_, connection)| connection.session.is_open());
        open.next().map(|(serial, _)| *serial)
    }

    /// Lets a session take a step, then does what it asks for.
    fn with(
        &mut self,
        serial: Serial,
        step: impl FnOnce(&mut Session, &BTreeMap<PodUid, Pod>) -> Vec<Effect>,
    ) {
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        for effect in step(&mut connection.session, &self.pods) {
            match effect {
                Effect::Send(command, message) => {
                    connection.deadline = Some(Instant::now() + DEADLINE);
                    // One message is outstanding at most, so there is room unless the carrier has ended and said so.
                    let _ = connection.outgoing.try_send((command, message));
                }
                Effect::Answered(command, outcome) => {
                    connection.deadline = None;
                    settle(&self.pods, &command, outcome);
                }
                Effect::Close(broken) => {
                    warn!(connection = serial, error = %broken, "ztunnel dropped");
                    return self.forget(serial);
                }
            }
        }
    }

    /// The ztunnel that is now the newest may have missed pods meanwhile; an `Add` it has served already changes nothing.
    fn forget(&mut self, serial: Serial) {
        let was_newest = self.newest().is_none_or(|newest| newest <= serial);
        self.connections.remove(&serial);
        if let (true, Some(heir)) = (was_newest, self.newest()) {
            let workloads: Vec<_> = self.pods.values().map(|pod| Arc::clone(&pod.workload)).collect();
            for workload in workloads {
                self.with(heir, |session, _| session.add(&workload));
            }
        }
    }

    fn finish_withdrawals(&mut self) {
        for withdrawal in mem::take(&mut self.withdrawals) {
            if self.connections.values().any(|connection| connection.session.is_withdrawing(&withdrawal.uid))
            {
                self.withdrawals.push(withdrawal);
            } else {
                let _ = withdrawal.done.send(());
            }
        }
    }
}

/// Renews what is known of a pod; also says whether a ztunnel must hear of it.
fn offer(pods: &mut BTreeMap<PodUid, Pod>, workload: Arc<Workload>) -> (watch::Receiver<Standing>, bool) {
    if let Some(known) = pods.get_mut(&workload.uid) {
        let news = !known.workload.same(&workload);
        known.workload = workload;
        if news {
            // What was answered before was answered for something else.
            known.standing.send_replace(Standing::Waiting);
        }
        return (known.standing.subscribe(), news);
    }
    let (standing, follow) = watch::channel(Standing::Waiting);
    pods.insert(workload.uid.clone(), Pod { workload, standing });
    (follow, true)
}

fn settle(pods: &BTreeMap<PodUid, Pod>, command: &Command, outcome: Result<(), String>) {
    let standing = match (command, outcome) {
        (_, Err(error)) => Standing::Refused(error),
        (Command::Add(_) | Command::Keep(_), Ok(())) => Standing::Accepted,
        (Command::SnapshotSent | Command::Del(..), Ok(())) => return,
    };
    let uid = match command {
        Command::Add(workload) => &workload.uid,
        Command::Keep(uid) => uid,
        Command::SnapshotSent | Command::Del(..) => {
            return warn!(?command, ?standing, "the ztunnel refused");
        }
    };
    // What was answered may be about a network that the pod has left.
    let is_stale = |pod: &Pod| matches!(command, Command::Add(workload) if !pod.workload.same(workload));
    if let Some(pod) = pods.get(uid).filter(|pod| !is_stale(pod)) {
        pod.standing.send_if_modified(|known| mem::replace(known, standing.clone()) != standing);
    }
}

/// Moves packets of one connection until either side ends it.
async fn carry(
    serial: Serial,
    socket: Socket,
    mut outgoing: mpsc::Receiver<(Command, Vec<u8>)>,
    arrivals: mpsc::Sender<(Serial, Arrival)>,
) {
    let mut buffer = [0; MESSAGE_LIMIT];
    loop {
        let arrival = tokio::select! {
            message = outgoing.recv() => match message {
                Some((command, message)) => match send(&socket, &command, &message).await {
                    Ok(()) => continue,
                    Err(error) => Arrival::Closed(Some(error)),
                },
                None => return,
            },
            received = socket.recv(&mut buffer) => match received {
                Ok((0, _)) => Arrival::Closed(None),
                Ok((_, Some(_))) => Arrival::Descriptor,
                Ok((length, None)) => Arrival::Packet(buffer[..length].to_vec()),
                Err(error) => Arrival::Closed(Some(error)),
            },
        };
        let last = matches!(arrival, Arrival::Closed(_));
        if arrivals.send((serial, arrival)).await.is_err() || last {
            return;
        }
    }
}

async fn send(socket: &Socket, command: &Command, message: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd;
    let fd = match command {
        Command::Add(workload) => workload.network.as_ref().map(AsFd::as_fd),
        _ => None,
    };
    socket.send(message, fd).await
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn retry_interval() -> Interval {
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    retry
}

#[cfg(test)]
mod tests;
