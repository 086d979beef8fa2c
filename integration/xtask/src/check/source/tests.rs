//! Scans of text: what counts as code, as unsafe, as a machine's path.

use super::*;

fn file(path: &str, text: &str) -> Vec<File> {
    vec![File { path: path.to_owned(), text: text.to_owned() }]
}

#[test]
fn unsafe_is_found_in_code_only() {
    let found = [
        "fn a() { unsafe { b() } }",
        "unsafe fn a() {}",
        "#[expect(unsafe_code, reason = \"x\")]",
        "let a = '\"'; unsafe { b() }",
        "let a = '\\''; unsafe { b() }",
        "let a = r#\"x\"y\"#; unsafe {}",
        "let a = \"x\\\"\"; unsafe {}",
        "/* a /* b */ c */ unsafe {}",
        "fn f<'a>(x: &'a str) { unsafe {} }",
    ];
    for text in found {
        assert_eq!(no_unsafe(&file("a.rs", text)).unwrap_err().len(), 1, "{text}");
        assert!(no_unsafe(&file(UNSAFE, text)).is_ok());
    }
    let innocent = [
        "// unsafe { }",
        "//! unsafe",
        "/* unsafe\n unsafe */ fn a() {}",
        "let a = \"unsafe { }\";",
        "let a = \"\\\" unsafe\";",
        "let a = r#\"unsafe \" unsafe\"#;",
        "let a = br\"unsafe\";",
        "fn no_unsafe() {}",
    ];
    for text in innocent {
        assert!(no_unsafe(&file("a.rs", text)).is_ok(), "{text}: {}", code_only(text));
    }
}

#[test]
fn the_line_is_named() {
    let text = "//! é\nlet a = \"x\ny\";\nunsafe {}\n";
    assert_eq!(
        no_unsafe(&file("a.rs", text)).unwrap_err(),
        [format!("a.rs:4: unsafe code belongs in {UNSAFE}")]
    );
}

#[test]
fn files_begin_with_their_purpose() {
    assert!(headers(&file("a.rs", "//! What it is for.\n")).is_ok());
    for text in ["", "use std::io;\n", "//!\n", "// comment\n"] {
        assert!(headers(&file("a.rs", text)).is_err(), "{text:?}");
    }
    assert!(headers(&file("api/src/wire/a.rs", "// @generated")).is_ok());
}

#[test]
fn paths_of_one_machine_are_found() {
    let [work, ..] = MACHINE;
    for line in [format!("{work}/main"), format!("x {work}/a"), format!("\"{work}/\""), format!("a={work}/b")]
    {
        assert!(no_machine_paths(&file("README.md", &line)).is_err(), "{line}");
    }
    for line in [
        format!("{work}loads/a"),
        format!("api{work}/b"),
        format!("https://x.y{work}/z"),
        format!("{{a}}{work}/b"),
    ] {
        assert!(no_machine_paths(&file("README.md", &line)).is_ok(), "{line}");
    }
}
