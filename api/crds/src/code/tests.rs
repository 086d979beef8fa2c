//! Codes and pages are in step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Code;

/// What every page says, in order.
const PARTS: [&str; 3] = ["## What it means", "## Example", "## What to do"];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/findings")
}

#[test]
fn names_are_unique_in_order_and_found() {
    let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    for code in Code::ALL {
        let name = code.name();
        assert!(name.len() == 7 && name.starts_with("AMB"), "{name}");
        assert!(name[3..].bytes().all(|digit| digit.is_ascii_digit()), "{name}");
        assert_eq!(Code::find(&name.to_lowercase()), Some(*code));
    }
    for wrong in ["", "AMB", "AMB9999", "0101"] {
        assert_eq!(Code::find(wrong), None, "{wrong}");
    }
}

#[test]
fn every_page_is_whole_and_short() {
    for code in Code::ALL {
        let page = code.page();
        let title = code.title();
        assert!(page.starts_with(&format!("# {code}: {title}\n")) && !title.is_empty(), "{code}: {page}");
        let places: Vec<Option<usize>> = PARTS.iter().map(|part| page.find(&format!("\n{part}\n"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{code}: {places:?}");
        assert!(page.contains("\n```"), "{code} has no example");
        assert!(page.lines().count() <= 60 && page.ends_with('\n'), "{code} is long or unfinished");
    }
}

#[test]
fn every_page_is_a_codes_and_the_index_names_it() {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        files.insert(entry.unwrap().file_name().into_string().unwrap());
    }
    assert!(files.remove("README.md"));
    let expected: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(files, expected);
    let index = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = index.lines().filter_map(|line| {
        let (code, title) = line.strip_prefix("| [")?.split_once("](")?;
        Some((code.to_owned(), title.split_once(" | ")?.1.trim_end_matches(" |").to_owned()))
    });
    let rows: BTreeMap<String, String> = rows.collect();
    let expected: BTreeMap<String, String> =
        Code::ALL.iter().map(|code| (code.to_string(), code.title().to_owned())).collect();
    assert_eq!(rows, expected);
}
