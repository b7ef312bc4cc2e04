//! A record's line: JSON put together by hand.
//!
//! What it does: a container's set-up writes some five hundred records, all of few known fields, and
//! they should cost it next to nothing; a general serializer took two thirds of what a record cost.
//! What is written here is what `serde_json` would write.
//!
//! What it implements: RFC 8259, sections 4 to 7. Interface: [`Line`]. Read next: `record.rs`.

/// One JSON object, field by field.
#[derive(Debug)]
pub struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    /// Begins an object in `buffer`, which is emptied.
    pub fn begin(buffer: &'a mut Vec<u8>) -> Line<'a> {
        buffer.clear();
        buffer.push(b'{');
        Line(buffer)
    }

    /// Ends it.
    pub fn end(self) {
        self.0.push(b'}');
    }

    /// A field with a text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        self.0.push(b'"');
        let bytes = value.as_bytes();
        let mut written = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
                continue;
            }
            self.0.extend_from_slice(&bytes[written..at]);
            written = at + 1;
            match *byte {
                b'"' => self.0.extend_from_slice(b"\\\""),
                b'\\' => self.0.extend_from_slice(b"\\\\"),
                b'\n' => self.0.extend_from_slice(b"\\n"),
                b'\t' => self.0.extend_from_slice(b"\\t"),
                b'\r' => self.0.extend_from_slice(b"\\r"),
                8 => self.0.extend_from_slice(b"\\b"),
                12 => self.0.extend_from_slice(b"\\f"),
                other => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    self.0.extend_from_slice(b"\\u00");
                    self.0.push(HEX[usize::from(other >> 4)]);
                    self.0.push(HEX[usize::from(other & 15)]);
                }
            }
        }
        self.0.extend_from_slice(&bytes[written..]);
        self.0.push(b'"');
        self
    }

    /// A field with a text, if there is one.
    pub fn maybe_text(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A field with a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.name(name);
        self.digits(value);
        self
    }

    /// A field with a number that may be negative.
    pub fn signed(&mut self, name: &str, value: i64) -> &mut Self {
        self.name(name);
        if value < 0 {
            self.0.push(b'-');
        }
        self.digits(value.unsigned_abs());
        self
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(serde::Serialize)]
    struct Both<'a> {
        text: &'a str,
        number: u64,
        signed: i64,
    }

    proptest! {
        #[test]
        fn it_is_what_a_serializer_writes(text in "(?s).{0,40}", number: u64, signed: i64) {
            let mut buffer = Vec::new();
            let mut line = Line::begin(&mut buffer);
            line.text("text", &text).number("number", number).signed("signed", signed);
            line.end();
            let all = Both { text: &text, number, signed };
            prop_assert_eq!(String::from_utf8(buffer).unwrap(), serde_json::to_string(&all).unwrap());
        }
    }

    #[test]
    fn every_byte_below_a_space_is_escaped() {
        let text: String = (0..=127u8).map(char::from).collect();
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer);
        line.text("a", &text).maybe_text("b", None);
        line.end();
        let read: serde_json::Value = serde_json::from_slice(&buffer).unwrap();
        assert_eq!(read, serde_json::json!({ "a": text }));
    }
}
