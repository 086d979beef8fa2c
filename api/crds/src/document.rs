//! Text to trees: documents of a file, each with its lines, within limits that no bomb gets past.

mod decode;
mod json;
mod node;
mod split;

pub use decode::{DecodeError, decode};
pub use node::{Node, ParseError, Value, parse};
pub use split::{MAX_DOCUMENTS, Piece, TooManyDocuments, split};

/// The largest file that is read: 4 MiB.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The candidate that differs least from what was written, if it is near enough to be what was meant.
pub fn suggest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = written.chars().count() / 3 + 1;
    let near = candidates.map(|one| (distance(written, one), one)).min()?;
    (near.0 <= far.min(3)).then_some(near.1)
}

/// Edit distance, with the swap of neighbours as one edit; letter case costs nothing.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(80).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().take(80).flat_map(char::to_lowercase).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
