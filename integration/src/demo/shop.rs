//! The demo's sample as the looks see it: its pods, and requests between them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::promise::{Broken, ensure};
use crate::address::Pair;
use crate::component::Component;
use crate::error::LabError;
use crate::lab::Lab;
use crate::lab::pods::PodHandle;
use crate::process::poll;

/// Text that only the cart says.
pub(crate) const SECRET: &str = "the cart holds three apples";
/// Port of the pods' web servers.
pub(crate) const WEB: u16 = 8080;
/// Port of the catalog.
pub(crate) const CATALOG: u16 = 5678;
/// Port of the cart that sends back what it gets.
pub(crate) const ECHO: u16 = 9000;
/// Longest time for one request.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest time for several.
const ENOUGH: Duration = Duration::from_secs(8);
/// Longest time until a log line is written.
const LOGGED: Duration = Duration::from_secs(3);

/// The pods.
pub(crate) struct Shop<'a> {
    pub(crate) lab: &'a Lab,
    /// Caller on node 1.
    pub(crate) client: PodHandle,
    /// Another caller on node 1, which policies refuse.
    pub(crate) batch: PodHandle,
    /// Caller on node 1 outside the mesh.
    pub(crate) visitor: PodHandle,
    /// Server on node 2.
    pub(crate) cart: PodHandle,
    /// Server on node 2, open to everybody.
    pub(crate) catalog: PodHandle,
    /// Five servers on both nodes.
    pub(crate) web: Vec<PodHandle>,
}

impl<'a> Shop<'a> {
    pub(crate) fn of(lab: &'a Lab) -> Result<Self, LabError> {
        Ok(Shop {
            lab,
            client: lab.pod("shop/client")?,
            batch: lab.pod("shop/batch")?,
            visitor: lab.pod("legacy/visitor")?,
            cart: lab.pod("shop/cart")?,
            catalog: lab.pod("shop/catalog")?,
            web: lab.pods("shop/web"),
        })
    }

    /// Pods of the namespace that is enrolled.
    pub(crate) fn enrolled(&self) -> Vec<PodHandle> {
        let single = [&self.client, &self.batch, &self.cart, &self.catalog];
        single.into_iter().chain(&self.web).cloned().collect()
    }

    /// IPv4 address and port 80 of a Service.
    pub(crate) fn service(&self, name: &str) -> Result<SocketAddr, LabError> {
        let address = self.lab.service(name)?;
        let address = address.ok_or_else(|| LabError::Unknown(format!("address of {name}")))?;
        Ok(SocketAddr::new(address.v4.into(), 80))
    }

    /// Requests one after another on connections of their own, until one ends otherwise than wanted or time is over.
    pub(crate) fn ask(&self, from: &PodHandle, to: SocketAddr, count: usize, wanted: Wanted) -> Asked {
        self.lab.in_pod(from, move || {
            let (start, mut asked) = (Instant::now(), Asked::default());
            while asked.sent < count && start.elapsed() < ENOUGH {
                let answer = crate::http::request("GET", to, "/", PATIENCE);
                asked.sent += 1;
                let good = answer.as_ref().is_ok_and(|answer| answer.status == 200);
                asked.last = match answer {
                    Ok(answer) if good => answer.body,
                    Ok(answer) => format!("status {}", answer.status),
                    Err(error) => error.to_string(),
                };
                if good != (wanted == Wanted::Answered) {
                    return asked;
                }
                asked.as_wanted += 1;
            }
            asked
        })
    }

    /// The same, to be answered every time with a body that holds this text.
    pub(crate) fn reach(
        &self,
        from: &PodHandle,
        to: SocketAddr,
        count: usize,
        text: &str,
    ) -> Result<(), Broken> {
        let asked = self.ask(from, to, count, Wanted::Answered);
        ensure(asked.as_wanted == count && asked.last.contains(text), || {
            let last = if asked.last.is_empty() { "an empty answer" } else { asked.last.trim() };
            format!(
                "request {} of {count} from {} to {to} was not answered as it should be: {last}",
                asked.sent,
                name(from)
            )
        })
    }

    /// The same, to be refused every time.
    pub(crate) fn refuse(&self, from: &PodHandle, to: SocketAddr, count: usize) -> Result<(), Broken> {
        let asked = self.ask(from, to, count, Wanted::Refused);
        ensure(asked.as_wanted == asked.sent, || {
            format!("request {} of {count} from {} to {to} got through", asked.sent, name(from))
        })?;
        ensure(asked.sent == count, || {
            format!(
                "only {} of {count} requests from {} to {to} came to an end: {}",
                asked.sent,
                name(from),
                asked.last
            )
        })
    }

    /// Where a program's log ends now.
    pub(crate) fn mark(&self, component: Component) -> usize {
        self.lab.logs(component).len()
    }

    /// A line of a program's log after the mark that holds all these words.
    pub(crate) fn line(&self, component: Component, mark: usize, words: &[&str]) -> Result<String, Broken> {
        let found = poll(LOGGED, || {
            let log = self.lab.logs(component);
            // A log that is shorter now has been cut (see `watch`).
            let new = log.get(mark..).unwrap_or(&log);
            new.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        });
        found.ok_or_else(|| {
            Broken::Found(format!("the log of {component} has no new line with {}", words.join(" and ")))
        })
    }
}

/// How requests are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// With status 200.
    Answered,
    /// In any other way.
    Refused,
}

/// What came of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) sent: usize,
    pub(crate) as_wanted: usize,
    /// The last answer's body, or what went wrong last.
    pub(crate) last: String,
}

/// Namespace and name.
pub(crate) fn name(pod: &PodHandle) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// A pod's web server.
pub(crate) fn web_of(pod: &PodHandle, port: u16) -> SocketAddr {
    SocketAddr::new(pod.address.v4.into(), port)
}

/// Both families of two pods.
pub(crate) fn families(one: Pair, other: Pair) -> [(std::net::IpAddr, std::net::IpAddr); 2] {
    let ([one4, one6], [other4, other6]) = (one.both(), other.both());
    [(one4, other4), (one6, other6)]
}

/// The value of a log line's field.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=");
    let Some((_before, rest)) = line.split_once(start.as_str()) else { return "" };
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => rest.split_whitespace().next().unwrap_or_default(),
    }
}
