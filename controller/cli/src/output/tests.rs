//! Text, JSON and YAML of the same rows.

use serde::Serialize;

use super::{Format, Row, Rows, render};

#[derive(Serialize)]
struct Pod {
    name: &'static str,
    ports: Vec<u16>,
}

impl Row for Pod {
    const HEAD: &'static [&'static str] = &["NAME", "PORTS"];

    fn cells(&self) -> Vec<String> {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        vec![self.name.to_owned(), ports.join(",")]
    }
}

fn rows() -> Rows<Pod> {
    let ann = Pod { name: "änn", ports: vec![80, 443] };
    let longer = Pod { name: "bo\x1bb-and-more", ports: Vec::new() };
    Rows::new(vec![ann, longer], "no pods")
}

#[test]
fn columns_are_as_wide_as_their_widest_cell_and_nothing_moves_the_cursor() {
    let text = render(&rows(), Format::Table).unwrap();
    assert_eq!(text, "NAME           PORTS\nänn            80,443\nbo b-and-more\n");
}

#[test]
fn programs_get_the_values() {
    let json = render(&rows(), Format::Json).unwrap();
    let expected = serde_json::json!([
        {"name": "änn", "ports": [80, 443]}, {"name": "bo\u{1b}b-and-more", "ports": []}
    ]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), expected);
    let yaml = render(&rows(), Format::Yaml).unwrap();
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), expected);
}

#[test]
fn nothing_says_so_to_people_and_is_an_empty_list_to_programs() {
    let none: Rows<Pod> = Rows::new(Vec::new(), "no pods in namespace x");
    let text = |format| render(&none, format).unwrap();
    assert_eq!(text(Format::Table), "no pods in namespace x\n");
    assert_eq!((text(Format::Json).trim(), text(Format::Yaml).trim()), ("[]", "[]"));
}
