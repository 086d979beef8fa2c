//! The wire between `ambit-lab`'s commands and the running lab: one JSON line each way over a Unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::component::{Component, Served};
use crate::demo::Promise;
use crate::error::LabError;
use crate::lab::Lab;
use crate::lab::changes::key_of;
use crate::lab::pods::PodHandle;
use crate::manifest::parse;

/// Name of the socket in the state folder.
pub(crate) const SOCKET: &str = "control.sock";
/// Longest time a command may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Apply this YAML.
    Apply(String),
    /// Delete the objects named in this YAML.
    Delete(String),
    /// Set labels: kind, name, changes.
    Label(String, String, Vec<String>),
    /// Change a number of pods: kind, name, number.
    Scale(String, String, usize),
    /// Wait until all has arrived everywhere.
    Wait,
    /// Show the state.
    Status,
    /// Show a log: a component, or a pod as `ns/pod`.
    Logs(String),
    /// Where a pod is: UID and namespace.
    Find(String),
    /// What a program of the mesh (a component, or a waypoint's pod as `ns/pod`) shows at a path of its admin port:
    /// `{"status": 200, "body": "…"}`.
    Ask(String, String),
    /// Process id, in the lab, of a program of the mesh; stop or start it.
    Program(String, Action),
    /// Look at a promise of the demo.
    Look(Promise),
    /// Take the lab down.
    Down,
}

/// What to do with a program of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// Start it again.
    Start,
    /// Stop it politely and start it again.
    Restart,
    /// Remove a pod's nft rules (the program is then a pod).
    Flush,
}

/// The lab's answer: what to print, or what went wrong.
pub type Reply = Result<String, String>;

/// Sends a request to the lab whose state folder this is.
pub fn call(state: &Path, request: &Request) -> std::io::Result<Reply> {
    let mut stream = UnixStream::connect(state.join(SOCKET))?;
    stream.set_read_timeout(Some(LIMIT))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

impl Lab {
    /// Serves commands until one takes the lab down.
    pub fn serve(&self) -> Result<(), LabError> {
        let path = self.folder().join(SOCKET);
        let listener = UnixListener::bind(&path)
            .map_err(LabError::system(format!("listening at {}", path.display())))?;
        std::thread::scope(|scope| {
            for stream in listener.incoming().flatten() {
                let request = hear(&stream);
                if request == Some(Request::Down) {
                    return;
                }
                scope.spawn(move || {
                    let reply = request.map_or_else(
                        || Err("not a request".to_owned()),
                        |request| self.obey(request).map_err(|error| error.to_string()),
                    );
                    // Whoever asked may have gone.
                    let _told = serde_json::to_string(&reply).map(|line| writeln!(&stream, "{line}"));
                });
            }
        });
        Ok(())
    }

    fn obey(&self, request: Request) -> Result<String, LabError> {
        match request {
            Request::Apply(yaml) => Ok(self.apply(&yaml)?.iter().map(|fault| format!("{fault}\n")).collect()),
            Request::Delete(yaml) => {
                let (documents, faults) = parse(Path::new("deleted"), &yaml);
                self.delete(&documents.into_iter().map(|document| document.key).collect::<Vec<_>>())?;
                Ok(faults.iter().map(|fault| format!("{fault}\n")).collect())
            }
            Request::Label(kind, name, changes) => {
                let changes: Vec<_> = changes.iter().map(String::as_str).collect();
                self.label(&kind, &name, &changes).map(|()| String::new())
            }
            Request::Scale(kind, name, replicas) => {
                self.scale(&kind, &name, replicas).map(|()| String::new())
            }
            Request::Wait => {
                self.wait_pods_ready(Duration::from_secs(30))?;
                if self.has_mesh() { self.settled().map(|()| String::new()) } else { Ok(String::new()) }
            }
            Request::Status => Ok(self.status()),
            Request::Logs(name) => match name.parse::<Component>() {
                Ok(component) => Ok(self.logs(component)),
                Err(_no_component) => Ok(self.pod_logs(&self.pod(&name)?)),
            },
            Request::Find(name) => self.pod(&name).map(|pod| format!("{} {}", pod.uid, pod.namespace)),
            Request::Ask(of, path) => {
                let answer = match of.parse::<Component>() {
                    Ok(component) => self.ask(component, Served::Administration, "GET", &path),
                    Err(_no_component) => self.ask_pod(&self.pod(&of)?, Served::Administration, "GET", &path),
                }?;
                Ok(serde_json::json!({"status": answer.status, "body": answer.body}).to_string())
            }
            Request::Program(name, action) => self.act(&name, action).map(|()| String::new()),
            Request::Look(promise) => {
                let finding = self.look(promise)?;
                serde_json::to_string(&finding).map_err(|error| LabError::Manifest(error.to_string()))
            }
            Request::Down => Ok(String::new()),
        }
    }

    /// Pods are started again by themselves.
    fn act_on_pod(&self, pod: &PodHandle, action: Action) -> Result<(), LabError> {
        match action {
            Action::Kill => self.kill_pod(pod),
            Action::Restart => self.stop_pod(pod),
            Action::Start | Action::Flush => Err(LabError::Unknown(format!("way to start pod {}", pod.name))),
        }
    }

    fn act(&self, name: &str, action: Action) -> Result<(), LabError> {
        if action == Action::Flush {
            return self.flush_rules(&self.pod(name)?);
        }
        let component = match name.parse() {
            Ok(component) => component,
            Err(unknown) => return self.act_on_pod(&self.pod(name).map_err(|_no_pod| unknown)?, action),
        };
        match action {
            Action::Kill => self.kill(component),
            Action::Start => self.start(component).and_then(|()| self.wait_ready(component)),
            Action::Restart | Action::Flush => self.restart(component),
        }
    }
}

fn hear(stream: &UnixStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// Kind and name as kubectl writes them, checked.
pub fn check_name(kind: &str, name: &str) -> String {
    key_of(kind, name).to_string()
}
