//! Golden outputs of tests: `src/testdata/NAME.txt` holds what is printed. `AMBIT_BLESS=1` writes them.

use std::fs;
use std::path::Path;

use ambit_crds::{Loaded, read};

use crate::mesh::Mesh;
use crate::mesh::settle::settled;
use crate::output::{Format, Show, render};

/// The mesh of most tests.
pub(crate) const SHOP: &str = include_str!("explain/tests/shop.yaml");

/// More of it: modes, policies that nothing or not everything enforces, names that several have.
pub(crate) const MORE: &str = include_str!("testdata/more.yaml");

/// The mesh of these manifests, once all has settled.
pub(crate) fn mesh(manifests: &[&str]) -> Mesh {
    let objects = read::objects(&manifests.join("---\n"));
    settled(Loaded { objects, ..Loaded::default() })
}

/// Compares an answer with what it was.
pub(crate) fn check(name: &str, answer: &impl Show) {
    let text = render(answer, Format::Table).expect("it is text");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/testdata/{name}.txt"));
    if std::env::var_os("AMBIT_BLESS").is_some() {
        fs::write(&path, &text).expect("it is written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name}: see the difference, and bless it if it is right");
    for format in [Format::Json, Format::Yaml] {
        let text = render(answer, format).expect("it is text");
        let value: serde_json::Value = match format {
            Format::Json => serde_json::from_str(&text).expect("it is JSON"),
            _ => serde_saphyr::from_str(&text).expect("it is YAML"),
        };
        assert_eq!(value, serde_json::to_value(answer).expect("it is a value"), "{name} {format:?}");
    }
}
