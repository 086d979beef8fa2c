//! Secrets of our own: read by name, and made where there is none.

use std::collections::BTreeMap;
use std::io;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::writer::request_failed;

/// What a Secret holds, by key.
pub type Data = BTreeMap<String, Vec<u8>>;

/// What came of making a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It is there, as we made it.
    Ours,
    /// Somebody else was first.
    Another,
}

/// What a Secret holds; `None` if there is none of that name.
///
/// # Errors
/// When the API server does not answer, or refuses.
pub async fn read(client: &Client, namespace: &str, name: &str) -> io::Result<Option<Data>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found =
        secrets.get_opt(name).await.map_err(|error| request_failed(&place(namespace, name), error))?;
    Ok(found.map(|secret| {
        secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(value))| (key, value)).collect()
    }))
}

/// Makes a Secret, never over one that is there: of several who try at once one succeeds.
///
/// # Errors
/// As [`read`].
pub async fn make(client: &Client, namespace: &str, name: &str, data: Data) -> io::Result<Made> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let labels = super::own::labels();
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let data = data.into_iter().map(|(key, value)| (key, ByteString(value))).collect();
    let secret = Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(Made::Ours),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Made::Another),
        Err(error) => Err(request_failed(&place(namespace, name), error)),
    }
}

fn place(namespace: &str, name: &str) -> String {
    format!("Secret {namespace}/{name}")
}
