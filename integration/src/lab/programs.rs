//! Working with the mesh's own programs in a running lab.

use std::time::Duration;

use super::Lab;
use crate::component::{Component, Mesh, Served, Stop, ask, tail};
use crate::error::LabError;
use crate::http::Answer;
use crate::metrics::Samples;
use crate::process::{lock, poll};
use crate::tokens::Claims;

impl Lab {
    /// Stops a program of the mesh by force.
    pub fn kill(&self, component: Component) -> Result<(), LabError> {
        self.with_mesh(|mesh| mesh.stop(component, Stop::Killed))
    }

    /// Stops a program of the mesh politely.
    pub fn stop(&self, component: Component) -> Result<(), LabError> {
        self.with_mesh(|mesh| mesh.stop(component, Stop::Asked))
    }

    /// Starts a stopped program of the mesh; a new ztunnel gets a new token.
    pub fn start(&self, component: Component) -> Result<(), LabError> {
        let pods = lock(&self.shared.state).system.clone();
        self.with_mesh(|mesh| mesh.start(component, &self.network, &pods))
    }

    /// Stops a program politely, starts it again, and waits until it is ready.
    pub fn restart(&self, component: Component) -> Result<(), LabError> {
        self.stop(component)?;
        self.start(component)?;
        self.wait_ready(component)
    }

    /// Waits until a program of the mesh is ready.
    pub fn wait_ready(&self, component: Component) -> Result<(), LabError> {
        self.with_mesh(|mesh| mesh.wait_ready(component, &self.network))
    }

    /// Process id of a running program of the mesh.
    pub fn pid(&self, component: Component) -> Option<u32> {
        lock(&self.mesh).as_ref().and_then(|mesh| mesh.pid(component))
    }

    /// Asks a program of the mesh over HTTP.
    pub fn ask(
        &self,
        component: Component,
        service: Served,
        method: &'static str,
        path: &str,
    ) -> Result<Answer, LabError> {
        ask(component, &self.network, service, method, path)
    }

    /// A program's metrics.
    pub fn metrics(&self, component: Component) -> Result<Samples, LabError> {
        Ok(Samples::parse(&self.ask(component, Served::Metrics, "GET", "/metrics")?.body))
    }

    /// A program's log so far.
    pub fn logs(&self, component: Component) -> String {
        lock(&self.mesh).as_ref().map(|mesh| mesh.output(component)).unwrap_or_default()
    }

    /// Waits for a log line that satisfies a condition and returns it.
    pub fn wait_log(
        &self,
        component: Component,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, LabError> {
        let found = poll(limit, || self.logs(component).lines().find(|line| wanted(line)).map(str::to_owned));
        found.ok_or_else(|| LabError::Late {
            what: format!("a log line of {component}"),
            seconds: limit.as_secs(),
            dump: tail(&self.logs(component), 60),
        })
    }

    /// The issuer of the lab's tokens.
    pub fn token(&self, claims: &Claims) -> Result<String, LabError> {
        self.with_mesh(|mesh| Ok(mesh.tokens.mint(claims)))
    }

    pub(crate) fn with_mesh<T>(
        &self,
        job: impl FnOnce(&mut Mesh) -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        match &mut *lock(&self.mesh) {
            Some(mesh) => job(mesh),
            None => Err(LabError::Unknown("mesh in this lab".to_owned())),
        }
    }
}
