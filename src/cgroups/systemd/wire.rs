//! D-Bus messages: how a call of a method becomes bytes, and bytes become what was answered.
//!
//! What it does: writes method calls and reads replies, errors and signals, with the dozen types that
//! systemd's interface is made of. A value lies at a multiple of its size, counted from the beginning
//! of the message, so writer and reader pad.
//!
//! ```text
//! offset 0   l or B    byte order of all that follows
//!        1   1 byte    1 call, 2 reply, 3 error, 4 signal
//!        2   1 byte    flags;  offset 3: protocol version, 1
//!        4   u32       length of the body
//!        8   u32       the sender's number of this message
//!        12  a(yv)     fields: 1 path, 2 interface, 3 member, 4 error, 5 number of the call that
//!                      it answers, 6 destination, 8 signature of the body
//!        …   body      at the next multiple of 8
//! ```
//!
//! What it implements: the D-Bus specification, "Type System" and "Message Protocol".
//! Interface: [`Value`], [`Writer`], [`call`], [`Message`]. Read next: `connection.rs`.

use crate::cgroups::limits::format_list;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A value of one of the types that properties of units have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`; systemd's word for "no limit" is the largest one.
    U64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`: the path of an object.
    Path(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    U32s(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::I16(_) => "n",
            Value::U16(_) => "q",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::Double(_) => "d",
            Value::Text(_) => "s",
            Value::Path(_) => "o",
            Value::Bytes(_) => "ay",
            Value::U32s(_) => "au",
            Value::Texts(_) => "as",
        }
    }
}

impl fmt::Display for Value {
    /// As `systemctl show` has it, as far as that is plain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(yes) => f.write_str(if *yes { "yes" } else { "no" }),
            Value::Byte(n) => n.fmt(f),
            Value::I16(n) => n.fmt(f),
            Value::U16(n) => n.fmt(f),
            Value::I32(n) => n.fmt(f),
            Value::U32(n) => n.fmt(f),
            Value::I64(n) => n.fmt(f),
            Value::U64(u64::MAX) => f.write_str("infinity"),
            Value::U64(n) => n.fmt(f),
            Value::Double(n) => n.fmt(f),
            Value::Text(text) | Value::Path(text) => f.write_str(text),
            // Sets of processors: the first byte has the first eight.
            Value::Bytes(bytes) => {
                let is_in = |n: &u32| bytes[*n as usize / 8] & 1 << (n % 8) != 0;
                let all = 0..bytes.len() as u32 * 8;
                f.write_str(&format_list(all.filter(is_in)))
            }
            Value::U32s(list) => write!(f, "{list:?}"),
            Value::Texts(list) => f.write_str(&list.join(" ")),
        }
    }
}

/// A name and a value, as `a(sv)` has them.
pub type Property = (String, Value);

/// Writes values one after the other, in little-endian order.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
    /// `u`
    pub fn u32(&mut self, n: u32) {
        self.align(4);
        self.bytes.extend(n.to_le_bytes());
    }
    fn u64(&mut self, n: u64) {
        self.align(8);
        self.bytes.extend(n.to_le_bytes());
    }
    /// `s` and `o`.
    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }
    /// `b`
    pub fn bool(&mut self, yes: bool) {
        self.u32(yes.into());
    }
    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }
    /// An array: its length in bytes, without the padding before its first element.
    fn array(&mut self, element: usize, write: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length = self.bytes.len() - 4;
        self.align(element);
        let begin = self.bytes.len();
        write(self);
        let bytes = (self.bytes.len() - begin) as u32;
        self.bytes[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
    }
    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(yes) => self.bool(*yes),
            Value::Byte(n) => self.bytes.push(*n),
            Value::I16(n) => self.u16(*n as u16),
            Value::U16(n) => self.u16(*n),
            Value::I32(n) => self.u32(*n as u32),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.u64(*n as u64),
            Value::U64(n) => self.u64(*n),
            Value::Double(n) => self.u64(n.to_bits()),
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Bytes(bytes) => self.array(1, |w| w.bytes.extend(bytes)),
            Value::U32s(list) => self.array(4, |w| list.iter().for_each(|n| w.u32(*n))),
            Value::Texts(list) => self.array(4, |w| list.iter().for_each(|t| w.text(t))),
        }
    }
    fn u16(&mut self, n: u16) {
        self.align(2);
        self.bytes.extend(n.to_le_bytes());
    }
    /// `v`
    pub fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        self.value(value);
    }
    /// `a(sv)`
    pub fn properties(&mut self, list: &[Property]) {
        self.array(8, |w| {
            for (name, value) in list {
                w.align(8);
                w.text(name);
                w.variant(value);
            }
        });
    }
    /// An empty array of structs.
    pub fn no_structs(&mut self) {
        self.array(8, |_| {});
    }
}

/// A call of `interface.member` of the object at `path`, with the arguments of `body`, which has
/// this signature. `serial` is its number, by which the answer names it.
pub fn call(
    serial: u32,
    path: &str,
    interface: &str,
    member: &str,
    signature: &str,
    body: Writer,
) -> Vec<u8> {
    let fields = [
        (1, Value::Path(path.into())),
        (2, Value::Text(interface.into())),
        (3, Value::Text(member.into())),
        (6, Value::Text("org.freedesktop.systemd1".into())),
    ];
    message([CALL, 0], serial, &fields, signature, body)
}

/// A message of this kind, with these flags: its header, whose last field is the signature of the
/// body, and the body.
fn message(
    kind_and_flags: [u8; 2],
    serial: u32,
    fields: &[(u8, Value)],
    signature: &str,
    body: Writer,
) -> Vec<u8> {
    let [kind, flags] = kind_and_flags;
    let mut message = Writer::default();
    message.bytes.extend([b'l', kind, flags, 1]);
    message.u32(body.bytes.len() as u32);
    message.u32(serial);
    message.array(8, |w| {
        for (code, value) in fields {
            w.align(8);
            w.bytes.push(*code);
            w.variant(value);
        }
        if !signature.is_empty() {
            w.align(8);
            w.bytes.push(8);
            w.signature("g");
            w.signature(signature);
        }
    });
    message.align(8);
    message.bytes.extend(body.bytes);
    message.bytes
}

/// What a systemd would send, for tests: a message of this kind that answers call `answers`, or a
/// signal called `member`, or an error of that name.
#[cfg(test)]
pub fn answer(kind: u8, answers: u32, member: &str, signature: &str, body: Writer) -> Vec<u8> {
    let mut fields = vec![(5, Value::U32(answers))];
    match kind {
        SIGNAL => fields.push((3, Value::Text(member.into()))),
        ERROR => {
            let name = format!("org.freedesktop.systemd1.{member}");
            fields.push((4, Value::Text(name)));
        }
        _ => {}
    }
    message([kind, 1], 1, &fields, signature, body)
}

const CALL: u8 = 1;
/// The type of a message that answers a call.
pub const REPLY: u8 = 2;
/// The type of one that says why it failed.
pub const ERROR: u8 = 3;
/// The type of one that tells what happened.
pub const SIGNAL: u8 = 4;
/// No message that concerns us is longer.
const LONGEST: usize = 1 << 24;

/// A message that came.
#[derive(Debug, Default)]
pub struct Message {
    /// [`REPLY`], [`ERROR`], [`SIGNAL`].
    pub kind: u8,
    /// The number of the call that it answers.
    pub answers: u32,
    /// The method or signal.
    pub member: String,
    /// The name of the error.
    pub error: String,
    big_endian: bool,
    body: Vec<u8>,
}

fn broken() -> Error {
    Error::new("what came from systemd is no message of D-Bus")
}

impl Message {
    /// The first whole message of `bytes` and its length; `None` when there is more to come. Errors:
    /// it is none.
    pub fn first(bytes: &[u8]) -> Result<Option<(Message, usize)>> {
        if bytes.len() < 16 {
            return Ok(None);
        }
        let big_endian = match bytes[0] {
            b'l' => false,
            b'B' => true,
            _ => return Err(broken()),
        };
        let mut header = Reader {
            bytes,
            at: 4,
            big_endian,
        };
        let body = header.u32()? as usize;
        header.u32()?;
        let fields = header.u32()? as usize;
        if body > LONGEST || fields > LONGEST {
            return Err(broken());
        }
        let begin = (16 + fields).next_multiple_of(8);
        if bytes.len() < begin + body {
            return Ok(None);
        }
        let mut message = Message {
            kind: bytes[1],
            big_endian,
            body: bytes[begin..begin + body].to_vec(),
            ..Message::default()
        };
        header.bytes = &bytes[..16 + fields];
        while header.at < 16 + fields {
            header.align(8);
            let code = header.take(1)?[0];
            let signature = header.signature()?;
            if signature == "g" {
                header.signature()?;
                continue;
            }
            match (code, header.value(&signature)?) {
                (3, Value::Text(text)) => message.member = text,
                (4, Value::Text(text)) => message.error = text,
                (5, Value::U32(number)) => message.answers = number,
                _ => {}
            }
        }
        Ok(Some((message, begin + body)))
    }

    /// Reads its arguments.
    pub fn body(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
            big_endian: self.big_endian,
        }
    }
}

/// Reads values one after the other. Errors: there are no such values.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        self.at += length;
        taken.ok_or_else(broken)
    }
    fn number(&mut self, size: usize) -> Result<u64> {
        self.align(size);
        let bytes = self.take(size)?;
        let join = |n, b: &u8| n << 8 | u64::from(*b);
        Ok(match self.big_endian {
            true => bytes.iter().fold(0, join),
            false => bytes.iter().rev().fold(0, join),
        })
    }
    /// `u`
    pub fn u32(&mut self) -> Result<u32> {
        Ok(self.number(4)? as u32)
    }
    /// `s` and `o`
    pub fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).map_err(|_| broken())
    }
    fn signature(&mut self) -> Result<String> {
        let length = self.take(1)?[0].into();
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).map_err(|_| broken())
    }
    /// `v`
    pub fn variant(&mut self) -> Result<Value> {
        let signature = self.signature()?;
        self.value(&signature)
    }
    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let length = self.u32()? as usize;
        let end = self.at + length;
        let mut list = Vec::new();
        while self.at < end {
            list.push(read(self)?);
        }
        Ok(list)
    }
    fn value(&mut self, signature: &str) -> Result<Value> {
        Ok(match signature {
            "b" => Value::Bool(self.u32()? != 0),
            "y" => Value::Byte(self.take(1)?[0]),
            "n" => Value::I16(self.number(2)? as i16),
            "q" => Value::U16(self.number(2)? as u16),
            "i" => Value::I32(self.u32()? as i32),
            "u" => Value::U32(self.u32()?),
            "x" => Value::I64(self.number(8)? as i64),
            "t" => Value::U64(self.number(8)?),
            "d" => Value::Double(f64::from_bits(self.number(8)?)),
            "s" => Value::Text(self.text()?),
            "o" => Value::Path(self.text()?),
            "ay" => Value::Bytes(self.list(|r| Ok(r.take(1)?[0]))?),
            "au" => Value::U32s(self.list(Self::u32)?),
            "as" => Value::Texts(self.list(Self::text)?),
            _ => return Err(broken()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the other side would make of a call: the same bytes, but that it is a reply.
    fn sent(values: &[Value]) -> Vec<u8> {
        let mut body = Writer::default();
        values.iter().for_each(|v| body.variant(v));
        call(7, "/a", "b.C", "Do", "v", body)
    }

    #[test]
    fn what_is_written_reads_back() {
        let values = [
            Value::Bool(true),
            Value::Byte(7),
            Value::I16(-3),
            Value::U16(3),
            Value::I32(-70_000),
            Value::U32(70_000),
            Value::I64(-5),
            Value::U64(u64::MAX),
            Value::Double(1.5),
            Value::Text("ä".into()),
            Value::Path("/a/b".into()),
            Value::Bytes(vec![1, 2, 3]),
            Value::U32s(vec![1, 2]),
            Value::Texts(vec!["a".into(), String::new()]),
        ];
        let bytes = sent(&values);
        let (message, length) = Message::first(&bytes).unwrap().unwrap();
        assert_eq!((length, message.kind), (bytes.len(), CALL));
        assert_eq!(message.member, "Do");
        let mut body = message.body();
        for value in values {
            assert_eq!(body.variant().unwrap(), value);
        }
        assert!(body.variant().is_err(), "there is no more");
    }

    #[test]
    fn a_message_in_pieces_is_waited_for_and_rubbish_is_refused() {
        let bytes = sent(&[Value::Text("x".repeat(100))]);
        for end in 0..bytes.len() {
            assert!(Message::first(&bytes[..end]).unwrap().is_none(), "{end}");
        }
        let mut two = bytes.clone();
        two.extend(&bytes);
        assert_eq!(Message::first(&two).unwrap().unwrap().1, bytes.len());
        assert!(Message::first(&[b'x'; 16]).is_err());
        let mut long = bytes;
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::first(&long).is_err());
        let cut = Message {
            body: vec![1, b's', 0, 0, 255, 0, 0, 0],
            ..Message::default()
        };
        assert!(cut.body().variant().is_err());
    }

    /// The bytes of a call as the specification lays them out, written down by hand.
    #[test]
    fn the_layout_is_the_specifications() {
        let mut body = Writer::default();
        body.text("ab");
        body.properties(&[("N".into(), Value::U64(5))]);
        let bytes = call(1, "/", "i", "M", "sa(sv)", body);
        let fields = b"\x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0\x02\x01s\0\x01\0\0\0i\0\0\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0\x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\
            \0\0\0\0\0\0\0\x08\x01g\0\x06sa(sv)\0";
        assert_eq!(bytes[..4], *b"l\x01\0\x01");
        assert_eq!(bytes[4..8], 40u32.to_le_bytes());
        assert_eq!(bytes[12..16], (fields.len() as u32).to_le_bytes());
        assert_eq!(bytes[16..16 + fields.len()], *fields);
        let body = &bytes[(16 + fields.len()).next_multiple_of(8)..];
        let expected = b"\x02\0\0\0ab\0\0\x18\0\0\0\0\0\0\0\x01\0\0\0N\0\x01t\0\0\0\0\0\0\0\0\
            \x05\0\0\0\0\0\0\0";
        assert_eq!(body, expected);
    }
}
