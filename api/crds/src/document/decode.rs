//! Trees to types through serde, with errors that name the field's path and line.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::node::{Key, Node, Value};
use super::suggest;
use crate::code::Code;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What it is about.
    pub code: Code,
    /// Steps from the root, last one first.
    path: Vec<String>,
    /// The line in the file, from 1; 0 until it is known.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub mend: String,
}

/// Makes a type of a tree.
pub fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, DecodeError> {
    T::deserialize(node)
}

impl DecodeError {
    /// The field's path, such as `spec.rules[0].from`; empty for the document itself.
    pub fn field(&self) -> String {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        path
    }

    /// Puts a step in front of the path.
    pub fn under(mut self, step: &str, line: u32) -> Self {
        self.path.push(step.to_owned());
        self.line_or(line)
    }

    /// The same, about something more particular.
    pub fn coded(self, code: Code) -> Self {
        Self { code, ..self }
    }

    fn new(code: Code, message: String, mend: &str) -> Self {
        Self { code, path: Vec::new(), line: 0, message, mend: mend.to_owned() }
    }

    fn line_or(mut self, line: u32) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field(), self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(sentence: T) -> Self {
        let sentence = sentence.to_string();
        // Sentences of ours are written "what is wrong; what to do".
        let (message, mend) = sentence.rsplit_once("; ").unwrap_or((&sentence, ""));
        Self::new(Code::BadValue, message.to_owned(), mend)
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let message = format!("wrong type: {unexpected} where {expected} belongs");
        let quotes = matches!(
            unexpected,
            de::Unexpected::Unsigned(_)
                | de::Unexpected::Signed(_)
                | de::Unexpected::Bool(_)
                | de::Unexpected::Float(_)
        ) && expected.to_string().contains("string");
        let mend = if quotes { "put it in quotes" } else { "write the expected type" };
        Self::new(Code::WrongType, message, mend)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mend = match suggest(variant, expected.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write one of {}", expected.join(", ")),
        };
        Self::new(Code::UnknownValue, format!("unknown value {variant:?}"), &mend)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mend = match suggest(field, expected.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known here: {}", expected.join(", ")),
        };
        Self::new(Code::UnknownField, "unknown field".to_owned(), &mend)
    }

    fn missing_field(field: &'static str) -> Self {
        let message = format!("the field {field:?} is missing");
        Self::new(Code::MissingField, message, "add it")
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let made = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Negative(value) => visitor.visit_i64(*value),
            Value::Number(value) => visitor.visit_u64(*value),
            Value::Fraction(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter(), place: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { entries, fields: None, value: None }),
        };
        made.map_err(|error| error.line_or(self.line))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A known field that is null counts as absent, as in Kubernetes.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.value {
            Value::Map(entries) => visitor
                .visit_map(Entries { entries, fields: Some(fields), value: None })
                .map_err(|error| error.line_or(self.line)),
            _ => self.deserialize_any(Described { visitor, what: "an object" }),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.value {
            Value::Text(text) => {
                let text: StrDeserializer<'_, DecodeError> = text.as_str().into_deserializer();
                de::Deserializer::deserialize_enum(text, name, variants, visitor)
                    .map_err(|error| error.line_or(self.line))
            }
            _ => self.deserialize_any(Described { visitor, what: "a string" }),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// A visitor that says in plain words what belongs there, instead of serde's Rust names.
struct Described<V> {
    visitor: V,
    what: &'static str,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Described<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        if self.what == "an object" {
            return self.visitor.visit_map(entries);
        }
        Err(de::Error::invalid_type(de::Unexpected::Map, &self))
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    place: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let step = format!("[{}]", self.place);
        self.place += 1;
        seed.deserialize(item).map(Some).map_err(|error| error.under(&step, item.line))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'de> {
    entries: &'de [(Key, Node)],
    fields: Option<&'static [&'static str]>,
    value: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        while let [entry, rest @ ..] = self.entries {
            self.entries = rest;
            let (key, node) = entry;
            let absent = node.value == Value::Null
                && self.fields.is_some_and(|fields| fields.contains(&key.text.as_str()));
            if absent {
                continue;
            }
            self.value = Some(entry);
            let text: StrDeserializer<'_, DecodeError> = key.text.as_str().into_deserializer();
            return seed.deserialize(text).map(Some).map_err(|error| error.under(&key.text, key.line));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let (key, node) = self.value.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(node).map_err(|error| error.under(&key.text, key.line))
    }
}
