//! The form of an image that every container runtime reads: an OCI layout in one tar archive.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::archive::{self, Entry};
use crate::run::Failure;

/// Folders of an image that hold programs.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says of itself.
pub(super) struct Config<'a> {
    /// Its name, with its tag, as manifests write it.
    pub(super) name: &'a str,
    /// The program in its root folder, and its first arguments.
    pub(super) entrypoint: &'a [&'a str],
    /// User and group, as numbers.
    pub(super) user: &'a str,
    /// When it was made, in seconds since 1970.
    pub(super) epoch: u64,
}

/// A part of an image, named by its content.
struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Result<Self, Failure> {
        Ok(Self { digest: digest(&bytes)?, bytes })
    }

    fn json(value: &Value) -> Result<Self, Failure> {
        Self::new(value.to_string().into_bytes())
    }

    fn describe(&self, kind: &str) -> Value {
        let media = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len() })
    }

    fn entry(self) -> Entry {
        Entry::data(format!("blobs/sha256/{}", self.digest), self.bytes)
    }
}

/// An archive of an image with these layers, the lowest first, each a tar archive.
pub(super) fn archive(config: &Config<'_>, layers: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
    let mut blobs = layers.iter().map(|layer| Blob::new(layer.clone())).collect::<Result<Vec<_>, _>>()?;
    let described: Vec<_> = blobs.iter().map(|layer| layer.describe("layer.v1.tar")).collect();
    let (program, arguments) = config.entrypoint.split_first().unwrap_or((&"", &[]));
    let entrypoint =
        [&[format!("/{program}")][..], &arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()]
            .concat();
    let about = Blob::json(&json!({
        "created": moment(config.epoch),
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": config.user,
            "Env": [PATH],
            "Entrypoint": entrypoint,
            "WorkingDir": "/",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": blobs.iter().map(|layer| format!("sha256:{}", layer.digest)).collect::<Vec<_>>(),
        },
    }))?;
    let manifest = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": about.describe("config.v1+json"),
        "layers": described,
    }))?;
    let mut named = manifest.describe("manifest.v1+json");
    let tag = config.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    // The first is what containerd imports it as, the second what the standard knows.
    let full = full_name(config.name);
    named["annotations"] =
        json!({ "io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "manifests": [named] });
    blobs.extend([about, manifest]);
    let mut entries: Vec<_> = blobs.into_iter().map(Blob::entry).collect();
    entries.push(Entry::data("index.json", index.to_string()));
    entries.push(Entry::data("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string()));
    archive::write(&entries, config.epoch)
}

/// What every container runtime takes a name for: one that begins with no host is of the best-known one.
fn full_name(name: &str) -> String {
    let host = |part: &str| part == "localhost" || part.contains(['.', ':']);
    match name.split_once('/') {
        Some((first, _)) if host(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// SHA-256, by the program that every Linux has: no crate for the sake of one number.
fn digest(bytes: &[u8]) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new("sha256sum", error);
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    // It prints nothing until its input has ended.
    child.stdin.take().map_or(Ok(()), |mut input| input.write_all(bytes)).map_err(failed)?;
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.split_whitespace().next().filter(|digest| digest.len() == 64);
    digest.map(str::to_owned).ok_or_else(|| Failure::new("sha256sum", "prints no digest"))
}

/// The machine as image formats call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A second since 1970 in the form of RFC 3339.
fn moment(epoch: u64) -> String {
    let (days, second) = (epoch / 86400, epoch % 86400);
    // Counted from the first of March of year 0, so that leap days are last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_moments_are_right() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b"").unwrap(), empty);
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ];
        for (epoch, expected) in cases {
            assert_eq!(moment(epoch), expected);
        }
    }

    #[test]
    fn names_are_completed_as_runtimes_do() {
        let cases = [
            ("ambit/echo:0.1", "docker.io/ambit/echo:0.1"),
            ("echo:0.1", "docker.io/library/echo:0.1"),
            ("registry.example/ambit/echo:0.1", "registry.example/ambit/echo:0.1"),
            ("localhost/echo:0.1", "localhost/echo:0.1"),
            ("registry:5000/echo:0.1", "registry:5000/echo:0.1"),
        ];
        for (name, full) in cases {
            assert_eq!(full_name(name), full);
        }
    }

    #[test]
    fn everything_is_named_by_its_content() {
        let config =
            Config { name: "localhost/ambit/x:1", entrypoint: &["x", "run"], user: "65532:65532", epoch: 0 };
        let layer = archive::write(&[Entry::data("x", "program")], 0).unwrap();
        let first = archive(&config, std::slice::from_ref(&layer)).unwrap();
        assert_eq!(first, archive(&config, std::slice::from_ref(&layer)).unwrap());
        let text = String::from_utf8_lossy(&first);
        for part in [
            &format!("\"diff_ids\":[\"sha256:{}\"]", digest(&layer).unwrap()),
            "\"io.containerd.image.name\":\"localhost/ambit/x:1\"",
            "\"org.opencontainers.image.ref.name\":\"1\"",
            "\"User\":\"65532:65532\"",
            "\"Entrypoint\":[\"/x\",\"run\"]",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
