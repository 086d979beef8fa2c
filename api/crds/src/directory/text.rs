//! The text of a file, within the documented limit.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::document::MAX_FILE_BYTES;

/// The file's text, or what is wrong and a mend.
pub(super) fn text(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |error: io::Error| (format!("cannot be read: {error}"), "give read permission");
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err((format!("larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024), "split the file"));
    }
    String::from_utf8(bytes)
        .map_err(|_| ("not YAML: it is no UTF-8 text".to_owned(), "correct or remove the file"))
}
