//! A way from this machine to a port of a pod: `kubectl port-forward`, ended when it is dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use super::Cluster;
use crate::error::LabError;
use crate::http::{Answer, request};

/// Longest time for one question.
const LIMIT: Duration = Duration::from_secs(20);

/// The running forwarder.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    /// It says more later, and would end if nobody could hear it.
    _said: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Cluster {
    /// Opens a way to a port on which a pod listens, on its loopback address alone as it may be.
    pub fn forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Forward, LabError> {
        let port = format!(":{port}");
        let words = ["port-forward", "-n", namespace, "--address=127.0.0.1", pod, &port];
        let what = format!("kubectl {}", words.join(" "));
        let mut command = self.command(&words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(LabError::system(what.clone()))?;
        let mut said = BufReader::new(child.stdout.take().expect("its output was asked for"));
        let mut line = String::new();
        // It says so once it listens, or ends without a word.
        let read = said.read_line(&mut line).map_err(LabError::system(what.clone()))?;
        let address = line.split_whitespace().nth(2).and_then(|word| word.parse().ok());
        match address.filter(|_| read > 0) {
            Some(address) => Ok(Forward { child, _said: said, address }),
            None => {
                end(&mut child);
                Err(LabError::Manifest(format!("{what}: {line:?}")))
            }
        }
    }

    /// Asks a program in a pod over HTTP.
    pub fn ask(&self, (namespace, pod): (&str, &str), port: u16, path: &str) -> Result<Answer, LabError> {
        let way = self.forward(namespace, pod, port)?;
        request("GET", way.address, path, LIMIT).map_err(LabError::system(format!("asking {pod} for {path}")))
    }
}

impl Forward {
    /// Where it listens on this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ended = child.kill();
    let _waited = child.wait();
}
