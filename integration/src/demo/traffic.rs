//! The callers of the live view and of the picture: each calls at a steady rate until the view ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::Method;

use super::cast::Workload;
use super::promise::Broken;
use super::scene::Seen;
use super::shop::{CATALOG, Shop, WEB, Wanted, web_of};
use crate::lab::pods::PodHandle;
use crate::load::{Connections, Load, Outcome};
use crate::process::lock;

/// How long a caller counts before it tells.
const TURN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);

/// Who calls whom, how often, and what shall come of it.
struct Call {
    from: PodHandle,
    /// What the metrics name as the other end: the server, or the waypoint before it.
    to: Workload,
    address: SocketAddr,
    request: (Method, &'static str),
    /// Calls a second.
    rate: f64,
    connections: Connections,
    wanted: Wanted,
}

/// Running callers; dropping it ends them.
pub(crate) struct Traffic {
    ended: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Option<Seen>>>>,
    callers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts every caller.
    pub(crate) fn start(shop: &Shop<'_>) -> Result<Self, Broken> {
        let calls = calls(shop)?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(vec![None; calls.len()]));
        let callers = calls.into_iter().enumerate().map(|(number, call)| {
            let (ended, seen) = (Arc::clone(&ended), Arc::clone(&seen));
            shop.lab.thread_in(&call.from.clone(), move || {
                while !ended.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let told = call.turn();
                    lock(&seen)[number] = told;
                    // A turn of few calls is over when the last one is due.
                    std::thread::sleep(TURN.saturating_sub(begun.elapsed()));
                }
            })
        });
        let callers = callers.collect();
        Ok(Traffic { ended, seen, callers })
    }

    /// What the callers saw lately.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).iter().flatten().cloned().collect()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for caller in self.callers.drain(..) {
            // What a caller has seen, it has told.
            let _ended = caller.join();
        }
    }
}

impl Call {
    /// Calls for a while; nothing where it could not even begin.
    fn turn(&self) -> Option<Seen> {
        let mut load = Load::new(self.address);
        load.rate = Some(self.rate);
        load.time = TURN;
        load.width = 4;
        load.timeout = PATIENCE;
        load.connections = self.connections;
        load.method = self.request.0.clone();
        self.request.1.clone_into(&mut load.path);
        load.run().ok().map(|outcome| self.seen(&outcome))
    }

    fn seen(&self, outcome: &Outcome) -> Seen {
        let wrong = match self.wanted {
            Wanted::Answered => outcome.failures(),
            Wanted::Refused => outcome.good,
        };
        let [p50, _, p99, ..] = outcome.microseconds.map(|microseconds| f64::from(microseconds) / 1e3);
        let answered = self.wanted == Wanted::Answered && outcome.good > 0;
        Seen {
            from: workload(&self.from),
            to: self.to.clone(),
            failed: wrong as f64 / outcome.seconds.max(0.001),
            latency: answered.then_some([p50, p99]),
        }
    }
}

/// The callers are lone pods, which are called as their workload.
fn workload(pod: &PodHandle) -> Workload {
    Workload::new(&pod.namespace, &pod.name)
}

fn calls(shop: &Shop<'_>) -> Result<Vec<Call>, Broken> {
    let get = (Method::GET, "/");
    let connect = |from: &PodHandle, name: &str, address, rate, wanted| Call {
        from: from.clone(),
        to: Workload::new("shop", name),
        address,
        request: get.clone(),
        rate,
        connections: Connections::OnePerRequest,
        wanted,
    };
    let reviews = shop.service("reviews/reviews")?;
    let read = |from: &PodHandle, method, path, rate, wanted| Call {
        from: from.clone(),
        to: Workload::new("reviews", "waypoint"),
        address: reviews,
        request: (method, path),
        rate,
        connections: Connections::Replaced,
        wanted,
    };
    let (web, cart) = (shop.service("shop/web")?, shop.service("shop/cart")?);
    let catalog = web_of(&shop.catalog, CATALOG);
    let pod = web_of(shop.web.first().unwrap_or(&shop.cart), WEB);
    let (client, batch, visitor) = (&shop.client, &shop.batch, &shop.visitor);
    Ok(vec![
        connect(client, "web", web, 40.0, Wanted::Answered),
        connect(client, "cart", cart, 10.0, Wanted::Answered),
        connect(client, "catalog", catalog, 10.0, Wanted::Answered),
        connect(batch, "web", web, 2.0, Wanted::Refused),
        connect(batch, "cart", cart, 1.0, Wanted::Refused),
        connect(visitor, "catalog", catalog, 5.0, Wanted::Answered),
        connect(visitor, "web", pod, 1.0, Wanted::Refused),
        read(client, Method::GET, "/reviews/1", 60.0, Wanted::Answered),
        read(client, Method::POST, "/reviews/1", 1.0, Wanted::Refused),
        read(batch, Method::GET, "/reviews/1", 2.0, Wanted::Refused),
    ])
}
