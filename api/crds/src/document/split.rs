//! Cuts a file into its documents, so that a broken one does not spoil the others.

/// The most documents one file may hold.
pub const MAX_DOCUMENTS: usize = 10_000;

/// One document's text and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The text, without its separator line.
    pub text: &'a str,
    /// Its first line in the file, from 1.
    pub line: u32,
}

/// A file with more documents than [`MAX_DOCUMENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_DOCUMENTS} documents in one file")]
pub struct TooManyDocuments;

/// Cuts at lines that begin with `---` (YAML allows them nowhere else in the first column) and leaves out what holds only
/// blanks and comments.
pub fn split(text: &str) -> Result<Vec<Piece<'_>>, TooManyDocuments> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pieces = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let (mut offset, mut line) = (0, 1);
    for raw in text.split_inclusive('\n') {
        let end = offset + raw.len();
        if is_separator(raw) {
            push(&mut pieces, &text[start..offset], first_line)?;
            // What follows the dashes on their own line belongs to the document: blank them by starting behind.
            start = offset + 3;
            first_line = line;
        }
        offset = end;
        line += 1;
    }
    push(&mut pieces, &text[start..], first_line)?;
    Ok(pieces)
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str, line: u32) -> Result<(), TooManyDocuments> {
    let blank = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "..." || line.starts_with("%YAML")
    };
    if text.lines().all(blank) {
        return Ok(());
    }
    if pieces.len() == MAX_DOCUMENTS {
        return Err(TooManyDocuments);
    }
    pieces.push(Piece { text, line });
    Ok(())
}
