//! Images that the samples and the guides ask for, made here under the names that they are asked for by: a cluster on this
//! machine reaches no registry.

use std::path::{Path, PathBuf};

use super::oci::Config;
use super::{User, archive, closure, epoch, write};
use crate::run::Failure;
use crate::setup;

/// curl, and a program that waits, as that image has them.
const CURL: &str = "curlimages/curl:8.17.0";
/// What answers every request with one text.
const HTTP_ECHO: &str = "hashicorp/http-echo:1.0";

/// Programs of the system that stand in for curl's image, and the packages that hold them.
const TOOLS: [(&str, &str); 2] = [("curl", "curl"), ("sleep", "coreutils")];

/// Writes them; `echo` are the layers of the image that carries the lab's stand-ins.
pub(super) fn all(echo: &[Vec<u8>], folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    setup::require(&TOOLS)?;
    let user = User::Nobody.number();
    let curl = archive::write(&closure::of(&TOOLS.map(|(tool, _)| tool))?, epoch())?;
    let config = Config { name: CURL, entrypoint: &["usr/sbin/curl"], user, epoch: epoch() };
    let curl = write(&config, &[curl], &folder.join("curl.tar"))?;
    let config = Config { name: HTTP_ECHO, entrypoint: &["ambit-echo", "http-echo"], user, epoch: epoch() };
    Ok(vec![curl, write(&config, echo, &folder.join("http-echo.tar"))?])
}
