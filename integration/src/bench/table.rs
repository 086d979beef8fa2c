//! What came of a run: medians and ranges over the rounds, as a table for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::Layer;
use super::row::{Figure, Row};

/// All samples of a run: per row and figure, and per competitor, one per round.
pub(super) struct Results {
    layer: Layer,
    competitors: Vec<String>,
    samples: BTreeMap<(Row, Figure), Vec<Vec<f64>>>,
}

/// Median and range of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<_> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { least, median: f64::midpoint(low, high), most })
    }

    fn show(self, figure: Figure) -> String {
        if self.least == self.most {
            return figure.show(self.median);
        }
        let (least, most) = (figure.show(self.least), figure.show(self.most));
        format!("{} ({least} to {most})", figure.show(self.median))
    }
}

impl Results {
    pub(super) fn new(layer: Layer, competitors: Vec<String>) -> Self {
        Self { layer, competitors, samples: BTreeMap::new() }
    }

    /// Adds one sample of a competitor.
    pub(super) fn add(&mut self, row: Row, figure: Figure, competitor: usize, sample: f64) {
        let all = self.competitors.len();
        let samples = self.samples.entry((row, figure)).or_insert_with(|| vec![Vec::new(); all]);
        samples[competitor].push(sample);
    }

    /// Adds, for every row, what each competitor's median of a round is above that of the first one.
    pub(super) fn compare(&mut self) {
        for row in self.rows() {
            let Some([base, others @ ..]) = self.samples.get(&(row, Figure::Median)).map(Vec::as_slice)
            else {
                continue;
            };
            let above = |samples: &Vec<f64>| samples.iter().zip(base).map(|(one, base)| one - base).collect();
            let added = [vec![Vec::new()], others.iter().map(above).collect()].concat();
            self.samples.insert((row, Figure::Added), added);
        }
    }

    /// The rows that were measured.
    fn rows(&self) -> Vec<Row> {
        let rows = Row::of(self.layer).iter().copied();
        rows.filter(|row| self.samples.keys().any(|(measured, _)| measured == row)).collect()
    }

    /// Lines of cells; a line of two cells is the title of what follows and the command that repeats it.
    fn lines(&self, with: &str) -> Vec<Vec<String>> {
        let mut lines = Vec::new();
        for row in self.rows() {
            let command = format!("cargo xtask bench {} --only {}{with}", self.layer.key(), row.key());
            lines.push(vec![row.title().to_owned(), command]);
            for figure in row.figures() {
                let Some(samples) = self.samples.get(&(row, *figure)) else { continue };
                let cell = |samples: &Vec<f64>| {
                    Spread::of(samples).map_or_else(|| "–".to_owned(), |spread| spread.show(*figure))
                };
                let aim = row.aim(self.layer, *figure).map_or_else(String::new, |aim| aim.show(*figure));
                let mut line = vec![figure.title().to_owned()];
                line.extend(samples.iter().map(cell));
                line.push(aim);
                lines.push(line);
            }
        }
        lines
    }

    fn head(&self) -> Vec<String> {
        let mut head = vec!["median (least to most)".to_owned()];
        head.extend(self.competitors.iter().cloned());
        head.push("ours should".to_owned());
        head
    }

    /// For a terminal; `with` are the options that the commands need besides.
    pub(super) fn text(&self, with: &str) -> String {
        let (head, mut lines) = (self.head(), self.lines(with));
        let figures = |line: &&Vec<String>| line.len() > 2;
        lines.iter_mut().filter(|line| line.len() > 2).for_each(|line| line[0].insert_str(0, "  "));
        let wide = |column: usize| {
            let cells = lines.iter().filter(figures).chain([&head]);
            let widths = cells.filter_map(|line| line.get(column)).map(|cell| cell.chars().count());
            widths.max().unwrap_or_default() + 2
        };
        let widths: Vec<_> = (0..head.len()).map(wide).collect();
        let mut text = String::new();
        for line in std::iter::once(&head).chain(&lines) {
            if let [title, command] = line.as_slice() {
                // Writing to a String cannot fail.
                let _ = write!(text, "\n{title}    $ {command}\n");
                continue;
            }
            for (cell, width) in line.iter().zip(&widths) {
                let _ = write!(text, "{cell:width$}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// For a page.
    pub(super) fn markdown(&self, with: &str) -> String {
        let head = self.head();
        let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
        for line in self.lines(with) {
            let _written = match line.as_slice() {
                [title, command] => {
                    writeln!(text, "| **{title}**<br>`{command}` |{}", " |".repeat(head.len() - 1))
                }
                cells => writeln!(text, "| {} |", cells.join(" | ")),
            };
        }
        text
    }

    /// Every sample.
    pub(super) fn json(&self) -> Value {
        let mut rows = serde_json::Map::new();
        for ((row, figure), samples) in &self.samples {
            for (competitor, samples) in self.competitors.iter().zip(samples) {
                let Some(spread) = Spread::of(samples) else { continue };
                let told = json!({"median": spread.median, "least": spread.least, "most": spread.most, "samples": samples});
                rows.entry(row.key()).or_insert_with(|| json!({}))[competitor.as_str()][figure.key()] = told;
            }
        }
        Value::Object(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges() {
        let spread = |least, median, most| Some(Spread { least, median, most });
        let cases: [(&[f64], Option<Spread>); 4] = [
            (&[3.0, 1.0, 2.0], spread(1.0, 2.0, 3.0)),
            (&[1.0, 2.0], spread(1.0, 1.5, 2.0)),
            (&[5.0, f64::NAN], spread(5.0, 5.0, 5.0)),
            (&[f64::NAN], None),
        ];
        for (samples, expected) in cases {
            assert_eq!(Spread::of(samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn what_is_added_is_the_difference_within_a_round() {
        let mut results = Results::new(Layer::Checkout, ["no mesh", "ours"].map(str::to_owned).into());
        for (without, with) in [(100.0, 150.0), (200.0, 220.0), (100.0, 130.0)] {
            results.add(Row::Orders1, Figure::Median, 0, without);
            results.add(Row::Orders1, Figure::Median, 1, with);
        }
        results.compare();
        assert!(results.text("").contains("added to p50, µs"), "{}", results.text(""));
        assert_eq!(results.json()["orders1"]["ours"]["added_to_p50_microseconds"]["median"], 30.0);
        assert!(results.json()["orders1"]["no mesh"]["added_to_p50_microseconds"].is_null());
    }

    #[test]
    fn tables_name_competitors_rows_and_aims() {
        let mut results = Results::new(Layer::L4, vec!["no mesh".to_owned(), "ours".to_owned()]);
        for sample in [100.0, 120.0, 110.0] {
            results.add(Row::KeepAlive1, Figure::Median, 0, 50.0);
            results.add(Row::KeepAlive1, Figure::Median, 1, sample);
        }
        let expected = "\
median (least to most)         no mesh  ours              ours should

HTTP keep-alive, 1 connection $ cargo xtask bench l4 --only keep-alive1 --ztunnel PATH
  p50, µs ↓                    50       110 (100 to 120)  ≤ 130
";
        let with = " --ztunnel PATH";
        let text = results.text(with);
        let squeezed = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&text), squeezed(expected));
        let page = results.markdown(with);
        assert!(page.contains("| p50, µs ↓ | 50 | 110 (100 to 120) | ≤ 130 |"), "{page}");
        let command = "`cargo xtask bench l4 --only keep-alive1 --ztunnel PATH` | | | |";
        assert!(page.contains(command), "{page}");
        assert_eq!(results.json()["keep-alive1"]["ours"]["p50_microseconds"]["median"], 110.0);
    }
}
