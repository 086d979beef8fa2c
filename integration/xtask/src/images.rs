//! Container images of every program, without a container engine: static programs in an image that holds nothing else.
//!
//! Programs that were built for something else (tests, a developer's own work) are not static; into their images go the
//! libraries of this machine that they load. Such images serve on this machine and are for no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Failure, Workspace, succeeds, variable};
use crate::{gateway_api, setup};

mod archive;
mod closure;
mod oci;
mod samples;

use archive::Entry;
use oci::Config;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What stands before a program's name in its image's name.
    pub(crate) hub: String,
    /// What stands after it; major and minor version of the workspace if nothing is said.
    pub(crate) tag: Option<String>,
    /// Built as it is shipped, or otherwise.
    pub(crate) build: Build,
    /// Whether to make what the samples ask for, too.
    pub(crate) samples: Samples,
}

/// How programs are compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Build {
    /// Static, with link-time optimisation.
    #[default]
    Shipped,
    /// Static, in a fraction of the time.
    Quick,
    /// Those that the tests have built.
    Tests,
    /// What `cargo build` makes, without the names of source lines.
    Development,
}

/// Images of other projects that the samples and guides ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Samples {
    /// They come from where they always come from.
    #[default]
    Foreign,
    /// Stand-ins under the same names, for clusters that reach no registry.
    StoodInFor,
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
    package: &'static str,
    /// Programs of that package; the first is what the image starts.
    programs: &'static [&'static str],
    user: User,
    /// Programs of the system that it starts, each with the package that holds it.
    tools: &'static [(&'static str, &'static str)],
}

/// Every image. `deploy/images/Dockerfile` has a stage for each.
const IMAGES: [Image; 6] = [
    Image { name: "ztunnel", package: "ztunnel", programs: &["ztunnel"], user: User::Root, tools: &[] },
    Image {
        name: "agent",
        package: "ambit-agent",
        programs: &["ambit-node-agent", "ambit-cni"],
        user: User::Root,
        tools: &[("nft", "nftables"), ("ip", "iproute2")],
    },
    Image { name: "waypoint", package: "waypoint", programs: &["waypoint"], user: User::Nobody, tools: &[] },
    Image {
        name: "controller",
        package: "controller",
        programs: &["controller"],
        user: User::Nobody,
        tools: &[],
    },
    Image { name: "ambit", package: "ambit", programs: &["ambit"], user: User::Nobody, tools: &[] },
    // What the samples run.
    Image { name: "echo", package: "ambit-lab", programs: &["ambit-echo"], user: User::Nobody, tools: &[] },
];

/// What makes programs static, and small without losing the names in their backtraces.
const FLAGS: &str = "-C target-feature=+crt-static -C strip=debuginfo";

impl Default for Options {
    /// The names that the samples and the controller use.
    fn default() -> Self {
        Self { hub: "ambit".to_owned(), tag: None, build: Build::default(), samples: Samples::default() }
    }
}

impl Build {
    /// The build that a cargo profile's name stands for.
    pub(crate) fn of_profile(name: &str) -> Option<Self> {
        match name {
            "dist" => Some(Self::Shipped),
            "release" => Some(Self::Quick),
            "dev" => Some(Self::Development),
            _ => None,
        }
    }

    /// The cargo profile.
    fn profile(self) -> &'static str {
        match self {
            Self::Shipped => "dist",
            Self::Quick | Self::Tests => "release",
            Self::Development => "dev",
        }
    }

    /// Whether its programs load nothing at run time.
    fn is_static(self) -> bool {
        matches!(self, Self::Shipped | Self::Quick)
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

/// Builds every image into `target/images`, one archive each, and returns the archives.
pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<Vec<PathBuf>, Failure> {
    let tools: Vec<_> = IMAGES.iter().flat_map(|image| image.tools).copied().collect();
    setup::require(&tools)?;
    let programs = build(workspace, options.build)?;
    let folder = workspace.target.join("images");
    fs::create_dir_all(&folder).map_err(|error| Failure::new(folder.display(), error))?;
    let tag = options.tag.clone().or_else(|| version(workspace)).unwrap_or_else(|| "latest".to_owned());
    let mut archives = Vec::new();
    for image in &IMAGES {
        let name = format!("{}/{}:{tag}", options.hub, image.name);
        let layers = layers(image, &programs, options.build)?;
        let config = Config {
            name: &name,
            entrypoint: &[image.programs[0]],
            user: image.user.number(),
            epoch: epoch(),
        };
        archives.push(write(&config, &layers, &folder.join(format!("{}.tar", image.name)))?);
    }
    if options.samples == Samples::StoodInFor {
        let echo = &IMAGES[IMAGES.len() - 1];
        archives.extend(samples::all(&layers(echo, &programs, options.build)?, &folder)?);
    }
    Ok(archives)
}

/// Compiles the programs and returns their folder.
fn build(workspace: &Workspace, build: Build) -> Result<PathBuf, Failure> {
    eprintln!("building the images' programs ({} profile) …", build.profile());
    let mut cargo = workspace.cargo();
    if !build.is_static() {
        // The whole workspace, as tests build it and developers do: what is there already is used again.
        cargo.args(["build", "--profile", build.profile(), "--workspace", "--bins", "--all-features"]);
        succeeds(&mut cargo)?;
        let folder = if build == Build::Tests { "release" } else { "debug" };
        return Ok(workspace.target.join(folder));
    }
    let host = host(workspace)?;
    // The command holds them, for clusters that have none.
    cargo.env("AMBIT_GATEWAY_API", gateway_api::fetched(workspace)?);
    // Named, so that the flags are for the programs alone and not for what runs while they are built.
    cargo.args(["build", "--locked", "--profile", build.profile(), "--target", &host, "--all-features"]);
    for image in &IMAGES {
        cargo.args(["--package", image.package]);
        cargo.args(image.programs.iter().flat_map(|program| ["--bin", program]));
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

/// The layers of an image, the lowest first.
fn layers(image: &Image, folder: &Path, build: Build) -> Result<Vec<Vec<u8>>, Failure> {
    let files: Vec<_> = image.programs.iter().map(|program| folder.join(program)).collect();
    let tools: Vec<_> = image.tools.iter().map(|(tool, _)| *tool).collect();
    let mut lowest = closure::of(&tools)?;
    if !build.is_static() {
        for file in &files {
            lowest.extend(closure::libraries_of(file)?);
        }
        lowest.sort_by(|one, other| one.path.cmp(&other.path));
        lowest.dedup_by(|one, other| one.path == other.path);
    }
    let mut layers = Vec::new();
    if !lowest.is_empty() {
        layers.push(archive::write(&lowest, epoch())?);
    }
    let programs = image.programs.iter().zip(&files);
    let programs = programs.map(|(name, file)| match build {
        Build::Development => stripped(name, file),
        _ => Entry::program(*name, file),
    });
    // Last, as they change most often.
    layers.push(archive::write(&programs.collect::<Result<Vec<_>, _>>()?, epoch())?);
    Ok(layers)
}

/// A program without what debuggers read, which is most of it in the dev profile.
fn stripped(name: &str, file: &Path) -> Result<Entry, Failure> {
    let small = file.with_extension("stripped");
    succeeds(Command::new("strip").arg("--strip-debug").arg("-o").arg(&small).arg(file))?;
    let entry = Entry::program(name, &small);
    // It is in the image now.
    let _ = fs::remove_file(&small);
    entry
}

/// Writes one image, says so, and returns its archive.
fn write(config: &Config<'_>, layers: &[Vec<u8>], path: &Path) -> Result<PathBuf, Failure> {
    let archive = oci::archive(config, layers)?;
    fs::write(path, &archive).map_err(|error| Failure::new(path.display(), error))?;
    println!("{:7.1} MB  {}  {}", archive.len() as f64 / 1e6, config.name, path.display());
    Ok(path.to_owned())
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
            let Image { name, package, programs, user, tools } = image;
            let mut expected = vec![(*name).to_owned()];
            if !tools.is_empty() {
                expected.push("COPY --from=tools /tools /".to_owned());
            }
            let copies =
                programs.iter().map(|program| format!("COPY --from=build /programs/{program} /{program}"));
            expected.extend(copies);
            expected.extend([
                format!("ENV {}", oci::PATH),
                format!("USER {}", user.number()),
                format!("ENTRYPOINT [\"/{}\"]", programs[0]),
            ]);
            let lines = stage.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            assert_eq!(lines.collect::<Vec<_>>(), expected);
            let bins: String = programs.iter().map(|program| format!("--bin {program} ")).collect();
            assert!(text.contains(&format!("--package {package} {bins}")), "{bins}is not built");
            for (tool, package) in *tools {
                assert!(text.contains(&format!(" {package} ")), "{package} is not installed");
                assert!(text.contains("in nft ip; do") && ["nft", "ip"].contains(tool), "{tool}");
            }
        }
        assert!(text.contains(FLAGS), "the flags differ from {FLAGS}");
        assert!(text.contains(" --all-features"), "the programs cannot read a cluster");
    }

    #[test]
    fn every_program_exists() {
        let workspace = Workspace::open().unwrap();
        for image in &IMAGES {
            let package = workspace.packages.iter().find(|package| package["name"] == image.package).unwrap();
            let targets = package["targets"].as_array().unwrap();
            for program in image.programs {
                assert!(targets.iter().any(|target| target["name"] == *program), "{program}");
            }
        }
        assert!(version(&workspace).is_some());
    }
}
