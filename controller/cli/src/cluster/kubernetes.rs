//! A real API server.

use ambit_crds::kubernetes::kube::config::{KubeConfigOptions, Kubeconfig};
use ambit_crds::kubernetes::kube::{Client, Config, Error};
use http::Request;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::{Api, Refused, To, Verb};
use crate::failure::Failure;

/// Under this name objects are applied: fields that others have set are theirs.
const MANAGER: &str = "ambit";

/// The way to it.
pub(super) struct Server {
    runtime: Runtime,
    client: Client,
}

impl Server {
    /// The cluster that is meant.
    pub(super) fn open(to: &To) -> Result<Self, Failure> {
        let mend = "name one that works: --kubeconfig FILE, or --context NAME of it";
        let failed =
            |says: &dyn std::fmt::Display| Failure::new(format!("no way to a cluster: {says}"), mend);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        let read = match &to.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let options = KubeConfigOptions { context: to.context.clone(), ..KubeConfigOptions::default() };
        let config = match read {
            Ok(held) => runtime
                .block_on(Config::from_custom_kubeconfig(held, &options))
                .map_err(|error| failed(&error))?,
            // In a pod there is none, and none is needed.
            Err(error) => match (&to.kubeconfig, &to.context) {
                (None, None) => Config::incluster().map_err(|_| failed(&error))?,
                _ => return Err(failed(&error)),
            },
        };
        let client = runtime.block_on(async { Client::try_from(config) }).map_err(|error| failed(&error))?;
        Ok(Self { runtime, client })
    }
}

impl Api for Server {
    fn call(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Refused> {
        let request =
            request(verb, path, body).map_err(|error| Refused { code: 0, says: error.to_string() })?;
        self.runtime.block_on(self.client.request::<Value>(request)).map_err(|error| match error {
            Error::Api(status) => Refused { code: status.code, says: status.message.clone() },
            other => Refused { code: 0, says: chain(&other) },
        })
    }
}

fn request(verb: Verb, path: &str, body: Option<&Value>) -> http::Result<Request<Vec<u8>>> {
    let (method, media, query) = match verb {
        Verb::Get => ("GET", "application/json", String::new()),
        Verb::Post => ("POST", "application/json", format!("?fieldManager={MANAGER}")),
        Verb::Delete => ("DELETE", "application/json", String::new()),
        Verb::Merge => ("PATCH", "application/merge-patch+json", format!("?fieldManager={MANAGER}")),
        // A field that the server does not know would be dropped without a word.
        Verb::Apply | Verb::ApplyForced => {
            let force = verb == Verb::ApplyForced;
            let query = format!("?fieldManager={MANAGER}&force={force}&fieldValidation=Strict");
            ("PATCH", "application/apply-patch+yaml", query)
        }
    };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let builder = Request::builder().method(method).uri(format!("{path}{query}"));
    builder.header("content-type", media).header("accept", "application/json").body(body)
}

/// An error with what caused it, which says more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let says = one.to_string();
        if !text.contains(&says) {
            text = format!("{text}: {says}");
        }
        cause = one.source();
    }
    text
}
