//! Attributes: how netlink messages say everything that is optional.
//!
//! ```text
//!   ┌────────┬──────┬───────┬─────────────┐
//!   │ length │ type │ value │ padding to 4│   (struct nlattr; length without the padding)
//!   └────────┴──────┴───────┴─────────────┘
//! ```
//!
//! What it does: writes and reads them, purely. A value may be attributes again.
//! What it implements: netlink(7), rtnetlink(7) (`struct rtattr`), linux/netlink.h.
//! Interface: [`Attributes`], [`read`], [`c_string`]. Read next: `link.rs`.

/// Bit of an attribute's type: its value is attributes.
const NESTED: u16 = 1 << 15;

/// A list of attributes being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// None yet.
    pub fn new() -> Attributes {
        Attributes::default()
    }
    /// Adds one.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Attributes {
        put(&mut self.0, kind, value);
        self
    }
    /// Adds a text, with the zero that ends it.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Attributes {
        self.bytes(kind, &c_string(value))
    }
    /// Adds a number in the host's order, as rtnetlink has it.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Attributes {
        self.bytes(kind, &value.to_ne_bytes())
    }
    /// Adds a number in network order, as netfilter has it.
    #[must_use]
    pub fn network_order(self, kind: u16, value: u32) -> Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }
    /// Adds a list of attributes.
    #[must_use]
    pub fn nested(self, kind: u16, value: Attributes) -> Attributes {
        self.bytes(kind | NESTED, &value.0)
    }
    /// Behind a message's own header.
    pub fn after(self, header: &[u8]) -> Vec<u8> {
        let mut body = header.to_vec();
        body.extend(self.0);
        body
    }
}

/// Writes one attribute.
pub fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((value.len() + 4) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes behind a message's own header: `(type, value)` each.
pub fn read(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while let [a, b, c, d, ..] = bytes {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = bytes.get(4..length) else {
            break;
        };
        all.push((u16::from_ne_bytes([*c, *d]) & !NESTED, value.to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// A text with the zero that ends it in C.
pub fn c_string(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip() {
        let inner = Attributes::new().number(1, 7);
        let body = Attributes::new()
            .text(3, "eth0")
            .bytes(1, &[1, 2, 3, 4, 5, 6])
            .nested(18, inner.clone())
            .after(&[]);
        assert_eq!(body.len() % 4, 0);
        let back = read(&body);
        assert_eq!(back[0], (3, c_string("eth0")));
        assert_eq!(back[1], (1, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(back[2], (18, inner.after(&[])));
        assert!(read(&[9, 0, 1, 0]).is_empty(), "cut short");
    }
}
