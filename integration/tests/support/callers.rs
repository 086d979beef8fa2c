//! Callers who try a server's ports, and who of them is let in.
//!
//! Who gets where is written as a word per caller, a letter and the ports that answered: `a12 d2` is alice on the first
//! and second port and dave on the second. A port that neither answered nor refused is marked `?`.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ambit_lab::stream::Stream;
use ambit_lab::{Component, Lab, LabOptions, PodHandle, key_of};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::support::{self, Check, check};

/// Within this a change must have acted, on new and on open connections.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
const MANIFESTS: &str = include_str!("../manifests/callers.yaml");
/// Letter, pod.
const CALLERS: [(char, &str); 5] =
    [('a', "shop/alice"), ('b', "shop/bob"), ('c', "other/carol"), ('d', "plain/dave"), ('e', "plain/erin")];

/// A running lab with callers and servers.
pub(crate) struct Room {
    pub(crate) lab: Lab,
    pub(crate) web: PodHandle,
    callers: Vec<(char, PodHandle)>,
    targets: Vec<(char, SocketAddr)>,
    /// Objects to be taken away again: kind and name.
    applied: Mutex<Vec<(&'static str, String)>>,
}

/// A connection that must live, or must be cut.
pub(crate) struct Open {
    letter: char,
    stream: Stream,
}

impl Room {
    /// Everybody may go everywhere: `1` is web:8080, `2` web:8081, `3` the Service hello.
    pub(crate) fn up() -> Result<Self, Failed> {
        let lab = Lab::up(support::named(LabOptions::inline(MANIFESTS)))?;
        check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
        lab.settled()?;
        let web = lab.pod("shop/web")?;
        let hello = lab.service("shop/hello")?.ok_or("no address")?;
        let at = |address: std::net::Ipv4Addr, port| SocketAddr::new(IpAddr::V4(address), port);
        let targets =
            vec![('1', at(web.address.v4, 8080)), ('2', at(web.address.v4, 8081)), ('3', at(hello.v4, 80))];
        let pod = |(letter, name): (char, &str)| Ok::<_, Failed>((letter, lab.pod(name)?));
        let callers = CALLERS.into_iter().map(pod).collect::<Result<_, _>>()?;
        let room = Room { lab, web, callers, targets, applied: Mutex::default() };
        room.comes_to(&room.everybody(), PATIENCE)?;
        Ok(room)
    }

    /// The word for all callers at all ports.
    pub(crate) fn everybody(&self) -> String {
        let ports: String = self.targets.iter().map(|(digit, _)| *digit).collect();
        self.callers.iter().map(|(letter, _)| format!("{letter}{ports}")).collect::<Vec<_>>().join(" ")
    }

    /// The pod of a caller.
    pub(crate) fn caller(&self, letter: char) -> Result<&PodHandle, Failed> {
        let found = self.callers.iter().find(|(own, _)| *own == letter);
        Ok(&found.ok_or_else(|| format!("no caller {letter}"))?.1)
    }

    /// Who gets where now.
    pub(crate) fn admitted(&self) -> String {
        let tries: Vec<_> = self
            .callers
            .iter()
            .map(|(letter, pod)| {
                let targets = self.targets.clone();
                let answers =
                    move || targets.iter().map(|(digit, to)| try_one(*digit, *to)).collect::<String>();
                (letter, self.lab.thread_in(pod, answers))
            })
            .collect();
        let words = tries.into_iter().map(|(letter, thread)| (letter, thread.join().unwrap_or_default()));
        let words = words.filter(|(_, ports)| !ports.is_empty());
        words.map(|(letter, ports)| format!("{letter}{ports}")).collect::<Vec<_>>().join(" ")
    }

    /// Waits until exactly these get through, and says how long that took.
    pub(crate) fn comes_to(&self, expected: &str, within: Duration) -> Result<Duration, Failed> {
        let start = Instant::now();
        loop {
            let found = self.admitted();
            let took = start.elapsed();
            if found.contains('?') {
                println!("nobody answered: [{found}] on the way to [{expected}]");
            }
            if found == expected {
                return Ok(took);
            }
            check(took < within, || {
                format!("after {took:?} [{found}] get through instead of [{expected}]\n{}", self.lab.status())
            })?;
        }
    }

    /// Applies one object; `kind` is AuthorizationPolicy or PeerAuthentication, `spec` YAML on one line, in which
    /// `{alice}` stands for the address of that pod.
    pub(crate) fn put(&self, kind: &'static str, name: &str, spec: &str) -> Check {
        self.put_annotated(kind, name, spec, "{}")
    }

    /// The same with annotations.
    pub(crate) fn put_annotated(
        &self,
        kind: &'static str,
        name: &str,
        spec: &str,
        annotations: &str,
    ) -> Check {
        let (namespace, own) = name.split_once('/').ok_or("a name without namespace")?;
        let mut spec = spec.to_owned();
        for (_, pod) in self.callers.iter().chain([&('w', self.web.clone())]) {
            spec = spec.replace(&format!("{{{}}}", pod.name), &pod.address.v4.to_string());
        }
        let faults = self.lab.apply(&format!(
            "{{apiVersion: security.istio.io/v1, kind: {kind}, metadata: {{name: {own}, namespace: {namespace}, \
             annotations: {annotations}}}, spec: {spec}}}"
        ))?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        let mut applied = self.applied.lock().map_err(|_| "poisoned")?;
        let entry = (kind, name.to_owned());
        if !applied.contains(&entry) {
            applied.push(entry);
        }
        Ok(())
    }

    /// Takes away whatever was applied; afterwards everybody gets everywhere again, within a second.
    pub(crate) fn clear(&self) -> Result<Duration, Failed> {
        let applied = std::mem::take(&mut *self.applied.lock().map_err(|_| "poisoned")?);
        let keys: Vec<_> = applied.iter().map(|(kind, name)| key_of(kind, name)).collect();
        self.lab.delete(&keys)?;
        let took = self.comes_to(&self.everybody(), SECOND * 3)?;
        // An object of the same name that comes next must be a new one, not a change.
        self.lab.settled()?;
        Ok(took)
    }

    /// Opens a connection to web's echo port that is busy all the time.
    pub(crate) fn open(&self, letter: char) -> Result<Open, Failed> {
        let to = SocketAddr::new(IpAddr::V4(self.web.address.v4), 9090);
        let stream =
            self.lab.in_pod(self.caller(letter)?, move || Stream::open(to, Duration::from_millis(5)))?;
        let open = Open { letter, stream };
        open.goes_on()?;
        Ok(open)
    }

    /// The condition `Enforced` of an object: its status, reason and message, once the reason is as expected.
    pub(crate) fn enforced(&self, kind: &str, name: &str, reason: &str) -> Result<(String, String), Failed> {
        let file =
            self.lab.folder().join("state/status").join(format!("{kind}.{}.json", name.replace('/', ".")));
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let status: Value = serde_json::from_str(&text).unwrap_or_default();
            let all = status.get("conditions").unwrap_or(&status).as_array().cloned().unwrap_or_default();
            let of = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
            let found = all.iter().find(|one| of(one, "type") == "Enforced" && of(one, "reason") == reason);
            if let Some(found) = found {
                return Ok((of(found, "status"), of(found, "message")));
            }
            check(start.elapsed() < PATIENCE, || format!("no condition Enforced for {reason} in {text:?}"))?;
            std::thread::yield_now();
        }
    }

    /// Waits for a line of the log of web's ztunnel that holds all these words.
    pub(crate) fn logged(&self, words: &[&str]) -> Result<String, Failed> {
        let all = |line: &str| words.iter().all(|word| line.contains(word));
        let found = self.lab.wait_log(Component::Ztunnel(self.web.node), PATIENCE, all);
        Ok(found.map_err(|late| format!("no line with {words:?}: {late}"))?)
    }
}

impl Open {
    /// Bytes go both ways still.
    pub(crate) fn goes_on(&self) -> Check {
        let (start, before) = (Instant::now(), self.stream.rounds());
        while self.stream.rounds() < before + 3 {
            check(start.elapsed() < PATIENCE && !self.stream.broken(), || {
                format!("the connection of {} stands still or is broken", self.letter)
            })?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Waits until the connection is cut, counted from `since`.
    pub(crate) fn cut_within(self, since: Instant, within: Duration) -> Result<Duration, Failed> {
        while !self.stream.broken() {
            check(since.elapsed() < within, || {
                format!("the connection of {} still lives after {:?}", self.letter, since.elapsed())
            })?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = since.elapsed();
        let end = self.stream.finish();
        check(end.is_err(), || format!("the connection of {} ended well: {end:?}", self.letter))?;
        Ok(took)
    }

    /// Ends the connection, which must have carried everything.
    pub(crate) fn finish(self) -> Check {
        let letter = self.letter;
        self.stream
            .finish()
            .map(drop)
            .map_err(|broken| format!("the connection of {letter}: {broken}").into())
    }
}

/// The port's digit if it answers, nothing if it refuses, with a mark if it does neither.
fn try_one(digit: char, to: SocketAddr) -> String {
    match ambit_lab::http::request("GET", to, "/", Duration::from_secs(2)) {
        Ok(answer) if answer.status == 200 => digit.to_string(),
        Ok(answer) => format!("{digit}!{}", answer.status),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            format!("{digit}?")
        }
        Err(_refused) => String::new(),
    }
}
