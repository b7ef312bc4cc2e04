//! The functions of templates: docker's own and those of Go's `text/template`.
//!
//! Interface: [`call`]. The caller fills in the position of a failure.

use super::Trouble;
use super::eval::{kind, show, truth};
use serde_json::Value;
use std::cmp::Ordering;

/// The names that [`call`] knows, for the hint.
const NAMES: &str = "json, index, len, upper, lower, title, join, split, truncate, pad, print, \
                     println, printf, eq, ne, lt, le, gt, ge, and, or, not";

/// Calls a function.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, Trouble> {
    match (name, args) {
        ("json", [value]) => Ok(Value::String(value.to_string())),
        ("index", [first, path @ ..]) => path
            .iter()
            .try_fold(first.clone(), |value, key| index(&value, key)),
        ("len", [value]) => match value {
            Value::String(s) => Ok(s.len().into()),
            Value::Array(a) => Ok(a.len().into()),
            Value::Object(o) => Ok(o.len().into()),
            Value::Null => Ok(0.into()),
            other => Err(bad(format!("{} has no length", kind(other)))),
        },
        ("upper", [value]) => Ok(show(value).to_uppercase().into()),
        ("lower", [value]) => Ok(show(value).to_lowercase().into()),
        ("title", [value]) => {
            let text = show(value);
            let mut chars = text.chars();
            let first: String = chars
                .next()
                .into_iter()
                .flat_map(char::to_uppercase)
                .collect();
            Ok((first + chars.as_str()).into())
        }
        ("join", [Value::Array(list), Value::String(separator)]) => {
            let items: Vec<String> = list.iter().map(show).collect();
            Ok(items.join(separator).into())
        }
        ("join", [Value::Null, Value::String(_)]) => Ok("".into()),
        ("split", [Value::String(text), Value::String(separator)]) => {
            Ok(text.split(separator.as_str()).collect::<Vec<_>>().into())
        }
        ("truncate", [value, Value::Number(n)]) => {
            let n = usize::try_from(n.as_i64().unwrap_or(0)).unwrap_or(0);
            Ok(show(value).chars().take(n).collect::<String>().into())
        }
        ("pad", [value, Value::Number(before), Value::Number(after)]) => {
            let spaces = |n: &serde_json::Number| {
                " ".repeat(
                    usize::try_from(n.as_i64().unwrap_or(0))
                        .unwrap_or(0)
                        .min(4096),
                )
            };
            let text = show(value);
            if text.is_empty() {
                return Ok(text.into());
            }
            Ok(format!("{}{text}{}", spaces(before), spaces(after)).into())
        }
        ("print", values) => Ok(values.iter().map(show).collect::<String>().into()),
        ("println", values) => {
            let texts: Vec<String> = values.iter().map(show).collect();
            Ok((texts.join(" ") + "\n").into())
        }
        ("printf", [Value::String(format), values @ ..]) => printf(format, values),
        ("not", [value]) => Ok((!truth(value)).into()),
        ("and", [.., last]) => Ok(args.iter().find(|v| !truth(v)).unwrap_or(last).clone()),
        ("or", [.., last]) => Ok(args.iter().find(|v| truth(v)).unwrap_or(last).clone()),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            Ok(others.iter().any(|o| same(first, o)).into())
        }
        ("ne", [a, b]) => Ok((!same(a, b)).into()),
        ("lt", [a, b]) => Ok((compare(a, b)? == Ordering::Less).into()),
        ("le", [a, b]) => Ok((compare(a, b)? != Ordering::Greater).into()),
        ("gt", [a, b]) => Ok((compare(a, b)? == Ordering::Greater).into()),
        ("ge", [a, b]) => Ok((compare(a, b)? != Ordering::Less).into()),
        (name, args) if NAMES.split(", ").any(|n| n == name) => Err(bad(format!(
            "{name} does not take ({})",
            args.iter().map(kind).collect::<Vec<_>>().join(", ")
        ))),
        (name, _) => Err(bad(format!("there is no function {name}")).hint(format!(
            "a field starts with a dot; the functions are {NAMES}"
        ))),
    }
}

fn bad(what: impl Into<String>) -> Trouble {
    Trouble::new(0, what)
}

fn index(value: &Value, key: &Value) -> Result<Value, Trouble> {
    match (value, key) {
        // A missing entry of a map of texts is the empty text, as in Go.
        (Value::Object(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        (Value::Array(list), Value::Number(n)) => n
            .as_u64()
            .and_then(|n| list.get(usize::try_from(n).ok()?))
            .cloned()
            .ok_or_else(|| bad(format!("index {n} of a list of {}", list.len()))),
        (Value::Null, _) => Ok(Value::Null),
        (value, key) => Err(bad(format!(
            "cannot index {} by {}",
            kind(value),
            kind(key)
        ))),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, Trouble> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x.as_f64().partial_cmp(&y.as_f64()),
        (Value::String(x), Value::String(y)) => Some(x.cmp(y)),
        _ => None,
    }
    .ok_or_else(|| bad(format!("cannot compare {} with {}", kind(a), kind(b))))
}

fn printf(format: &str, values: &[Value]) -> Result<Value, Trouble> {
    let mut text = String::new();
    let mut values = values.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut flags = String::new();
        let verb = loop {
            match chars.next() {
                Some(f) if f == '-' || f == '.' || f.is_ascii_digit() => flags.push(f),
                Some(verb) => break verb,
                None => return Err(bad("printf: % at the end")),
            }
        };
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values
            .next()
            .ok_or_else(|| bad(format!("printf: no value for %{verb}")))?;
        let shown = match verb {
            's' | 'v' | 'd' | 't' => show(value),
            'q' => Value::String(show(value)).to_string(),
            'f' => format!("{:.6}", value.as_f64().unwrap_or(0.0)),
            'x' => format!("{:x}", value.as_i64().unwrap_or(0)),
            other => return Err(bad(format!("printf: %{other} is not supported"))),
        };
        let (left, width) = match flags.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, flags.as_str()),
        };
        let width: usize = width.split('.').next().unwrap_or("").parse().unwrap_or(0);
        let width = width.min(4096);
        text += &if left {
            format!("{shown:<width$}")
        } else {
            format!("{shown:>width$}")
        };
    }
    Ok(text.into())
}
