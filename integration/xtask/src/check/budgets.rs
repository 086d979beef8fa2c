//! Files stay short enough to be read at one sitting. Exceptions are a ratchet: they only shrink.

use super::exceptions::Exceptions;
use super::files::File;
use super::{Outcome, outcome};

/// Lines of product code in a file.
const LINES: usize = 400;

/// How far below its limit an excused file may be before the limit must follow.
const SLACK: usize = 10;

pub(super) fn check(files: &[File], exceptions: &Exceptions) -> Outcome {
    let product: Vec<_> = files.iter().filter(|file| file.is_product()).collect();
    let mut problems: Vec<_> = product.iter().filter_map(|file| over(file, exceptions)).collect();
    for (path, limit) in &exceptions.lines {
        let lines = product.iter().find(|file| file.path == *path).map(|file| product_lines(&file.text));
        problems.extend(stale(path, *limit, lines));
    }
    let longest = product.iter().max_by_key(|file| product_lines(&file.text));
    let longest = longest.map(|file| format!("{} with {} lines", file.path, product_lines(&file.text)));
    outcome(problems, format!("{} files, the longest {}", product.len(), longest.unwrap_or_default()))
}

fn over(file: &File, exceptions: &Exceptions) -> Option<String> {
    let excused = exceptions.lines.iter().find(|(path, _)| *path == file.path);
    let limit = excused.map_or(LINES, |(_, limit)| *limit);
    let lines = product_lines(&file.text);
    (lines > limit).then(|| format!("{}: {lines} lines of product code, at most {limit}", file.path))
}

/// Why an exception has had its day, if it has.
fn stale(path: &str, limit: usize, lines: Option<usize>) -> Option<String> {
    match lines {
        None => Some(format!("{path}: excused, but there is no such file: remove the exception")),
        Some(lines) if lines <= LINES => {
            Some(format!("{path}: excused, but within the budget with {lines} lines: remove the exception"))
        }
        Some(lines) if lines + SLACK < limit => {
            Some(format!("{path}: excused up to {limit} lines, but has {lines}: lower the limit"))
        }
        Some(_) => None,
    }
}

/// Lines before the file's tests.
fn product_lines(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines: usize, test_lines: usize) -> File {
        let text = format!("{}#[cfg(test)]\n{}", "x\n".repeat(lines), "t\n".repeat(test_lines));
        File { path: path.to_owned(), text }
    }

    fn problems(files: &[File], lines: &[(&str, usize)]) -> usize {
        let lines = lines.iter().map(|(path, limit)| ((*path).to_owned(), *limit)).collect();
        check(files, &Exceptions { lines, crates: Vec::new() }).err().map_or(0, |problems| problems.len())
    }

    #[test]
    fn only_product_lines_count() {
        assert_eq!(product_lines("a\n    #[cfg(test)]\nb\n#[cfg(test)]\nc\n"), 3);
        assert_eq!(problems(&[file("a/src/a.rs", 400, 900)], &[]), 0);
        assert_eq!(problems(&[file("a/src/a.rs", 401, 0)], &[]), 1);
        assert_eq!(problems(&[file("a/src/a/tests.rs", 900, 0), file("api/src/wire/a.rs", 900, 0)], &[]), 0);
    }

    #[test]
    fn exceptions_only_shrink() {
        let cases = [
            (450, 450, 0), // as excused
            (451, 450, 1), // beyond
            (445, 450, 0), // a little below
            (430, 450, 1), // too generous
            (400, 450, 1), // no longer needed
        ];
        for (lines, limit, expected) in cases {
            assert_eq!(
                problems(&[file("a.rs", lines, 0)], &[("a.rs", limit)]),
                expected,
                "{lines} of {limit}"
            );
        }
        assert_eq!(problems(&[], &[("gone.rs", 450)]), 1);
    }
}
