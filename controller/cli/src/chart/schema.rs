//! Holds values against the chart's schema: the part of JSON Schema that it uses, and nothing else.

use ambit_crds::document::suggest;
use regex::Regex;
use serde_json::{Map, Value};

/// What the schema may say. Other words are refused, so that Helm and this agree.
const WORDS: [&str; 15] = [
    "$schema",
    "$ref",
    "definitions",
    "title",
    "description",
    "type",
    "properties",
    "additionalProperties",
    "required",
    "items",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
];

/// Everything that is wrong with values: path, what is wrong, and the mend where it is known.
pub(crate) fn check(values: &Value, schema: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    Checker { schema, wrong: &mut wrong }.value(values, schema, &mut Vec::new());
    wrong
}

struct Checker<'a> {
    schema: &'a Value,
    wrong: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn says(&mut self, path: &[String], says: impl AsRef<str>) {
        let path = if path.is_empty() { "values".to_owned() } else { path.join(".").replace(".[", "[") };
        self.wrong.push(format!("{path} {}", says.as_ref()));
    }

    fn value(&mut self, value: &Value, schema: &Value, path: &mut Vec<String>) {
        let Value::Object(words) = schema else { return };
        if let Some(unknown) = words.keys().find(|word| !WORDS.contains(&word.as_str())) {
            self.says(path, format!("cannot be checked: the schema says {unknown}, which is not understood"));
        }
        if let Some(name) = words.get("$ref").and_then(Value::as_str) {
            let place = name.strip_prefix('#').and_then(|pointer| self.schema.pointer(pointer));
            match place.cloned() {
                Some(meant) => self.value(value, &meant, path),
                None => self.says(path, format!("cannot be checked: the schema has no {name}")),
            }
            return;
        }
        if !self.is_of_type(value, words, path) {
            return;
        }
        if let Some(choice) = words.get("enum").and_then(Value::as_array)
            && !choice.contains(value)
        {
            let choice: Vec<String> = choice.iter().map(Value::to_string).collect();
            self.says(path, format!("must be one of {}, not {value}", choice.join(", ")));
        }
        match value {
            Value::Object(fields) => self.fields(fields, words, path),
            Value::Array(list) => {
                for (place, one) in list.iter().enumerate() {
                    path.push(format!("[{place}]"));
                    self.value(one, words.get("items").unwrap_or(&Value::Bool(true)), path);
                    path.pop();
                }
            }
            Value::String(text) => self.text(text, words, path),
            Value::Number(number) => self.number(number.as_f64().unwrap_or_default(), words, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn is_of_type(&mut self, value: &Value, words: &Map<String, Value>, path: &[String]) -> bool {
        let wanted: Vec<&str> = match words.get("type") {
            None => return true,
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(one) => one.as_str().into_iter().collect(),
        };
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = wanted.iter().any(|wanted| *wanted == is || (*wanted == "number" && is == "integer"));
        if !fits {
            let said = value.to_string();
            let said = if said.chars().count() > 40 { is.to_owned() } else { said };
            self.says(path, format!("must be {}, not {said}", wanted.join(" or ")));
        }
        fits
    }

    fn fields(&mut self, fields: &Map<String, Value>, words: &Map<String, Value>, path: &mut Vec<String>) {
        let none = Map::new();
        let known = words.get("properties").and_then(Value::as_object).unwrap_or(&none);
        for name in words.get("required").and_then(Value::as_array).into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                self.says(path, format!("needs {name}"));
            }
        }
        for (name, value) in fields {
            path.push(name.clone());
            match (known.get(name), words.get("additionalProperties")) {
                (Some(schema), _) => self.value(value, schema, path),
                (None, Some(Value::Bool(false))) => {
                    let near = suggest(name, known.keys().map(String::as_str));
                    let all = || known.keys().cloned().collect::<Vec<_>>().join(", ");
                    let mend = near
                        .map_or_else(|| format!("known there: {}", all()), |near| format!("write {near}"));
                    self.says(path, format!("is not known; {mend}"));
                }
                (None, Some(schema)) => self.value(value, schema, path),
                (None, None) => {}
            }
            path.pop();
        }
    }

    fn text(&mut self, text: &str, words: &Map<String, Value>, path: &[String]) {
        if let Some(pattern) = words.get("pattern").and_then(Value::as_str) {
            match Regex::new(pattern) {
                Ok(regex) if regex.is_match(text) => {}
                Ok(_) => self.says(path, format!("must look like {pattern}, not {text:?}")),
                Err(error) => self.says(path, format!("cannot be checked: {error}")),
            }
        }
        let least = words.get("minLength").and_then(Value::as_u64).unwrap_or_default();
        if (text.chars().count() as u64) < least {
            self.says(path, "must not be empty");
        }
    }

    fn number(&mut self, number: f64, words: &Map<String, Value>, path: &[String]) {
        if let Some(least) = words.get("minimum").and_then(Value::as_f64)
            && number < least
        {
            self.says(path, format!("must be at least {least}, not {number}"));
        }
        if let Some(most) = words.get("maximum").and_then(Value::as_f64)
            && number > most
        {
            self.says(path, format!("must be at most {most}, not {number}"));
        }
    }
}
