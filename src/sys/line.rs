//! A record's line: its fields as they are, and later as JSON.
//!
//! What it does: a container's set-up writes some five hundred records, and they should cost it next
//! to nothing. So what is written at the time, and saved, is the fields' plain bytes; who wants to read
//! them has them put into words: `explain`, or the narration.
//!
//! ```text
//! a field         its name's number << 2 | kind (1 byte), value
//! number, signed  a varint: seven bits a byte, the lowest first, the highest bit says that more
//!                 follow; of one that may be negative, the sign is the lowest bit (zigzag)
//! text, args      length (a varint), bytes
//! ```
//!
//! What it implements: RFC 8259, sections 4 to 7: what comes out is what `serde_json` would write.
//! Interface: [`Line`], [`Name`], [`to_json`]. Read next: `args.rs`, `record.rs`.

use super::args::{Args, Parts, Writes};

const NUMBER: u8 = 0;
const SIGNED: u8 = 1;
const TEXT: u8 = 2;
const ARGS: u8 = 3;

/// What a field is called.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Actor,
    Args,
    At,
    Call,
    Errno,
    Error,
    Event,
    Ns,
    Pid,
    Returned,
    Stage,
    Step,
    Why,
}

/// In the order of [`Name`].
const NAMES: [&str; 13] = [
    "actor", "args", "at", "call", "errno", "error", "event", "ns", "pid", "returned", "stage",
    "step", "why",
];

/// The fields of one object.
#[derive(Debug)]
pub struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    /// Begins one in `buffer`, which is emptied.
    pub fn begin(buffer: &'a mut Vec<u8>) -> Line<'a> {
        buffer.clear();
        buffer.reserve(512);
        Line(buffer)
    }

    /// A field with a text.
    #[inline(always)]
    pub fn text(&mut self, name: Name, value: &str) -> &mut Self {
        self.begin_field(name, TEXT);
        put_bytes(self.0, value.as_bytes());
        self
    }

    /// A field with a text, if there is one.
    pub fn maybe_text(&mut self, name: Name, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A field with a call's arguments.
    pub(super) fn args(&mut self, name: Name, args: Writes<'_>) -> &mut Self {
        self.begin_field(name, ARGS);
        put_sized(self.0, |to| {
            let _ = args(&mut Args::begin(to)); // a buffer takes all that is written
        });
        self
    }

    /// A field with a number.
    pub fn number(&mut self, name: Name, value: u64) -> &mut Self {
        self.begin_field(name, NUMBER);
        put_varint(self.0, value);
        self
    }

    /// A field with a number that may be negative.
    pub fn signed(&mut self, name: Name, value: i64) -> &mut Self {
        self.begin_field(name, SIGNED);
        put_varint(self.0, ((value << 1) ^ (value >> 63)) as u64);
        self
    }

    #[inline(always)]
    fn begin_field(&mut self, name: Name, kind: u8) {
        self.0.push((name as u8) << 2 | kind);
    }
}

pub(super) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Appends the length of some bytes, and them.
#[inline(always)]
pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Appends the length of what `write` appends, and that.
pub(super) fn put_sized(to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = to.len();
    write(to);
    let end = to.len();
    put_varint(to, (end - at) as u64);
    let length = to.len() - end;
    to[at..].rotate_right(length);
}

/// Reads what was appended so. It ends where it is damaged.
#[derive(Clone)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    pub(super) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }
}

/// Appends the object that these fields are.
pub fn to_json(fields: &[u8], to: &mut Vec<u8>) {
    let mut fields = Bytes(fields);
    let mut before = b'{';
    while put_field(&mut fields, before, to).is_some() {
        before = b',';
    }
    if before == b'{' {
        to.push(b'{');
    }
    to.push(b'}');
}

fn put_field(fields: &mut Bytes<'_>, before: u8, to: &mut Vec<u8>) -> Option<()> {
    let head = fields.byte()?;
    let name = NAMES.get(usize::from(head >> 2))?;
    let begin = |to: &mut Vec<u8>| {
        to.extend_from_slice(&[before, b'"']);
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b"\":");
    };
    match head & 3 {
        kind @ (NUMBER | SIGNED) => {
            let value = fields.varint()?;
            begin(to);
            match kind {
                NUMBER => put_number(to, value),
                _ => put_number(to, (value >> 1) as i64 ^ -((value & 1) as i64)),
            }
        }
        TEXT => {
            let text = fields.sized()?;
            begin(to);
            put_text(to, text);
        }
        _ => {
            let args = fields.sized()?;
            begin(to);
            put_text(to, Parts(args).to_string().as_bytes());
        }
    }
    Some(())
}

fn put_number(to: &mut Vec<u8>, number: impl itoa::Integer) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a text as JSON has it.
fn put_text(to: &mut Vec<u8>, bytes: &[u8]) {
    to.push(b'"');
    let mut written = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match *byte {
            b'\n' => b'n',
            b'\t' => b't',
            b'\r' => b'r',
            8 => b'b',
            12 => b'f',
            other @ (b'"' | b'\\') => other,
            ..b' ' => b'u',
            _ => continue,
        };
        to.extend_from_slice(&bytes[written..at]);
        to.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            to.extend_from_slice(&[b'0', b'0', high, low]);
        }
        written = at + 1;
    }
    to.extend_from_slice(&bytes[written..]);
    to.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(serde::Serialize)]
    struct Both<'a> {
        why: &'a str,
        at: u64,
        returned: i64,
        args: &'a str,
    }

    fn json(fill: impl FnOnce(&mut Line<'_>)) -> String {
        let (mut fields, mut json) = (Vec::new(), Vec::new());
        fill(&mut Line::begin(&mut fields));
        to_json(&fields, &mut json);
        String::from_utf8(json).unwrap()
    }

    proptest! {
        #[test]
        fn it_is_what_a_serializer_writes(text in "(?s).{0,40}", number: u64, signed: i64) {
            let line = json(|line| {
                line.text(Name::Why, &text).number(Name::At, number).signed(Name::Returned, signed);
                line.args(Name::Args, &|a| write!(a, "{text}"));
            });
            let all = Both { why: &text, at: number, returned: signed, args: &text };
            prop_assert_eq!(line, serde_json::to_string(&all).unwrap());
        }

        #[test]
        fn what_is_damaged_is_read_up_to_there(bytes: Vec<u8>) {
            let mut json = Vec::new();
            to_json(&bytes, &mut json); // it ends, and does not panic
            prop_assert_eq!(json.last(), Some(&b'}'));
        }
    }

    #[test]
    fn names_and_their_words_are_in_one_order() {
        assert_eq!(NAMES.len(), Name::Why as usize + 1);
        for name in [
            Name::Actor,
            Name::Args,
            Name::Errno,
            Name::Pid,
            Name::Step,
            Name::Why,
        ] {
            let word = format!("{name:?}").to_lowercase();
            assert_eq!(NAMES[name as usize], word);
        }
        for number in [0, i64::MAX, i64::MIN, -1, 127, 128] {
            let line = json(|line| {
                line.signed(Name::Returned, number);
            });
            assert_eq!(line, format!("{{\"returned\":{number}}}"));
        }
    }

    #[test]
    fn every_byte_below_a_space_is_escaped() {
        let text: String = (0..=127u8).map(char::from).collect();
        let line = json(|line| {
            line.text(Name::Why, &text).maybe_text(Name::Error, None);
        });
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read, serde_json::json!({ "why": text }));
        assert_eq!(json(|_| {}), "{}");
    }
}
