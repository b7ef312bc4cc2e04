//! Fills a parsed template with a JSON value.
//!
//! Interface: [`run`], [`headings`]. Read next: `functions.rs`.

use super::Trouble;
use super::functions;
use super::parse::{Base, Command, Node, Operand, Pipeline};
use serde_json::Value;
use std::fmt::Write;

/// Keys whose entries are data rather than fields: a missing entry there is no mistake.
const MAPS: &[&str] = &[
    "labels",
    "annotations",
    "sysctls",
    "networks",
    "ports",
    "volumes",
    "exposedports",
    "options",
    "portbindings",
    "driveropts",
    "data",
    "limits",
];

/// Fills in the template.
pub(super) fn run(nodes: &[Node], value: &Value) -> Result<String, Trouble> {
    let mut scope = Scope {
        variables: vec![("$".to_string(), value.clone())],
        text: String::new(),
    };
    scope.nodes(nodes, value)?;
    Ok(scope.text)
}

/// The heading line of a listing: every printed field by its heading, literal text as it is.
pub(super) fn headings(nodes: &[Node], known: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for node in nodes {
        match node {
            Node::Text(t) => text += t,
            Node::Print(p) => {
                if let Some(field) = last_field(p) {
                    match known.iter().find(|(name, _)| *name == field) {
                        Some((_, heading)) => text += heading,
                        None => text += &field.to_uppercase(),
                    }
                }
            }
            Node::Assign(..) => {}
            Node::If(branches, _) => text += &headings(&branches[0].1, known),
            Node::Range { over, .. } => text += &last_field(over).unwrap_or("").to_uppercase(),
            Node::With(_, body, _) => text += &headings(body, known),
        }
    }
    text
}

fn last_field(pipeline: &Pipeline) -> Option<&str> {
    pipeline
        .commands
        .iter()
        .flat_map(|c| &c.args)
        .find_map(|a| match (&a.base, a.fields.last()) {
            (Base::Dot, Some((_, name))) => Some(name.as_str()),
            (Base::Nested(p), _) => last_field(p),
            _ => None,
        })
}

struct Scope {
    variables: Vec<(String, Value)>,
    text: String,
}

impl Scope {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), Trouble> {
        let depth = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(depth);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), Trouble> {
        match node {
            Node::Text(t) => self.text += t,
            Node::Print(p) => {
                let value = self.pipeline(p, dot)?;
                self.text += &show(&value);
            }
            Node::Assign(name, p) => {
                let value = self.pipeline(p, dot)?;
                match self.variables.iter_mut().rev().find(|(n, _)| n == name) {
                    Some(slot) if name != "$" => slot.1 = value,
                    _ => self.variables.push((name.clone(), value)),
                }
            }
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if truth(&self.pipeline(condition, dot)?) {
                        return self.nodes(body, dot);
                    }
                }
                self.nodes(otherwise, dot)?;
            }
            Node::With(p, body, otherwise) => {
                let value = self.pipeline(p, dot)?;
                if truth(&value) {
                    self.nodes(body, &value)?;
                } else {
                    self.nodes(otherwise, dot)?;
                }
            }
            Node::Range {
                over,
                key,
                item,
                body,
                otherwise,
            } => {
                let at = over.commands[0].at;
                let entries: Vec<(Value, Value)> = match self.pipeline(over, dot)? {
                    Value::Array(list) => (0u64..).map(Value::from).zip(list).collect(),
                    Value::Object(map) => {
                        let mut all: Vec<_> = map.into_iter().collect();
                        all.sort_by(|a, b| a.0.cmp(&b.0));
                        all.into_iter().map(|(k, v)| (k.into(), v)).collect()
                    }
                    Value::Null => Vec::new(),
                    other => {
                        let what = format!("cannot range over {}", kind(&other));
                        return Err(Trouble::new(at, what));
                    }
                };
                if entries.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                let depth = self.variables.len();
                for (k, v) in entries {
                    if let Some(name) = key {
                        self.variables.push((name.clone(), k));
                    }
                    if let Some(name) = item {
                        self.variables.push((name.clone(), v.clone()));
                    }
                    self.nodes(body, &v)?;
                    self.variables.truncate(depth);
                }
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Trouble> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(
        &self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, Trouble> {
        let mut args = Vec::with_capacity(command.args.len() + 1);
        for operand in &command.args {
            args.push(self.operand(operand, dot)?);
        }
        let Some(name) = &command.function else {
            if piped.is_some() {
                return Err(Trouble::new(command.at, "a function is needed after |"));
            }
            return Ok(args.pop().unwrap_or(Value::Null));
        };
        args.extend(piped);
        functions::call(name, &args).map_err(|mut t| {
            t.at = command.at;
            t
        })
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, Trouble> {
        let mut value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Literal(v) => v.clone(),
            Base::Nested(p) => self.pipeline(p, dot)?,
            Base::Variable(at, name) => self
                .variables
                .iter()
                .rev()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone())
                .ok_or_else(|| Trouble::new(*at, format!("{name} is not defined")))?,
        };
        let mut parent = "";
        for (at, name) in &operand.fields {
            value = field(value, *at, name, parent)?;
            parent = name;
        }
        Ok(value)
    }
}

fn field(value: Value, at: usize, name: &str, parent: &str) -> Result<Value, Trouble> {
    match value {
        Value::Object(mut map) => {
            if let Some(found) = map.get_mut(name) {
                return Ok(found.take());
            }
            if MAPS.contains(&parent.to_ascii_lowercase().as_str()) {
                return Ok(Value::Null);
            }
            let same = map.keys().find(|k| k.eq_ignore_ascii_case(name));
            let hint = match same {
                Some(key) => format!("did you mean .{key}? letter case counts"),
                None => {
                    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
                    format!("the fields here are {}", keys.join(", "))
                }
            };
            Err(Trouble::new(at, format!("there is no field {name}")).hint(hint))
        }
        Value::Null => Err(Trouble::new(at, format!("cannot take .{name} of no value"))
            .hint("guard it: {{if .X}}{{.X.Y}}{{end}}")),
        other => Err(Trouble::new(
            at,
            format!("cannot take .{name} of {}", kind(&other)),
        )),
    }
}

/// The kind of a value, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "no value",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Go's truth: false, 0, the empty text, list and map, and nothing are false.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// How Go prints a value: `[a b]`, `map[k:v]`, `<no value>`.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(s) => s.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(show).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let mut text = String::from("map[");
            for (i, key) in keys.into_iter().enumerate() {
                let gap = if i > 0 { " " } else { "" };
                let _ = write!(text, "{gap}{key}:{}", show(&map[key]));
            }
            text + "]"
        }
        other => other.to_string(),
    }
}
