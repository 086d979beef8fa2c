//! What the runtime's CNI configuration has to look like for our plugin to be called, and what it has to look like for it not
//! to be. Pure: the files of the folder go in, the changes come out.
//!
//! The runtime uses the first file of the folder, by name. Our plugin is appended to the plugins of that one, and stands in
//! no other. The file as it was lies beside it under a name that no runtime reads, and comes back byte for byte when the
//! plugin leaves, unless somebody has changed the file since: then our entry alone is taken out.
//!
//! A file of a single plugin (`.conf`) becomes a list (`.conflist`), since there can be no second plugin in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::plugin::{NAME, VERSIONS};

/// What is appended to the name of a file that is kept as it was.
pub const KEPT: &str = ".before-ambit";
/// Names of files that a runtime reads end so.
const READ: [&str; 3] = [".conf", ".conflist", ".json"];
const LIST: &str = ".conflist";

/// The files of the folder, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Whether our plugin is to be called.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// With this entry.
    Chained(Value),
    /// Not at all.
    Absent,
}

/// One change of the folder. They are made in their order, each of them atomic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Write a file.
    Write(String, Vec<u8>),
    /// Remove a file.
    Remove(String),
}

/// Why our plugin cannot be chained.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No plugin makes networks yet.
    #[error("there is no CNI configuration yet: the cluster's network plugin has to write one first")]
    Nothing,
    /// The first file is too old for plugins behind others.
    #[error("{file} has cniVersion {version:?}, and plugins can be chained from {} on", VERSIONS[0])]
    TooOld {
        /// Its name.
        file: String,
        /// Its version.
        version: String,
    },
}

/// What must change for the wish to be true. An error comes with nothing to change.
pub fn plan(files: &Files, wish: &Wish) -> Result<Vec<Edit>, ChainError> {
    let first = match wish {
        Wish::Chained(_) => Some(first(files).ok_or(ChainError::Nothing)?),
        Wish::Absent => None,
    };
    let mut edits = Vec::new();
    if let (Wish::Chained(entry), Some((name, configuration))) = (wish, &first) {
        edits.extend(chain(files, name, configuration, entry)?);
    }
    // Chained somewhere else as long as another file was the first, or altogether.
    for (name, bytes) in files.iter().filter(|(name, _)| is_read(name)) {
        let is_first = first.as_ref().is_some_and(|(first, _)| name == first || *name == listed(first));
        if !is_first && has_entry(&parse(bytes)) {
            edits.extend(restore(files, name, bytes));
        }
    }
    Ok(edits)
}

/// Whether any file calls our plugin.
pub fn is_chained(files: &Files) -> bool {
    files.iter().any(|(name, bytes)| is_read(name) && has_entry(&parse(bytes)))
}

/// The file that the runtime uses: the first that is a configuration.
fn first(files: &Files) -> Option<(String, Map<String, Value>)> {
    let mut configurations = files.iter().filter(|(name, _)| is_read(name));
    configurations.find_map(|(name, bytes)| {
        let Some(Value::Object(configuration)) = parse(bytes) else { return None };
        let is_one = configuration.contains_key(if name.ends_with(LIST) { "plugins" } else { "type" });
        is_one.then(|| (name.clone(), configuration))
    })
}

fn chain(
    files: &Files,
    name: &str,
    configuration: &Map<String, Value>,
    entry: &Value,
) -> Result<Vec<Edit>, ChainError> {
    let list = listed(name);
    let mut configuration = match list == name {
        true => configuration.clone(),
        false => as_list(configuration),
    };
    let version = configuration.get("cniVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !VERSIONS.contains(&version.as_str()) {
        return Err(ChainError::TooOld { file: name.to_owned(), version });
    }
    let Some(plugins) = configuration.get_mut("plugins").and_then(Value::as_array_mut) else {
        return Err(ChainError::Nothing);
    };
    let is_foreign = !plugins.iter().any(is_ours);
    plugins.retain(|plugin| !is_ours(plugin));
    plugins.push(entry.clone());
    let chained = pretty(&configuration.into());
    let mut edits = Vec::new();
    if files.get(&list) == Some(&chained) {
        return Ok(edits);
    }
    // First of all what was there is kept: a crash in between loses nothing.
    if is_foreign && let Some(bytes) = files.get(name) {
        edits.push(Edit::Write(format!("{name}{KEPT}"), bytes.clone()));
    }
    edits.push(Edit::Write(list.clone(), chained));
    if list != name {
        edits.push(Edit::Remove(name.to_owned()));
    }
    Ok(edits)
}

/// The file as it was before us: kept beside it, under its own name or under that of the single plugin it was.
fn restore(files: &Files, name: &str, bytes: &[u8]) -> Vec<Edit> {
    let mut plain = parse(bytes).unwrap_or_default();
    if let Some(plugins) = plain.get_mut("plugins").and_then(Value::as_array_mut) {
        plugins.retain(|plugin| !is_ours(plugin));
    }
    let stem = name.strip_suffix(LIST).unwrap_or(name);
    let before = [name.to_owned(), format!("{stem}.conf"), format!("{stem}.json")];
    let kept = before.into_iter().find_map(|before| Some((files.get(&format!("{before}{KEPT}"))?, before)));
    let Some((kept, before)) = kept else {
        return vec![Edit::Write(name.to_owned(), pretty(&plain))];
    };
    let same = match parse(kept) {
        Some(Value::Object(kept)) if before != name => Value::from(as_list(&kept)) == plain,
        Some(kept) => kept == plain,
        None => false,
    };
    let forget = Edit::Remove(format!("{before}{KEPT}"));
    match (same, before == name) {
        (true, true) => vec![Edit::Write(before, kept.clone()), forget],
        (true, false) => vec![Edit::Write(before, kept.clone()), Edit::Remove(name.to_owned()), forget],
        (false, _) => vec![Edit::Write(name.to_owned(), pretty(&plain)), forget],
    }
}

fn as_list(single: &Map<String, Value>) -> Map<String, Value> {
    let mut list = Map::new();
    let mut plugin = single.clone();
    for shared in ["cniVersion", "name"] {
        list.extend(plugin.remove(shared).map(|value| (shared.to_owned(), value)));
    }
    list.insert("plugins".to_owned(), json!([plugin]));
    list
}

fn listed(name: &str) -> String {
    let stem = READ.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    format!("{stem}{LIST}")
}

fn is_read(name: &str) -> bool {
    READ.iter().any(|end| name.ends_with(end))
}

fn has_entry(configuration: &Option<Value>) -> bool {
    let plugins = configuration.as_ref().and_then(|configuration| configuration["plugins"].as_array());
    plugins.is_some_and(|plugins| plugins.iter().any(is_ours))
}

fn is_ours(plugin: &Value) -> bool {
    plugin["type"] == NAME
}

fn parse(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

fn pretty(configuration: &Value) -> Vec<u8> {
    let mut text = format!("{configuration:#}").into_bytes();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests;
