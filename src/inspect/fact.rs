//! A fact, where it was read, or why it could not be; and the JSON that comes out of facts.
//!
//! What it does: a leaf of the model is a [`Fact`]: the value and its source (the file, ioctl or
//! system call), or the reason why there is none. In JSON a fact is its plain value (`null` when
//! unread), so that `jq` and templates stay simple; the reasons are gathered in `unread`, and
//! with `--why` the sources in `sources`:
//!
//! ```json
//! { "process": { "no_new_privs": true, "seccomp": null },
//!   "unread":  [ { "path": "process.seccomp", "source": "/proc/7/status", "why": "EACCES …" } ],
//!   "sources": { "process.no_new_privs": "/proc/7/status: NoNewPrivs" } }
//! ```
//!
//! A path is the keys joined by dots, with `[n]` for the n-th element of a list. A source covers
//! everything below its path that has no source of its own.
//!
//! Every struct of the model is declared with the [`model`](crate::inspect::model!) macro, which
//! also keeps the documentation of each key for [`listing`]: the model's documentation cannot
//! fall behind the model.
//! Interface: [`Fact`], [`plain`], [`Documented`], [`listing`]. Read next: `model.rs`.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A value with its source, or the reason why it could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<T> {
    source: Cow<'static, str>,
    value: Result<T, String>,
}

impl<T> Fact<T> {
    /// A value that was read from `source`.
    pub fn new(source: impl Into<Cow<'static, str>>, value: T) -> Self {
        Fact {
            source: source.into(),
            value: Ok(value),
        }
    }
    /// Something that could not be read from `source`, and why.
    pub fn unread(source: impl Into<Cow<'static, str>>, why: impl ToString) -> Self {
        Fact {
            source: source.into(),
            value: Err(why.to_string()),
        }
    }
    /// Either of the two, out of the result of reading.
    pub fn of<E: ToString>(source: impl Into<Cow<'static, str>>, result: Result<T, E>) -> Self {
        Fact {
            source: source.into(),
            value: result.map_err(|e| e.to_string()),
        }
    }
    /// The value, if it was read.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref().ok()
    }
    /// Why it was not.
    pub fn why(&self) -> Option<&str> {
        self.value.as_ref().err().map(String::as_str)
    }
    /// Where it was read.
    pub fn source(&self) -> &str {
        &self.source
    }
    /// Another fact made out of this one's value, with the same source or reason.
    pub fn map<U>(&self, f: impl FnOnce(&T) -> U) -> Fact<U> {
        Fact {
            source: self.source.clone(),
            value: self.value.as_ref().map(f).map_err(Clone::clone),
        }
    }
}

const SOURCE: &str = "\u{1}source";
const VALUE: &str = "\u{1}value";
const WHY: &str = "\u{1}why";

impl<T: Serialize> Serialize for Fact<T> {
    /// An intermediate form that [`plain`] takes apart; nobody else sees it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(SOURCE, &self.source)?;
        match &self.value {
            Ok(value) => map.serialize_entry(VALUE, value)?,
            Err(why) => map.serialize_entry(WHY, why)?,
        }
        map.end()
    }
}

/// Something that could not be read: `path`, `source`, `why`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unread {
    /// Which key.
    pub path: String,
    /// Where it would have been read.
    pub source: String,
    /// The errno or the missing kernel option.
    pub why: String,
}

/// A model as plain JSON, and what stood beside the values.
#[derive(Debug, Default)]
pub struct Plain {
    /// Values only.
    pub value: Value,
    /// What could not be read, in the order of the document.
    pub unread: Vec<Unread>,
    /// Path → source.
    pub sources: BTreeMap<String, String>,
}

/// Turns any part of the model into plain JSON. Values that JSON cannot hold do not occur in it.
pub fn plain(model: &impl Serialize) -> Plain {
    let mut plain = Plain::default();
    let raw = serde_json::to_value(model).unwrap_or(Value::Null);
    plain.value = take_apart(raw, String::new(), &mut plain.unread, &mut plain.sources);
    plain
}

fn take_apart(
    raw: Value,
    path: String,
    unread: &mut Vec<Unread>,
    sources: &mut BTreeMap<String, String>,
) -> Value {
    match raw {
        Value::Object(mut map) => {
            if let Some(Value::String(source)) = map.remove(SOURCE) {
                if let Some(Value::String(why)) = map.remove(WHY) {
                    unread.push(Unread { path, source, why });
                    return Value::Null;
                }
                let value = map.remove(VALUE).unwrap_or(Value::Null);
                sources.insert(path.clone(), source);
                return take_apart(value, path, unread, sources);
            }
            let entries = map.into_iter().map(|(key, value)| {
                let below = match path.is_empty() {
                    true => key.clone(),
                    false => format!("{path}.{key}"),
                };
                let value = take_apart(value, below, unread, sources);
                (key, value)
            });
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(list) => list
            .into_iter()
            .enumerate()
            .map(|(i, value)| take_apart(value, format!("{path}[{i}]"), unread, sources))
            .collect(),
        leaf => leaf,
    }
}

/// What a part of the model looks like, for its documentation.
pub enum Shape {
    /// text, number or truth value; anything.
    Leaf(&'static str),
    /// A list of one shape.
    List(Box<Shape>),
    /// An object whose keys are data.
    Map(Box<Shape>),
    /// An object with these keys: name, documentation, shape.
    Object(Vec<(&'static str, String, Shape)>),
    /// The same or `null`.
    Maybe(Box<Shape>),
}

/// What can stand in the model.
pub trait Documented {
    /// Its shape.
    fn shape() -> Shape;
}

macro_rules! leaves {
    ($($t:ty: $name:literal),* $(,)?) => {$(
        impl Documented for $t {
            fn shape() -> Shape { Shape::Leaf($name) }
        }
    )*};
}
leaves!(String: "text", &'static str: "text", bool: "truth", u64: "number", i64: "number",
        u32: "number", i32: "number", usize: "number", f64: "number", Value: "any");

impl<T: Documented> Documented for Option<T> {
    fn shape() -> Shape {
        match T::shape() {
            Shape::Maybe(inner) => Shape::Maybe(inner),
            shape => Shape::Maybe(Box::new(shape)),
        }
    }
}
impl<T: Documented> Documented for Fact<T> {
    fn shape() -> Shape {
        Option::<T>::shape()
    }
}
impl<T: Documented> Documented for Box<T> {
    fn shape() -> Shape {
        T::shape()
    }
}
impl<T: Documented> Documented for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
}
impl<T: Documented> Documented for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }
}

/// Declares a struct of the model: every field has documentation, which [`listing`] repeats.
#[doc(hidden)]
#[macro_export]
macro_rules! __inspect_model {
    ($(
        $(#[doc = $sdoc:literal])+
        $name:ident { $( $(#[doc = $fdoc:literal])+ $field:ident : $ty:ty ),+ $(,)? }
    )+) => {$(
        $(#[doc = $sdoc])+
        #[derive(Debug, Clone, serde::Serialize)]
        pub struct $name { $( $(#[doc = $fdoc])+ pub $field: $ty ),+ }
        impl $crate::inspect::fact::Documented for $name {
            fn shape() -> $crate::inspect::fact::Shape {
                $crate::inspect::fact::Shape::Object(vec![$((
                    stringify!($field),
                    [$($fdoc),+].concat().trim().to_string(),
                    <$ty as $crate::inspect::fact::Documented>::shape(),
                )),+])
            }
        }
    )+};
}
pub use crate::__inspect_model as model;

/// Every path of a shape with its type and documentation, one line each: the schema that
/// `glassbox inspect --schema` prints.
pub fn listing(shape: &Shape) -> Vec<(String, String, String)> {
    let mut lines = Vec::new();
    list(shape, String::new(), &mut lines);
    lines
}

fn list(shape: &Shape, path: String, lines: &mut Vec<(String, String, String)>) {
    match shape {
        Shape::Leaf(_) => {}
        Shape::Maybe(inner) => list(inner, path, lines),
        Shape::List(inner) => list(inner, path + "[]", lines),
        Shape::Map(inner) => list(inner, path + ".*", lines),
        Shape::Object(fields) => {
            for (name, doc, shape) in fields {
                let below = match path.is_empty() {
                    true => (*name).to_string(),
                    false => format!("{path}.{name}"),
                };
                lines.push((below.clone(), type_name(shape), doc.clone()));
                list(shape, below, lines);
            }
        }
    }
}

fn type_name(shape: &Shape) -> String {
    match shape {
        Shape::Leaf(name) => (*name).to_string(),
        Shape::List(inner) => format!("list of {}", type_name(inner)),
        Shape::Map(inner) => format!("map of {}", type_name(inner)),
        Shape::Object(_) => "object".into(),
        Shape::Maybe(inner) => format!("{} or null", type_name(inner)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    model! {
        /// A sample.
        Sample {
            /// The first.
            first: Fact<u64>,
            /// A list
            /// of facts.
            list: Fact<Vec<Fact<String>>>,
        }
    }

    #[test]
    fn facts_become_plain_values_with_sources_and_reasons_beside_them() {
        let sample = Sample {
            first: Fact::new("a file", 1),
            list: Fact::new(
                "a call",
                vec![Fact::unread("b", "EPERM"), Fact::new("c", "x".to_string())],
            ),
        };
        let plain = plain(&sample);
        assert_eq!(plain.value.to_string(), r#"{"first":1,"list":[null,"x"]}"#);
        assert_eq!(plain.unread[0].path, "list[0]");
        assert_eq!(plain.unread[0].why, "EPERM");
        assert_eq!(plain.sources["list"], "a call");
        assert_eq!(plain.sources["list[1]"], "c");
        assert_eq!(plain.sources.len(), 3);
    }

    #[test]
    fn the_listing_repeats_the_documentation() {
        let lines = listing(&Sample::shape());
        assert_eq!(
            lines[0],
            ("first".into(), "number or null".into(), "The first.".into())
        );
        assert_eq!(lines[1].1, "list of text or null or null");
        assert_eq!(lines[1].2, "A list of facts.");
    }
}
