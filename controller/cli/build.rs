//! Builds the Gateway API's definitions into `ambit`, where they were fetched: `AMBIT_GATEWAY_API` names the file, and
//! `cargo xtask` sets it. Without it `ambit` says how to get them when a cluster has none.

use std::path::PathBuf;
use std::{env, fs, io};

/// The file's name, for the build alone.
const FILE: &str = "AMBIT_GATEWAY_API";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed={FILE}");
    println!("cargo::rerun-if-changed=build.rs");
    let text = match env::var_os(FILE).filter(|file| !file.is_empty()) {
        Some(file) => {
            println!("cargo::rerun-if-changed={}", PathBuf::from(&file).display());
            fs::read_to_string(&file)?
        }
        None => String::new(),
    };
    let to = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other("cargo names no OUT_DIR"))?;
    fs::write(to.join("gateway-api.yaml"), text)
}
