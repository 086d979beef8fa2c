//! Reading a program's metrics.

use std::collections::BTreeMap;

/// One sample: a name, labels and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All samples of one reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// Reads OpenMetrics or Prometheus text; lines that are neither are passed over.
    pub fn parse(text: &str) -> Self {
        Samples(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Samples of this name with all these labels.
    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        })
    }

    /// Their sum.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = match line.find(['{', ' '])? {
        end if line[end..].starts_with('{') => (&line[..end], &line[end + 1..]),
        end => {
            return Some(Sample {
                name: line[..end].to_owned(),
                labels: BTreeMap::new(),
                value: number(&line[end..])?,
            });
        }
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(after) = rest.strip_prefix('}') {
            return Some(Sample { name: name.to_owned(), labels, value: number(after)? });
        }
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(key.to_owned(), value);
        rest = after;
    }
}

/// Text up to the closing quotation mark, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn samples_are_found_by_their_labels() {
        let text =
            "# HELP x y\nx_total{a=\"1\",b=\"q\\\"}\"} 2\nx_total{a=\"1\",b=\"z\"} 3 # {} 1\ny 7\nbroken{\n";
        let samples = Samples::parse(text);
        assert_eq!(samples.sum("x_total", &[("a", "1")]), 5.0);
        assert_eq!(samples.sum("x_total", &[("b", "q\"}")]), 2.0);
        assert_eq!(samples.sum("y", &[]), 7.0);
        assert_eq!(samples.0.len(), 3);
    }
}
