//! Values: the chart's own, over them a profile's, files, and `--set`, as Helm lays them over each other.

use serde_json::{Map, Value};

/// Lays values over others: maps are merged, `null` takes a key away, anything else replaces.
pub(crate) fn lay(over: Value, values: &mut Value) {
    match (values, over) {
        (Value::Object(fields), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    fields.remove(&key);
                } else {
                    lay(value, fields.entry(key).or_insert(Value::Null));
                }
            }
        }
        (values, over) => *values = over,
    }
}

/// What `--set` says, as Helm reads it: `a.b=c,d={1,2},e[0].f=true`. A backslash before a dot or comma makes it part of
/// the name or text.
pub(crate) fn set(text: &str, values: &mut Value) -> Result<(), String> {
    for pair in split(text, ',') {
        let (path, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no `=`"))?;
        let mut steps = Vec::new();
        for name in split(path, '.') {
            steps.extend(step(name).ok_or_else(|| format!("{path:?} is no path of names and [numbers]"))?);
        }
        put(values, &steps, scalar(value)).map_err(|says| format!("{path}: {says}"))?;
    }
    Ok(())
}

/// A step of a path.
enum Step {
    Name(String),
    Place(usize),
}

/// The longest list that `[number]` makes.
const LONGEST: usize = 1000;

fn put(values: &mut Value, steps: &[Step], value: Value) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *values = value;
        return Ok(());
    };
    match step {
        Step::Name(name) => {
            if !values.is_object() {
                *values = Value::Object(Map::new());
            }
            let Value::Object(fields) = values else { return Ok(()) };
            if rest.is_empty() && value.is_null() {
                fields.remove(name);
                return Ok(());
            }
            put(fields.entry(name.clone()).or_insert(Value::Null), rest, value)
        }
        Step::Place(place) => {
            if *place >= LONGEST {
                return Err(format!("[{place}] is more than a list of values holds"));
            }
            if !values.is_array() {
                *values = Value::Array(Vec::new());
            }
            let Value::Array(list) = values else { return Ok(()) };
            while list.len() <= *place {
                list.push(Value::Null);
            }
            put(&mut list[*place], rest, value)
        }
    }
}

/// `name`, `name[0]`, `name[0][1]`.
fn step(text: &str) -> Option<Vec<Step>> {
    let (name, places) = text.split_once('[').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let mut steps = vec![Step::Name((!name.is_empty()).then(|| plain(name))?)];
    for place in places.into_iter().flat_map(|places| places.split('[')) {
        steps.push(Step::Place(place.strip_suffix(']')?.parse().ok()?));
    }
    Some(steps)
}

/// Splits where the sign stands outside braces and without a backslash before it. The backslashes stay.
fn split(text: &str, at: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped, mut depth) = (0, false, 0_usize);
    for (place, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if letter == at && depth == 0 => {
                parts.push(&text[start..place]);
                start = place + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A text without the backslashes that escape.
fn plain(text: &str) -> String {
    let mut escaped = false;
    let keep = |letter: &char| {
        escaped = *letter == '\\' && !escaped;
        !escaped
    };
    text.chars().filter(keep).collect()
}

fn scalar(text: &str) -> Value {
    if let Some(list) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let parts = split(list, ',').into_iter().filter(|part| !part.is_empty());
        return Value::Array(parts.map(scalar).collect());
    }
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        // As Helm has it, what begins with a zero is a text.
        _ if text.starts_with('0') && text.len() > 1 => Value::String(text.to_owned()),
        _ => text.parse::<i64>().map_or_else(|_| Value::String(plain(text)), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_over_the_other() {
        let mut values = json!({ "a": { "b": 1, "c": [1, 2] }, "d": "x", "e": {} });
        lay(json!({ "a": { "c": [3], "n": null }, "d": null, "e": { "f": true }, "g": 1 }), &mut values);
        assert_eq!(values, json!({ "a": { "b": 1, "c": [3] }, "e": { "f": true }, "g": 1 }));
    }

    #[test]
    fn set_is_read_as_helm_reads_it() {
        let cases = [
            ("a.b=c", json!({ "a": { "b": "c" } })),
            ("a=1,b=true,c=null,d=x y", json!({ "a": 1, "b": true, "d": "x y" })),
            ("a=01,b=0,c=-3,d=1.5", json!({ "a": "01", "b": 0, "c": -3, "d": "1.5" })),
            (r"a.kubernetes\.io/os=linux", json!({ "a": { "kubernetes.io/os": "linux" } })),
            (r"a=x\,y", json!({ "a": "x,y" })),
            ("a={x,2},b=", json!({ "a": ["x", 2], "b": "" })),
            ("a[1].b=c,a[0]=d", json!({ "a": ["d", { "b": "c" }] })),
            ("tag=0.1", json!({ "tag": "0.1" })),
        ];
        for (text, expected) in cases {
            let mut values = json!({});
            assert_eq!(set(text, &mut values), Ok(()), "{text}");
            assert_eq!(values, expected, "{text}");
        }
        for text in ["a", "a..b=c", "a[x]=1", "a[1=2", "[0]=1", "a[100000]=1"] {
            assert!(set(text, &mut json!({})).is_err(), "{text}");
        }
    }
}
