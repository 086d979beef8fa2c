//! A document as a tree in which every value knows its line.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Limits against documents that grow when they are read.
const MAX_DEPTH: usize = 48;
const MAX_NODES: usize = 100_000;
const MAX_ALIASES: usize = 1_000;

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line in the file, from 1.
    pub line: u32,
    /// The value.
    pub value: Value,
}

/// A value of YAML or JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number below zero.
    Negative(i64),
    /// Zero or more.
    Number(u64),
    /// A number with a fraction.
    Fraction(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order written.
    Map(Vec<(Key, Node)>),
}

/// A key and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The line in the file, from 1.
    pub line: u32,
    /// The key.
    pub text: String,
}

/// A text that is not YAML (or breaks a limit).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The line in the file, from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

impl Node {
    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(name, _)| name.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The value at a place of a list.
    pub fn item(&self, place: usize) -> Option<&Self> {
        match &self.value {
            Value::List(items) => items.get(place),
            _ => None,
        }
    }

    /// The value under a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The objects of a document that is a list of them.
    pub fn list(&self) -> Option<&[Self]> {
        let is_list = self.get("kind").and_then(Self::text).is_some_and(|kind| kind == "List");
        match &self.get("items").filter(|_| is_list)?.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The object at a place of a document that is a list of them; else the document, which is the object.
    pub fn object(&self, place: usize) -> &Self {
        self.list().and_then(|items| items.get(place)).unwrap_or(self)
    }

    /// The line of a field such as `spec.http[0].timeout`, or of the deepest part of its path that is there; nothing where even
    /// its first part is not. Keys may hold dots, as those of labels do.
    pub fn line_of(&self, field: &str) -> Option<u32> {
        let field = field.strip_prefix('.').unwrap_or(field);
        let (node, line, rest) = match &self.value {
            Value::List(_) => {
                let (place, rest) = field.strip_prefix('[')?.split_once(']')?;
                let item = self.item(place.parse().ok()?)?;
                (item, item.line, rest)
            }
            Value::Map(entries) => {
                let behind = |key: &Key| {
                    let rest = field.strip_prefix(key.text.as_str())?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
                };
                let found = entries.iter().filter_map(|(key, node)| Some((key, node, behind(key)?)));
                let (key, node, rest) = found.max_by_key(|(key, ..)| key.text.len())?;
                (node, key.line, rest)
            }
            _ => return None,
        };
        Some(node.line_of(rest).unwrap_or(line))
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Moves every line by the place of the document in its file.
    fn shift(&mut self, by: u32) {
        self.line += by;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Value::Map(entries) => {
                for (key, node) in entries {
                    key.line += by;
                    node.shift(by);
                }
            }
            _ => {}
        }
    }
}

/// Parses one document that begins on the given line. JSON is YAML too.
pub fn parse(text: &str, first_line: u32) -> Result<Node, ParseError> {
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget());
    options.alias_limits.max_total_replayed_events = 4 * MAX_NODES;
    options.with_snippet = false;
    let shift = first_line.saturating_sub(1);
    match serde_saphyr::from_str_with_options::<Node>(text, options) {
        Ok(mut node) => {
            if shift > 0 {
                node.shift(shift);
            }
            Ok(node)
        }
        Err(error) => {
            let line =
                error.location().map_or(1, |place| u32::try_from(place.line()).unwrap_or(u32::MAX)).max(1);
            let message = error.without_snippet().to_string();
            Err(ParseError { line: line.saturating_add(shift), message: strip_place(&message) })
        }
    }
}

fn budget() -> serde_saphyr::Budget {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 4 * MAX_NODES;
    budget.max_aliases = MAX_ALIASES;
    budget.max_documents = 1;
    budget
}

/// The place is said once, by the fault; within the parser's sentence it would be relative to the document.
fn strip_place(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    // What its author can do about it is not what a program could.
    let first = first.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    let cut = first.find(" at line ").or_else(|| first.find(" (line ")).unwrap_or(first.len());
    match first.strip_prefix("error: ").unwrap_or(first) {
        short if cut == first.len() => short.to_owned(),
        _ => first[..cut].strip_prefix("error: ").unwrap_or(&first[..cut]).to_owned(),
    }
}

fn line_of(place: serde_saphyr::Location) -> u32 {
    u32::try_from(place.line()).unwrap_or(u32::MAX).max(1)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: line_of(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Negative(value), Value::Number))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, node)) = entries.next_entry::<Spanned<String>, Node>()? {
            map.push((Key { line: line_of(key.referenced), text: key.value }, node));
        }
        Ok(Value::Map(map))
    }
}
