//! Runs the chart's templates: what stands in them, with the values filled in.

use serde_json::{Map, Value};

use super::template::{Node, Operand, Pipe, Templates};

/// What templates may call; everything else is refused.
pub(super) const FUNCTIONS: [&str; 14] = [
    "and", "default", "dict", "eq", "fail", "include", "ne", "nindent", "not", "or", "printf", "quote",
    "toJson", "trunc",
];

/// Templates with their definitions.
pub(super) struct Run<'a> {
    pub(super) templates: &'a Templates,
}

/// Variables of the blocks around, the innermost last. The first is `$`.
type Variables = Vec<(String, Value)>;

impl Run<'_> {
    /// What nodes write with this as the dot.
    pub(super) fn text(&self, nodes: &[Node], dot: &Value) -> Result<String, String> {
        let mut text = String::new();
        self.nodes(nodes, dot, &mut vec![(String::new(), dot.clone())], &mut text)?;
        Ok(text)
    }

    fn nodes(
        &self,
        nodes: &[Node],
        dot: &Value,
        variables: &mut Variables,
        to: &mut String,
    ) -> Result<(), String> {
        let outside = variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => to.push_str(text),
                Node::Print(pipe) => to.push_str(&printed(&self.pipe(pipe, dot, variables)?)),
                Node::Set(name, pipe) => {
                    let value = self.pipe(pipe, dot, variables)?;
                    variables.push((name.clone(), value));
                }
                Node::If(branches, otherwise) => {
                    let mut taken = otherwise;
                    for (condition, nodes) in branches {
                        if is_true(&self.pipe(condition, dot, variables)?) {
                            taken = nodes;
                            break;
                        }
                    }
                    self.nodes(taken, dot, variables, to)?;
                }
                Node::With(pipe, nodes, otherwise) => {
                    let value = self.pipe(pipe, dot, variables)?;
                    match is_true(&value) {
                        true => self.nodes(nodes, &value, variables, to)?,
                        false => self.nodes(otherwise, dot, variables, to)?,
                    }
                }
                Node::Range(names, pipe, nodes) => {
                    for entry in entries(self.pipe(pipe, dot, variables)?)? {
                        let before = variables.len();
                        let bound = match names.as_slice() {
                            [] => Vec::new(),
                            [value] => vec![(value.clone(), entry.1.clone())],
                            [key, value, ..] => {
                                vec![(key.clone(), entry.0), (value.clone(), entry.1.clone())]
                            }
                        };
                        variables.extend(bound);
                        self.nodes(nodes, &entry.1, variables, to)?;
                        variables.truncate(before);
                    }
                }
            }
        }
        variables.truncate(outside);
        Ok(())
    }

    fn pipe(&self, pipe: &Pipe, dot: &Value, variables: &Variables) -> Result<Value, String> {
        let mut last = None;
        for command in &pipe.0 {
            last = Some(self.command(command, last, dot, variables)?);
        }
        last.ok_or_else(|| "an empty pipe".to_owned())
    }

    fn command(
        &self,
        words: &[Operand],
        piped: Option<Value>,
        dot: &Value,
        variables: &Variables,
    ) -> Result<Value, String> {
        let value = |word: &Operand| match word {
            Operand::Dot(path) => at(dot, path),
            Operand::Variable(name, path) => {
                let held = variables.iter().rev().find(|(known, _)| known == name);
                at(&held.ok_or_else(|| format!("${name} is not set"))?.1, path)
            }
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Group(pipe) => self.pipe(pipe, dot, variables),
            Operand::Function(name) => self.call(name, Vec::new()),
        };
        match words {
            [Operand::Function(name), arguments @ ..] => {
                let arguments = arguments.iter().map(value).chain(piped.map(Ok));
                self.call(name, arguments.collect::<Result<_, _>>()?)
            }
            [only] if piped.is_none() => value(only),
            _ => Err("what is no function is called".to_owned()),
        }
    }

    fn call(&self, name: &str, arguments: Vec<Value>) -> Result<Value, String> {
        let text = |text: String| Ok(Value::String(text));
        match (name, arguments.as_slice()) {
            ("include", [Value::String(name), dot]) => {
                let nodes =
                    self.templates.defined.get(name).ok_or_else(|| format!("{name} is not defined"))?;
                text(self.text(nodes, dot)?)
            }
            // As Go writes it, which keeps it harmless in a page.
            ("toJson", [value]) => {
                let plain = value.to_string();
                text(plain.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"))
            }
            ("quote", [value]) => text(Value::String(printed(value)).to_string()),
            ("nindent", [Value::Number(by), Value::String(block)]) => {
                let by = " ".repeat(usize::try_from(by.as_u64().unwrap_or_default()).unwrap_or_default());
                text(format!("\n{by}{}", block.replace('\n', &format!("\n{by}"))))
            }
            ("trunc", [Value::Number(to), Value::String(whole)]) => {
                let to = usize::try_from(to.as_u64().unwrap_or_default()).unwrap_or_default();
                text(whole.chars().take(to).collect())
            }
            ("default", [other, value]) => Ok(if is_true(value) { value.clone() } else { other.clone() }),
            ("eq", [one, other]) => Ok(Value::Bool(one == other)),
            ("ne", [one, other]) => Ok(Value::Bool(one != other)),
            ("not", [value]) => Ok(Value::Bool(!is_true(value))),
            ("and", [.., last]) => Ok(arguments.iter().find(|one| !is_true(one)).unwrap_or(last).clone()),
            ("or", [.., last]) => Ok(arguments.iter().find(|one| is_true(one)).unwrap_or(last).clone()),
            ("dict", pairs) => dictionary(pairs),
            ("printf", [Value::String(format), values @ ..]) => text(filled(format, values)?),
            ("fail", [why]) => Err(printed(why)),
            _ if FUNCTIONS.contains(&name) => Err(format!("{name} is called with the wrong arguments")),
            _ => Err(format!("there is no function {name}")),
        }
    }
}

/// A field of a field; nothing where a name is not there.
fn at(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut value = value;
    for (place, name) in path.iter().enumerate() {
        value = match value {
            Value::Object(fields) => fields.get(name).unwrap_or(&Value::Null),
            _ => return Err(format!("there is no .{}: what holds it is no map", path[..=place].join("."))),
        };
    }
    Ok(value.clone())
}

/// As Go has it: nothing, zero and what is empty is false.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn entries(value: Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => {
            Ok(list.into_iter().enumerate().map(|(place, one)| (Value::from(place), one)).collect())
        }
        Value::Object(fields) => Ok(fields.into_iter().map(|(key, one)| (Value::String(key), one)).collect()),
        other => Err(format!("range over {other}")),
    }
}

fn dictionary(pairs: &[Value]) -> Result<Value, String> {
    let mut fields = Map::new();
    for pair in pairs.chunks(2) {
        let [Value::String(key), value] = pair else { return Err("dict takes pairs".to_owned()) };
        fields.insert(key.clone(), value.clone());
    }
    Ok(Value::Object(fields))
}

/// `printf` with `%s`, `%v` and `%d`.
fn filled(format: &str, values: &[Value]) -> Result<String, String> {
    let mut values = values.iter();
    let mut parts = format.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let value = values.next().ok_or("printf has too few values")?;
        let rest = part.strip_prefix(['s', 'v', 'd']).ok_or("printf knows %s, %v and %d alone")?;
        text.push_str(&printed(value));
        text.push_str(rest);
    }
    Ok(text)
}
