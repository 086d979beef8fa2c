//! What `--help` says of every command, as a golden text: `src/testdata/help.txt`. `AMBIT_BLESS=1` writes it.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};

use crate::Arguments;

/// The help of a command and of those below it.
fn told(command: &mut Command, path: &str, text: &mut String) {
    text.push_str(&format!("$ {path} --help\n{}\n", command.render_long_help()));
    let below: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    for name in below.iter().filter(|name| *name != "help") {
        if let Some(one) = command.find_subcommand_mut(name) {
            told(one, &format!("{path} {name}"), text);
        }
    }
}

#[test]
fn help_is_as_it_was_read_last() {
    let mut command = Arguments::command();
    command.build();
    let mut text = String::new();
    told(&mut command, "ambit", &mut text);
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata/help.txt");
    if std::env::var_os("AMBIT_BLESS").is_some() {
        fs::write(&path, &text).expect("it is written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let first = text.lines().zip(golden.lines()).find(|(now, before)| now != before);
    assert!(text == golden, "read the difference, and bless it if it is right; it begins at {first:?}");
}

#[test]
fn every_flag_says_what_it_is_for() {
    fn silent(command: &Command, path: &str, found: &mut Vec<String>) {
        let own =
            command.get_arguments().filter(|one| one.get_help().is_none() && one.get_long_help().is_none());
        found.extend(own.map(|one| format!("{path} {}", one.get_id())));
        command.get_subcommands().for_each(|one| silent(one, &format!("{path} {}", one.get_name()), found));
    }
    let mut command = Arguments::command();
    command.build();
    let mut found = Vec::new();
    silent(&command, "ambit", &mut found);
    assert_eq!(found, Vec::<String>::new());
}
