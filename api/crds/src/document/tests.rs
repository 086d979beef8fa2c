//! Documents cut out of files, one by one.

use super::{MAX_DOCUMENTS, Piece, parse, split, suggest};

#[test]
fn files_are_cut_at_separators_and_lines_stay_absolute() {
    let text = "# only a comment\n---\na: 1\n--- # second\nb: 2\n---\n---\nc: |\n  ---\n  x\n--- {d: 4}\n";
    let pieces = split(text).unwrap();
    let first: Vec<(u32, &str)> = pieces.iter().map(|piece| (piece.line, piece.text.trim())).collect();
    assert_eq!(first, [(2, "a: 1"), (4, "# second\nb: 2"), (7, "c: |\n  ---\n  x"), (11, "{d: 4}")]);
    let node = parse(pieces[1].text, pieces[1].line).unwrap();
    assert_eq!(node.get("b").unwrap().line, 5);
    assert_eq!(parse("a: [", 7).unwrap_err().line, 7);
}

#[test]
fn windows_lines_and_byte_order_marks_do_not_matter() {
    let pieces = split("\u{feff}a: 1\r\n---\r\nb: 2\r\n").unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.line).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(split(&"a: 1\n---\n".repeat(MAX_DOCUMENTS)).unwrap().len(), MAX_DOCUMENTS);
    assert!(split(&"a: 1\n---\n".repeat(MAX_DOCUMENTS + 1)).is_err());
    assert_eq!(split("").unwrap(), Vec::<Piece<'_>>::new());
}

#[test]
fn json_with_tabs_is_read() {
    let node = parse("{\n\t\"a\": {\n\t\t\"b\": [1, \"2\"]\n\t}\n}", 1).unwrap();
    assert_eq!(node.at(&["a", "b"]).unwrap().line, 3);
}

#[test]
fn a_key_twice_in_one_map_is_an_error() {
    assert!(parse("a: 1\na: 2\n", 1).is_err());
}

#[test]
fn suggestions_are_near_or_none() {
    let known = ["principals", "notPrincipals", "namespaces", "ipBlocks"];
    for (written, expected) in [
        ("princpals", Some("principals")),
        ("Principals", Some("principals")),
        ("notPrincipal", Some("notPrincipals")),
        ("ipBlokcs", Some("ipBlocks")),
        ("flavour", None),
        ("", None),
    ] {
        assert_eq!(suggest(written, known.into_iter()), expected, "{written}");
    }
}

#[test]
fn a_field_has_the_line_of_its_deepest_part_that_is_there() {
    let text = "metadata:\n  labels:\n    istio.io/rev: a\n    istio.io: b\nspec:\n  http:\n  - route:\n    - weight: 1\n\n  - timeout: 1s\n";
    let node = parse(text, 10).unwrap();
    for (field, line) in [
        ("metadata", Some(10)),
        ("metadata.labels", Some(11)),
        ("metadata.labels.istio.io/rev", Some(12)),
        ("metadata.labels.istio.io", Some(13)),
        ("metadata.labels.other", Some(11)),
        ("spec.http[0].route[0].weight", Some(17)),
        ("spec.http[0].route[7].weight", Some(16)),
        ("spec.http[1].timeout", Some(19)),
        ("spec.http[x", Some(15)),
        ("status", None),
        ("", None),
    ] {
        assert_eq!(node.line_of(field), line, "{field}");
    }
}
