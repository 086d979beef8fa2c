//! Text for people: lines, named values and tables whose columns are as wide as their widest cell.

use super::Row;

/// Between two columns.
const GAP: &str = "  ";

/// Of what belongs to a heading.
const INDENT: &str = "  ";

/// Text under way.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    indent: usize,
}

/// Rows of cells under names.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The rows of a list.
    pub(crate) fn of<R: Row>(rows: &[R]) -> Self {
        let head = R::HEAD.iter().map(|name| (*name).to_owned()).collect();
        Self { head, rows: rows.iter().map(Row::cells).collect() }
    }
}

impl Page {
    /// All of it.
    pub(crate) fn text(self) -> String {
        self.text
    }

    /// One line, without control characters: what is shown may have been written by anybody.
    pub(crate) fn line(&mut self, text: &str) {
        self.text.push_str(&INDENT.repeat(self.indent));
        self.text.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
        self.text.push('\n');
    }

    /// Names and values, the values below each other. A value of several parts takes a line for each.
    pub(crate) fn fields(&mut self, fields: &[(&str, Vec<String>)]) {
        let width = fields.iter().map(|(name, _)| width(name)).max().unwrap_or_default();
        for (name, values) in fields {
            for (place, value) in values.iter().enumerate() {
                let name = if place == 0 { *name } else { "" };
                self.line(&format!("{}{GAP}{value}", padded(name, width)));
            }
        }
    }

    /// A heading, and what belongs to it.
    pub(crate) fn section(&mut self, heading: &str, inside: impl FnOnce(&mut Self)) {
        if self.indent == 0 && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(heading);
        self.indent += 1;
        inside(self);
        self.indent -= 1;
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) {
        let mut widths: Vec<usize> = table.head.iter().map(|cell| width(cell)).collect();
        for row in &table.rows {
            for (place, cell) in row.iter().enumerate() {
                widths[place] = widths[place].max(width(cell));
            }
        }
        for row in std::iter::once(&table.head).chain(&table.rows) {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
            self.line(&cells.join(GAP));
        }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}
