//! From a template's text to a tree: a lexer for what stands between `{{` and `}}`, and a parser
//! by recursive descent.
//!
//! Interface: [`parse`], [`Node`], [`Pipeline`]. Read next: `eval.rs`.

use super::Trouble;
use serde_json::Value;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    /// `$x := pipeline`
    Assign(String, Pipeline),
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    Range {
        over: Pipeline,
        key: Option<String>,
        item: Option<String>,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With(Pipeline, Vec<Node>, Vec<Node>),
}

/// Commands joined by `|`; the result of each is the last argument of the next.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub commands: Vec<Command>,
}

/// A function with its arguments, or one operand. Byte offsets are kept for messages.
#[derive(Debug)]
pub(super) struct Command {
    pub at: usize,
    pub function: Option<String>,
    pub args: Vec<Operand>,
}

/// A value with the fields that are taken out of it: `.A.B`, `$x.A`, `(index .M 0).A`, `"text"`.
#[derive(Debug)]
pub(super) struct Operand {
    pub base: Base,
    /// Field names with their byte offsets.
    pub fields: Vec<(usize, String)>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(usize, String),
    Literal(Value),
    Nested(Box<Pipeline>),
}

/// Parses a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Trouble> {
    let mut parser = Parser {
        text,
        at: 0,
        trim_next: false,
    };
    let (nodes, stop) = parser.nodes()?;
    match stop {
        Stop::End => Ok(nodes),
        Stop::Word(at, word) => Err(Trouble::new(at, format!("{{{{{word}}}}} without a block"))),
    }
}

/// What ended a list of nodes: the end of the text, or `end`, `else`, `else if`.
enum Stop {
    End,
    Word(usize, &'static str),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    trim_next: bool,
}

impl<'a> Parser<'a> {
    /// Nodes up to the end of the text or of the block. After `else if` and `else` the parser
    /// stands behind that word.
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), Trouble> {
        let mut nodes = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let open = rest.find("{{");
            let mut literal = &rest[..open.unwrap_or(rest.len())];
            if std::mem::take(&mut self.trim_next) {
                literal = literal.trim_start();
            }
            let Some(open) = open else {
                push_text(&mut nodes, literal);
                self.at = self.text.len();
                return Ok((nodes, Stop::End));
            };
            self.at += open + 2;
            if self.rest().starts_with("- ") {
                literal = literal.trim_end();
                self.at += 1;
            }
            push_text(&mut nodes, literal);
            self.spaces();
            if self.rest().starts_with("/*") {
                match self.rest().find("*/") {
                    Some(n) => self.at += n + 2,
                    None => return Err(Trouble::new(self.at, "a comment that does not end")),
                }
                self.close()?;
                continue;
            }
            let start = self.at;
            match self.keyword() {
                Some("end") => {
                    self.close()?;
                    return Ok((nodes, Stop::Word(start, "end")));
                }
                Some("else") => {
                    self.spaces();
                    if self.keyword() == Some("if") {
                        return Ok((nodes, Stop::Word(start, "else if")));
                    }
                    self.close()?;
                    return Ok((nodes, Stop::Word(start, "else")));
                }
                Some("if") => nodes.push(self.if_block(start)?),
                Some("with") => {
                    let over = self.pipeline_to_close()?;
                    let (body, otherwise) = self.body(start, "with")?;
                    nodes.push(Node::With(over, body, otherwise));
                }
                Some("range") => nodes.push(self.range_block(start)?),
                _ => nodes.push(self.action()?),
            }
        }
    }

    fn if_block(&mut self, start: usize) -> Result<Node, Trouble> {
        let mut branches = Vec::new();
        loop {
            let condition = self.pipeline_to_close()?;
            let (body, stop) = self.nodes()?;
            branches.push((condition, body));
            match stop {
                Stop::Word(_, "else if") => continue,
                Stop::Word(_, "else") => {
                    let otherwise = self.until_end(start, "if")?;
                    return Ok(Node::If(branches, otherwise));
                }
                Stop::Word(..) => return Ok(Node::If(branches, Vec::new())),
                Stop::End => return Err(unended(start, "if")),
            }
        }
    }

    fn range_block(&mut self, start: usize) -> Result<Node, Trouble> {
        self.spaces();
        let (mut key, mut item) = (None, None);
        let before = self.at;
        if self.rest().starts_with('$') {
            let first = self.variable()?;
            self.spaces();
            if self.eat(",") {
                self.spaces();
                let second = self.variable()?;
                self.spaces();
                (key, item) = (Some(first), Some(second));
            } else {
                item = Some(first);
            }
            if !self.eat(":=") {
                (self.at, key, item) = (before, None, None);
            }
        }
        let over = self.pipeline_to_close()?;
        let (body, otherwise) = self.body(start, "range")?;
        Ok(Node::Range {
            over,
            key,
            item,
            body,
            otherwise,
        })
    }

    /// A body with an optional `{{else}}`.
    fn body(&mut self, start: usize, word: &str) -> Result<(Vec<Node>, Vec<Node>), Trouble> {
        let (body, stop) = self.nodes()?;
        match stop {
            Stop::Word(_, "end") => Ok((body, Vec::new())),
            Stop::Word(_, "else") => Ok((body, self.until_end(start, word)?)),
            Stop::Word(at, _) => Err(Trouble::new(at, format!("else if inside {word}"))),
            Stop::End => Err(unended(start, word)),
        }
    }

    fn until_end(&mut self, start: usize, word: &str) -> Result<Vec<Node>, Trouble> {
        match self.nodes()? {
            (nodes, Stop::Word(_, "end")) => Ok(nodes),
            (_, Stop::Word(at, other)) => Err(Trouble::new(
                at,
                format!("{{{{{other}}}}} after {{{{else}}}}"),
            )),
            (_, Stop::End) => Err(unended(start, word)),
        }
    }

    fn action(&mut self) -> Result<Node, Trouble> {
        let before = self.at;
        if self.rest().starts_with('$') {
            let name = self.variable()?;
            self.spaces();
            if self.eat(":=") || (self.rest().starts_with("= ") && self.eat("=")) {
                return Ok(Node::Assign(name, self.pipeline_to_close()?));
            }
            self.at = before;
        }
        Ok(Node::Print(self.pipeline_to_close()?))
    }

    fn pipeline_to_close(&mut self) -> Result<Pipeline, Trouble> {
        let pipeline = self.pipeline()?;
        self.close()?;
        Ok(pipeline)
    }

    fn pipeline(&mut self) -> Result<Pipeline, Trouble> {
        let mut commands = vec![self.command()?];
        loop {
            self.spaces();
            if !self.eat("|") {
                return Ok(Pipeline { commands });
            }
            commands.push(self.command()?);
        }
    }

    fn command(&mut self) -> Result<Command, Trouble> {
        self.spaces();
        let at = self.at;
        let function = match self.name() {
            Some("true" | "false" | "nil") => {
                self.at = at;
                None
            }
            name => name.map(str::to_string),
        };
        let mut args = Vec::new();
        loop {
            self.spaces();
            match self.operand()? {
                Some(operand) => args.push(operand),
                None if function.is_none() && args.is_empty() => {
                    return Err(Trouble::new(at, "a value is missing"));
                }
                None => break,
            }
        }
        if function.is_none() && args.len() > 1 {
            return Err(
                Trouble::new(at, "two values side by side; a function comes first")
                    .hint("for example {{json .State}} or {{.State | json}}"),
            );
        }
        Ok(Command { at, function, args })
    }

    fn operand(&mut self) -> Result<Option<Operand>, Trouble> {
        let at = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(None);
        };
        let base = match first {
            '.' => Base::Dot,
            '$' => Base::Variable(at, self.variable()?),
            '"' => Base::Literal(self.quoted()?),
            '`' => {
                let rest = &self.rest()[1..];
                let end = rest
                    .find('`')
                    .ok_or_else(|| Trouble::new(at, "a string that does not end"))?;
                let text = rest[..end].to_string();
                self.at += end + 2;
                Base::Literal(text.into())
            }
            '(' => {
                self.at += 1;
                let nested = self.pipeline()?;
                self.spaces();
                if !self.eat(")") {
                    return Err(Trouble::new(self.at, "a closing parenthesis is missing"));
                }
                Base::Nested(Box::new(nested))
            }
            '-' if self.rest().starts_with("-}}") => return Ok(None),
            c if c.is_ascii_digit() || c == '-' => Base::Literal(self.number()?),
            _ => match self.name() {
                Some("true") => Base::Literal(true.into()),
                Some("false") => Base::Literal(false.into()),
                Some("nil") => Base::Literal(Value::Null),
                Some(word) => {
                    return Err(
                        Trouble::new(at, format!("a function ({word}) as an argument"))
                            .hint("put it in parentheses: (len .Names)"),
                    );
                }
                None => return Ok(None),
            },
        };
        let mut fields = Vec::new();
        while self.rest().starts_with('.') {
            let field_at = self.at;
            self.at += 1;
            match self.name() {
                Some(name) => fields.push((field_at, name.to_string())),
                None if matches!(base, Base::Dot) && fields.is_empty() => break,
                None => return Err(Trouble::new(field_at, "a field's name is missing")),
            }
        }
        Ok(Some(Operand { base, fields }))
    }

    fn quoted(&mut self) -> Result<Value, Trouble> {
        let start = self.at;
        let mut stream =
            serde_json::Deserializer::from_str(self.rest()).into_iter::<serde_json::Value>();
        match stream.next() {
            Some(Ok(value)) => {
                self.at += stream.byte_offset();
                Ok(value)
            }
            _ => Err(Trouble::new(
                start,
                "a string that does not end, or a bad escape",
            )),
        }
    }

    fn number(&mut self) -> Result<Value, Trouble> {
        let start = self.at;
        let length = self
            .rest()
            .char_indices()
            .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && *c == '-')))
            .map_or(self.rest().len(), |(i, _)| i);
        let text = &self.rest()[..length];
        let value = text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .map_err(|_| Trouble::new(start, "a bad number"))?;
        self.at += length;
        Ok(value)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }
    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }
    fn name(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let starts_well = rest.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !starts_well {
            return None;
        }
        self.at += end;
        Some(&rest[..end])
    }
    /// A control word, when one stands here; otherwise nothing moves.
    fn keyword(&mut self) -> Option<&'static str> {
        let before = self.at;
        let found = self.name().and_then(|name| {
            ["if", "else", "end", "range", "with"]
                .into_iter()
                .find(|k| *k == name)
        });
        if found.is_none() {
            self.at = before;
        }
        found
    }
    /// `$` or `$name`; the dollar is kept.
    fn variable(&mut self) -> Result<String, Trouble> {
        let at = self.at;
        if !self.eat("$") {
            return Err(Trouble::new(at, "a variable ($name) is missing"));
        }
        Ok(format!("${}", self.name().unwrap_or("")))
    }
    fn close(&mut self) -> Result<(), Trouble> {
        self.spaces();
        if self.eat("-}}") {
            self.trim_next = true;
            return Ok(());
        }
        if self.eat("}}") {
            return Ok(());
        }
        let what = if self.rest().is_empty() {
            "{{ without }}"
        } else {
            "not understood"
        };
        Err(Trouble::new(self.at, what))
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if !text.is_empty() {
        nodes.push(Node::Text(text.to_string()));
    }
}

fn unended(start: usize, word: &str) -> Trouble {
    Trouble::new(start, format!("{{{{{word}}}}} without {{{{end}}}}"))
}
