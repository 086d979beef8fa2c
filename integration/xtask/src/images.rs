//! Container images of every program, without a container engine: static programs in an image that holds nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Failure, Workspace, succeeds, variable};
use crate::setup;

mod archive;
mod closure;
mod oci;

use archive::Entry;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What stands before a program's name in its image's name.
    pub(crate) hub: String,
    /// What stands after it; major and minor version of the workspace if nothing is said.
    pub(crate) tag: Option<String>,
    /// Built as it is shipped, or like the tests.
    pub(crate) build: Build,
}

/// How programs are compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Build {
    /// With link-time optimisation.
    #[default]
    Shipped,
    /// A fraction of the time, for a cluster on this machine.
    Quick,
}

/// Who a program is in its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// It works on other processes' networks.
    Root,
    /// Nobody in particular: the number that distributions leave for this.
    Nobody,
}

/// One image.
struct Image {
    /// Last part of its name.
    name: &'static str,
    /// Package and program.
    package: &'static str,
    program: &'static str,
    user: User,
    /// Programs of the system that it starts, each with the package that holds it.
    tools: &'static [(&'static str, &'static str)],
}

/// Every image. `deploy/images/Dockerfile` has a stage for each.
const IMAGES: [Image; 6] = [
    Image { name: "ztunnel", package: "ztunnel", program: "ztunnel", user: User::Root, tools: &[] },
    Image {
        name: "agent",
        package: "ambit-agent",
        program: "ambit-node-agent",
        user: User::Root,
        tools: &[("nft", "nftables"), ("ip", "iproute2")],
    },
    Image { name: "waypoint", package: "waypoint", program: "waypoint", user: User::Nobody, tools: &[] },
    Image {
        name: "controller",
        package: "controller",
        program: "controller",
        user: User::Nobody,
        tools: &[],
    },
    Image { name: "ambit", package: "ambit", program: "ambit", user: User::Nobody, tools: &[] },
    // What the samples run.
    Image { name: "echo", package: "ambit-lab", program: "ambit-echo", user: User::Nobody, tools: &[] },
];

/// What makes programs static, and small without losing the names in their backtraces.
const FLAGS: &str = "-C target-feature=+crt-static -C strip=debuginfo";

impl Default for Options {
    /// The names that the samples and the controller use.
    fn default() -> Self {
        Self { hub: "ambit".to_owned(), tag: None, build: Build::default() }
    }
}

impl Build {
    /// The cargo profile, and the folder of its programs.
    fn profile(self) -> &'static str {
        match self {
            Self::Shipped => "dist",
            Self::Quick => "release",
        }
    }
}

impl User {
    fn number(self) -> &'static str {
        match self {
            Self::Root => "0:0",
            Self::Nobody => "65532:65532",
        }
    }
}

/// Builds every image into `target/images`, one archive each.
pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<(), Failure> {
    let tools: Vec<_> = IMAGES.iter().flat_map(|image| image.tools).copied().collect();
    setup::require(&tools)?;
    let programs = build(workspace, options.build)?;
    let folder = workspace.target.join("images");
    fs::create_dir_all(&folder).map_err(|error| Failure::new(folder.display(), error))?;
    let tag = options.tag.clone().or_else(|| version(workspace)).unwrap_or_else(|| "latest".to_owned());
    for image in &IMAGES {
        let name = format!("{}/{}:{tag}", options.hub, image.name);
        let path = folder.join(format!("{}.tar", image.name));
        let size = write(image, &name, &programs, &path)?;
        println!("{:7.1} MB  {name}  {}", size as f64 / 1e6, path.display());
    }
    Ok(())
}

/// Compiles the programs without anything that they would load at run time, and returns their folder.
fn build(workspace: &Workspace, build: Build) -> Result<PathBuf, Failure> {
    let host = host(workspace)?;
    eprintln!("building static programs ({} profile) …", build.profile());
    let mut cargo = workspace.cargo();
    // Named, so that the flags are for the programs alone and not for what runs while they are built.
    cargo.args(["build", "--locked", "--profile", build.profile(), "--target", &host]);
    for image in &IMAGES {
        cargo.args(["--package", image.package, "--bin", image.program]);
    }
    let mut flags = FLAGS.to_owned();
    if let Some(home) = variable("CARGO_HOME") {
        // The same programs wherever the sources of dependencies lie.
        flags.push_str(&format!(" --remap-path-prefix={home}=cargo"));
    }
    if let Some(more) = variable("RUSTFLAGS") {
        flags.push_str(&format!(" {more}"));
    }
    succeeds(cargo.env("RUSTFLAGS", flags))?;
    Ok(workspace.target.join(host).join(build.profile()))
}

/// Writes one image and returns its size in bytes.
fn write(image: &Image, name: &str, programs: &Path, path: &Path) -> Result<usize, Failure> {
    let program = Entry::program(image.program, &programs.join(image.program))?;
    let mut layers = Vec::new();
    if !image.tools.is_empty() {
        let names: Vec<_> = image.tools.iter().map(|(tool, _)| *tool).collect();
        layers.push(archive::write(&closure::of(&names)?, epoch())?);
    }
    // Last, as it changes most often.
    layers.push(archive::write(&[program], epoch())?);
    let config = oci::Config { name, entrypoint: image.program, user: image.user.number(), epoch: epoch() };
    let archive = oci::archive(&config, &layers)?;
    fs::write(path, &archive).map_err(|error| Failure::new(path.display(), error))?;
    Ok(archive.len())
}

/// When everything was made, in seconds since 1970, as reproducible builds say it.
fn epoch() -> u64 {
    variable("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Major and minor version of the programs.
fn version(workspace: &Workspace) -> Option<String> {
    let package = workspace.packages.iter().find(|package| package["name"] == IMAGES[0].package)?;
    let (minor, _patch) = package["version"].as_str()?.rsplit_once('.')?;
    Some(minor.to_owned())
}

/// What rustc calls this machine.
fn host(workspace: &Workspace) -> Result<String, Failure> {
    let mut rustc = workspace.cargo();
    let output = rustc.args(["-vV"]).output().map_err(|error| Failure::new("cargo -vV", error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure("cargo -vV names no host".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_builds_the_same_images() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/images/Dockerfile");
        let text = fs::read_to_string(path).unwrap();
        let stages: Vec<_> = text.split("\nFROM scratch AS ").skip(1).collect();
        assert_eq!(stages.len(), IMAGES.len());
        for (image, stage) in IMAGES.iter().zip(stages) {
            let Image { name, package, program, user, tools } = image;
            let mut expected = vec![(*name).to_owned()];
            if !tools.is_empty() {
                expected.push("COPY --from=tools /tools /".to_owned());
            }
            expected.extend([
                format!("COPY --from=build /programs/{program} /{program}"),
                format!("ENV {}", oci::PATH),
                format!("USER {}", user.number()),
                format!("ENTRYPOINT [\"/{program}\"]"),
            ]);
            let lines = stage.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            assert_eq!(lines.collect::<Vec<_>>(), expected);
            assert!(
                text.contains(&format!("--package {package} --bin {program} ")),
                "{program} is not built"
            );
            for (tool, package) in *tools {
                assert!(text.contains(&format!(" {package} ")), "{package} is not installed");
                assert!(text.contains("in nft ip; do") && ["nft", "ip"].contains(tool), "{tool}");
            }
        }
        assert!(text.contains(FLAGS), "the flags differ from {FLAGS}");
    }

    #[test]
    fn every_program_exists() {
        let workspace = Workspace::open().unwrap();
        for image in &IMAGES {
            let package = workspace.packages.iter().find(|package| package["name"] == image.package).unwrap();
            let targets = package["targets"].as_array().unwrap();
            assert!(targets.iter().any(|target| target["name"] == image.program), "{}", image.program);
        }
        assert!(version(&workspace).is_some());
    }
}
