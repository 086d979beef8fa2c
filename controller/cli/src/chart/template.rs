//! Reads the chart's templates: the part of Go's template language that they use, and nothing else.
//!
//! `{{ define }}`, `if`/`else if`/`else`, `with`, `range`, `$x :=`, pipes, calls with parentheses, fields, literals,
//! comments, and `-` that eats blanks. What is not in this part is refused when it is read, so a test that reads the whole
//! chart holds the chart to it.

mod words;

use std::collections::BTreeMap;

use serde_json::Value;

use words::{Piece, Token};

/// What stands between `{{ define }}` and its end, by name, and the bodies of the files, by file.
#[derive(Debug, Default)]
pub(super) struct Templates {
    /// What `include` calls.
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

/// What is written, or done, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// As it stands.
    Text(String),
    /// The result of a pipe.
    Print(Pipe),
    /// A variable, until the end of the block.
    Set(String, Pipe),
    /// The first of the branches whose pipe is true, or the last list.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    /// With the pipe's result as the dot, if it is true; or else the second list.
    With(Pipe, Vec<Node>, Vec<Node>),
    /// Once for each entry, which is the dot; variables for key and value.
    Range(Vec<String>, Pipe, Vec<Node>),
}

/// Commands, each with the result of the one before as its last argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipe(pub(super) Vec<Vec<Operand>>);

/// A word of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// The dot, and fields of it.
    Dot(Vec<String>),
    /// A variable (`$` has an empty name), and fields of it.
    Variable(String, Vec<String>),
    /// A text, number or truth value.
    Literal(Value),
    /// A function, or the first word of a call.
    Function(String),
    /// In parentheses.
    Group(Pipe),
}

/// A template that cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {says}")]
pub(super) struct Unreadable {
    line: usize,
    says: String,
}

/// What a list of nodes ended with.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    File,
    End,
    Else,
    ElseIf,
}

/// The file under way.
struct Reader<'a> {
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
    templates: &'a mut Templates,
    line: usize,
}

impl Templates {
    /// Reads one file: its definitions are kept, its body is returned.
    pub(super) fn read(&mut self, text: &str) -> Result<Vec<Node>, Unreadable> {
        let pieces = words::pieces(text)?;
        let mut reader = Reader { pieces: pieces.into_iter().peekable(), templates: self, line: 1 };
        match reader.nodes()? {
            (nodes, Stop::File, _) => Ok(nodes),
            _ => Err(reader.wrong("an end too many")),
        }
    }
}

impl Reader<'_> {
    fn wrong(&self, says: &str) -> Unreadable {
        Unreadable { line: self.line, says: says.to_owned() }
    }

    /// Nodes up to what ends them; the words behind `else if`.
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop, Vec<Token>), Unreadable> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (line, mut tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(line, tokens) => (line, tokens),
            };
            self.line = line;
            let word = match tokens.first() {
                Some(Token::Name(name)) => name.clone(),
                _ => String::new(),
            };
            match word.as_str() {
                "end" => return Ok((nodes, Stop::End, Vec::new())),
                "else" if tokens.len() == 1 => return Ok((nodes, Stop::Else, Vec::new())),
                "else" => {
                    if tokens.get(1) != Some(&Token::Name("if".to_owned())) {
                        return Err(self.wrong("only `if` may follow `else`"));
                    }
                    return Ok((nodes, Stop::ElseIf, tokens.split_off(2)));
                }
                "define" => self.define(&tokens)?,
                "if" => nodes.push(self.branches(tokens.split_off(1))?),
                "with" => nodes.push(self.with(tokens.split_off(1))?),
                "range" => nodes.push(self.range(tokens.split_off(1))?),
                _ => nodes.push(self.plain(tokens)?),
            }
        }
        Ok((nodes, Stop::File, Vec::new()))
    }

    /// Nodes up to `end`.
    fn body(&mut self) -> Result<Vec<Node>, Unreadable> {
        match self.nodes()? {
            (nodes, Stop::End, _) => Ok(nodes),
            _ => Err(self.wrong("`end` expected")),
        }
    }

    fn define(&mut self, tokens: &[Token]) -> Result<(), Unreadable> {
        let [_, Token::Literal(Value::String(name))] = tokens else {
            return Err(self.wrong("`define` takes a name in quotes"));
        };
        let body = self.body()?;
        match self.templates.defined.insert(name.clone(), body) {
            None => Ok(()),
            Some(_) => Err(self.wrong("this name is defined twice")),
        }
    }

    fn branches(&mut self, condition: Vec<Token>) -> Result<Node, Unreadable> {
        let mut branches = Vec::new();
        let mut condition = self.pipe(condition)?;
        loop {
            let (nodes, end, words) = self.nodes()?;
            branches.push((condition, nodes));
            match end {
                Stop::End => return Ok(Node::If(branches, Vec::new())),
                Stop::Else => return Ok(Node::If(branches, self.body()?)),
                Stop::ElseIf => condition = self.pipe(words)?,
                Stop::File => return Err(self.wrong("an `if` without `end`")),
            }
        }
    }

    fn with(&mut self, over: Vec<Token>) -> Result<Node, Unreadable> {
        let over = self.pipe(over)?;
        match self.nodes()? {
            (nodes, Stop::End, _) => Ok(Node::With(over, nodes, Vec::new())),
            (nodes, Stop::Else, _) => Ok(Node::With(over, nodes, self.body()?)),
            _ => Err(self.wrong("`end` expected")),
        }
    }

    fn range(&mut self, mut tokens: Vec<Token>) -> Result<Node, Unreadable> {
        let mut names = Vec::new();
        if let Some(place) = tokens.iter().position(|token| *token == Token::Assign) {
            let behind = tokens.split_off(place + 1);
            for token in tokens {
                match token {
                    Token::Variable(name, path) if path.is_empty() => names.push(name),
                    Token::Comma | Token::Assign => {}
                    _ => return Err(self.wrong("variables expected before `:=`")),
                }
            }
            tokens = behind;
        }
        let over = self.pipe(tokens)?;
        Ok(Node::Range(names, over, self.body()?))
    }

    fn plain(&mut self, mut tokens: Vec<Token>) -> Result<Node, Unreadable> {
        if tokens.get(1) == Some(&Token::Assign) {
            let behind = tokens.split_off(2);
            return match tokens.swap_remove(0) {
                Token::Variable(name, path) if path.is_empty() => Ok(Node::Set(name, self.pipe(behind)?)),
                _ => Err(self.wrong("a variable expected before `:=`")),
            };
        }
        Ok(Node::Print(self.pipe(tokens)?))
    }

    fn pipe(&self, tokens: Vec<Token>) -> Result<Pipe, Unreadable> {
        let mut tokens = tokens.into_iter();
        let pipe = self.commands(&mut tokens, 0)?;
        match tokens.next() {
            None => Ok(pipe),
            Some(_) => Err(self.wrong("a parenthesis too many")),
        }
    }

    fn commands(&self, tokens: &mut std::vec::IntoIter<Token>, depth: usize) -> Result<Pipe, Unreadable> {
        let mut commands = vec![Vec::new()];
        let mut closed = depth == 0;
        while let Some(token) = tokens.next() {
            let operand = match token {
                Token::Bar => {
                    commands.push(Vec::new());
                    continue;
                }
                Token::Close if depth > 0 => {
                    closed = true;
                    break;
                }
                Token::Open => Operand::Group(self.commands(tokens, depth + 1)?),
                Token::Field(path) => Operand::Dot(path),
                Token::Variable(name, path) => Operand::Variable(name, path),
                Token::Literal(value) => Operand::Literal(value),
                Token::Name(name) => Operand::Function(name),
                Token::Close | Token::Assign | Token::Comma => return Err(self.wrong("misplaced sign")),
            };
            if let Some(last) = commands.last_mut() {
                last.push(operand);
            }
        }
        if !closed || commands.iter().any(Vec::is_empty) {
            return Err(self.wrong("something is missing"));
        }
        Ok(Pipe(commands))
    }
}
