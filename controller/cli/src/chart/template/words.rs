//! Cuts a template into text and actions, and actions into words.

use serde_json::Value;

use super::Unreadable;

/// A part of a file.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Text, without what actions beside it eat.
    Text(String),
    /// The words between `{{` and `}}`, and the line they begin on.
    Action(usize, Vec<Token>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `(`
    Open,
    /// `)`
    Close,
    /// `|`
    Bar,
    /// `:=`
    Assign,
    /// `,`
    Comma,
    /// `.a.b`; without names it is the dot itself.
    Field(Vec<String>),
    /// `$x.a.b`
    Variable(String, Vec<String>),
    /// `"text"`, `12`, `true`
    Literal(Value),
    /// Anything else that is a name.
    Name(String),
}

/// The parts of a file.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Unreadable> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut eats = false;
    while let Some(start) = rest.find("{{") {
        let line = 1 + text[..text.len() - rest.len() + start].matches('\n').count();
        let wrong = |says: &str| Unreadable { line, says: says.to_owned() };
        let inside = &rest[start + 2..];
        let end = closing(inside).ok_or_else(|| wrong("`}}` expected"))?;
        let (before, mut action) = (&rest[..start], &inside[..end]);
        rest = &inside[end + 2..];
        let before = if eats { before.trim_start() } else { before };
        let eaten = action.strip_prefix("- ").or_else(|| action.strip_prefix("-\n"));
        let before = if eaten.is_some() { before.trim_end() } else { before };
        action = eaten.unwrap_or(action);
        eats = action.ends_with(" -");
        action = action.strip_suffix(" -").unwrap_or(action).trim();
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(line, tokens(action).map_err(|says| wrong(&says))?));
        }
    }
    let rest = if eats { rest.trim_start() } else { rest };
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Where an action ends: at the first `}}` outside quotes and comments.
fn closing(text: &str) -> Option<usize> {
    let start = text.find("/*").filter(|at| text[..*at].trim_matches(['-', ' ']).is_empty());
    if let Some(start) = start {
        let end = start + text[start..].find("*/")?;
        return Some(end + text[end..].find("}}")?);
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted && text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}

fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = action.trim_start();
    while let Some(letter) = rest.chars().next() {
        let end = match letter {
            '(' | ')' | '|' | ',' => 1,
            ':' if rest.starts_with(":=") => 2,
            '"' => quoted(rest).ok_or("a quote is not closed")?,
            _ => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$' | '-');
                rest.find(|c| !is_part(c)).unwrap_or(rest.len())
            }
        };
        if end == 0 {
            return Err(format!("{letter:?} is not understood"));
        }
        tokens.push(token(&rest[..end])?);
        rest = rest[end..].trim_start();
    }
    if tokens.is_empty() { Err("nothing in it".to_owned()) } else { Ok(tokens) }
}

/// The length of the text in quotes at the beginning.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn token(word: &str) -> Result<Token, String> {
    Ok(match word {
        "(" => Token::Open,
        ")" => Token::Close,
        "|" => Token::Bar,
        ":=" => Token::Assign,
        "," => Token::Comma,
        "." => Token::Field(Vec::new()),
        "true" | "false" => Token::Literal(Value::Bool(word == "true")),
        _ if word.starts_with('.') => Token::Field(path(&word[1..])?),
        _ if word.starts_with('$') => {
            let (name, rest) = word[1..].split_once('.').map_or((&word[1..], None), |(a, b)| (a, Some(b)));
            let path = rest.map(path).transpose()?.unwrap_or_default();
            Token::Variable(name.to_owned(), path)
        }
        _ if word.starts_with('"') || word.starts_with(|c: char| c.is_ascii_digit()) => {
            let value = serde_json::from_str(word);
            Token::Literal(value.map_err(|error| format!("{word} is not understood: {error}"))?)
        }
        _ if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains(['.', '$', '-']) => {
            Token::Name(word.to_owned())
        }
        _ => return Err(format!("{word} is not understood")),
    })
}

fn path(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) { Err(format!(".{text} is not understood")) } else { Ok(names) }
}
