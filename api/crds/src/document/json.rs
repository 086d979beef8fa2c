//! JSON that somebody else has parsed, as a tree without lines.

use serde_json::Value as Json;

use super::node::{Key, Node, Value};

/// What has no file has no lines.
const NO_LINE: u32 = 0;

impl From<Json> for Node {
    fn from(json: Json) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => number_of(&number),
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Json::Object(entries) => {
                let entry = |(text, value)| (Key { line: NO_LINE, text }, Self::from(value));
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Self { line: NO_LINE, value }
    }
}

fn number_of(number: &serde_json::Number) -> Value {
    if let Some(value) = number.as_u64() {
        return Value::Number(value);
    }
    match number.as_i64() {
        Some(value) => Value::Negative(value),
        // JSON has no other numbers.
        None => Value::Fraction(number.as_f64().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;

    /// A tree without its lines.
    fn bare(mut node: Node) -> Node {
        node.line = NO_LINE;
        node.value = match node.value {
            Value::List(items) => Value::List(items.into_iter().map(bare).collect()),
            Value::Map(entries) => {
                let entry = |(key, node): (Key, Node)| (Key { line: NO_LINE, ..key }, bare(node));
                Value::Map(entries.into_iter().map(entry).collect())
            }
            other => other,
        };
        node
    }

    #[test]
    fn json_and_its_text_are_the_same_tree() {
        let text = r#"{"a": null, "b": [true, 1, -1, 1.5, "x"], "c": {"d": {}}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(Node::from(json), bare(parse(text, 1).unwrap()));
    }
}
