//! The Gateway API's definitions, as they were published: `ambit install` brings them to clusters that have none.
//!
//! They are not ours to keep in this repository. The published Go module holds them; what is fetched is checked against
//! Go's public log of sums.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::cluster::toolchain;
use crate::run::{Failure, Workspace};

/// The module, and the version that Ambit is tested with.
const MODULE: (&str, &str) = ("sigs.k8s.io/gateway-api", "v1.6.3");

/// The channel of what is stable, in the module.
const CHANNEL: &str = "config/crd/standard";

/// What every copy must say.
const NOTICE: &str = "\
# Gateway API VERSION, standard channel: CustomResourceDefinitions as published in the module sigs.k8s.io/gateway-api.
# Copyright The Kubernetes Authors. Licensed under the Apache License, Version 2.0:
# http://www.apache.org/licenses/LICENSE-2.0
";

/// The file of all definitions, fetched unless it is there. `AMBIT_GATEWAY_API` hands it to the build of `ambit`.
pub(crate) fn fetched(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let (module, version) = MODULE;
    let file = workspace.target.join("gateway-api").join(format!("{version}.yaml"));
    if file.is_file() {
        return Ok(file);
    }
    eprintln!("fetching the Gateway API's definitions ({module} {version}) …");
    let go = toolchain::find(workspace)?;
    let mut download = go.command();
    // Outside our own module, whose requirements have nothing to do with it.
    download.current_dir(&workspace.target).env("GOFLAGS", "-mod=mod").stderr(Stdio::inherit());
    download.args(["mod", "download", "-json", &format!("{module}@{version}")]);
    let failed =
        |why: &dyn std::fmt::Display| Failure::new(format!("go mod download {module}@{version}"), why);
    let output = download.output().map_err(|error| failed(&error))?;
    let about: Value = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    let folder = about["Dir"].as_str().ok_or_else(|| failed(&about["Error"]))?;
    let text = joined(&Path::new(folder).join(CHANNEL))?;
    // Whole or not at all: builds read it.
    let fresh = file.with_extension(format!("new.{}", std::process::id()));
    let made = file.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(&fresh, text)).and_then(|()| fs::rename(&fresh, &file)).map_err(
        |error| {
            let _ = fs::remove_file(&fresh);
            Failure::new(file.display(), error)
        },
    )?;
    Ok(file)
}

/// Every definition of a folder, one document each.
fn joined(folder: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(folder.display(), error);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut text = NOTICE.replace("VERSION", MODULE.1);
    let mut count = 0;
    for file in files {
        let one = fs::read_to_string(&file).map_err(failed)?;
        if one.contains("\nkind: CustomResourceDefinition\n") {
            text.push_str("---\n");
            text.push_str(one.trim_start_matches("---\n"));
            count += 1;
        }
    }
    match count {
        0 => Err(Failure::new(folder.display(), "holds no definitions")),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_means_the_same_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (module, version) = MODULE;
        for (file, part) in [
            ("deploy/images/Dockerfile", format!("{module}@{version} ")),
            ("controller/cli/src/install/definitions.rs", format!("/download/{version}/")),
        ] {
            let text = fs::read_to_string(root.join(file)).unwrap();
            assert!(text.contains(&part), "{file} has no {part}");
        }
    }

    #[test]
    fn definitions_alone_are_joined_under_the_notice() {
        let folder = std::env::temp_dir().join(format!("ambit-gateway-api-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(joined(&folder).is_err());
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("b.yaml", "---\napiVersion: x\nkind: CustomResourceDefinition\nname: b\n");
        write("a.yaml", "apiVersion: x\nkind: CustomResourceDefinition\nname: a\n");
        write("k.yaml", "kind: Kustomization\n");
        let text = joined(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let (notice, rest) = text.split_once("---\n").unwrap();
        assert!(
            notice.contains("Apache License") && notice.lines().all(|line| line.starts_with("# ")),
            "{notice}"
        );
        let documents: Vec<&str> = rest.split("---\n").collect();
        assert_eq!(documents.len(), 2);
        assert!(documents[0].ends_with("name: a\n") && documents[1].ends_with("name: b\n"), "{documents:?}");
    }
}
