//! A call's arguments: kept as they are, and later written as strace would print them.
//!
//! What it does: a container's set-up records some three hundred calls, and next to none of them is
//! ever read. So their arguments are kept as plain bytes, and put into words when somebody looks;
//! the same closure gives the words of an error when the call has failed.
//! Interface: [`Args`] to write them; [`Parts`], [`written`] to read them; [`Flags`], the tables of
//! names; and for `write!`: [`Names`] (flags), [`At`] (a directory's descriptor).
//! Read next: `line.rs`, then [`super::record`].

use super::line::{Bytes, put_bytes, put_sized, put_varint};
use super::{fs, mount};
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What writes a call's arguments.
pub(super) type Writes<'a> = &'a dyn Fn(&mut Args<'_>) -> fmt::Result;

/// What an argument is; the first byte of each.
mod kind {
    /// A text as it is.
    pub(super) const WORD: u8 = 1;
    /// A path or text that is shown in quotes.
    pub(super) const QUOTED: u8 = 2;
    /// The length of a text, and its beginning.
    pub(super) const LONG: u8 = 3;
    pub(super) const AT: u8 = 4;
    pub(super) const HEX: u8 = 5;
    pub(super) const OCTAL: u8 = 6;
    pub(super) const FLAGS: u8 = 7;
    /// As a word, and the next argument follows it without a comma.
    pub(super) const BEFORE: u8 = 8;
    /// As a word, that follows the last argument without a comma.
    pub(super) const AFTER: u8 = 9;
}

/// Of a longer text only the beginning is kept: the kernel's own files take a line or two, what is
/// longer is a document of ours.
const WHOLE: usize = 256;

/// The tables that name flags which are kept as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flags {
    Open,
    OpenTree,
    MoveMount,
    MountAttributes,
    Mount,
}

impl Flags {
    const ALL: [Flags; 5] = [
        Flags::Open,
        Flags::OpenTree,
        Flags::MoveMount,
        Flags::MountAttributes,
        Flags::Mount,
    ];
    fn table(self) -> &'static [(u64, &'static str)] {
        match self {
            Flags::Open => fs::O_FLAGS,
            Flags::OpenTree => mount::OPEN_TREE_FLAGS,
            Flags::MoveMount => mount::MOVE_MOUNT_FLAGS,
            Flags::MountAttributes => mount::MOUNT_ATTRS,
            Flags::Mount => mount::MS_FLAGS,
        }
    }
}

/// Where arguments are kept, one after the other: by its methods, or with `write!` as one text.
#[derive(Debug)]
pub(crate) struct Args<'a>(&'a mut Vec<u8>);

impl<'a> Args<'a> {
    pub(super) fn begin(to: &'a mut Vec<u8>) -> Args<'a> {
        Args(to)
    }

    fn bytes(&mut self, kind: u8, bytes: &[u8]) -> &mut Self {
        self.0.push(kind);
        put_bytes(self.0, bytes);
        self
    }
    fn number(&mut self, kind: u8, value: u64) -> &mut Self {
        self.0.push(kind);
        put_varint(self.0, value);
        self
    }

    /// A text as it is.
    pub(crate) fn word(&mut self, text: &str) -> &mut Self {
        self.bytes(kind::WORD, text.as_bytes())
    }
    /// A text right before the next argument.
    pub(crate) fn before(&mut self, text: &str) -> &mut Self {
        self.bytes(kind::BEFORE, text.as_bytes())
    }
    /// A text right after the last argument.
    pub(crate) fn after(&mut self, text: &str) -> &mut Self {
        self.bytes(kind::AFTER, text.as_bytes())
    }
    /// A path.
    pub(crate) fn path(&mut self, path: impl AsRef<OsStr>) -> &mut Self {
        self.bytes(kind::QUOTED, path.as_ref().as_bytes())
    }
    /// A text, in quotes; of a long one the beginning and the length.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        if text.len() <= WHOLE {
            return self.bytes(kind::QUOTED, text.as_bytes());
        }
        let end = (0..=WHOLE / 2).rev().find(|at| text.is_char_boundary(*at));
        self.number(kind::LONG, text.len() as u64);
        put_bytes(self.0, &text.as_bytes()[..end.unwrap_or(0)]);
        self
    }
    /// A path or text, or `NULL`.
    pub(crate) fn maybe(&mut self, text: Option<impl AsRef<OsStr>>) -> &mut Self {
        match text {
            Some(text) => self.path(text),
            None => self.word("NULL"),
        }
    }
    /// A directory's descriptor.
    pub(crate) fn at(&mut self, fd: i32) -> &mut Self {
        self.number(kind::AT, u64::from(fd.cast_unsigned()))
    }
    /// A number in hex.
    pub(crate) fn hex(&mut self, value: u64) -> &mut Self {
        self.number(kind::HEX, value)
    }
    /// A file's mode.
    pub(crate) fn octal(&mut self, value: u32) -> &mut Self {
        self.number(kind::OCTAL, value.into())
    }
    /// Flags, by name.
    pub(crate) fn flags(&mut self, bits: u64, table: Flags) -> &mut Self {
        self.number(kind::FLAGS, bits);
        self.0.push(table as u8);
        self
    }
    /// That was all.
    pub(crate) fn done(&mut self) -> fmt::Result {
        Ok(())
    }

    /// A text as it is.
    pub(crate) fn write_str(&mut self, text: &str) -> fmt::Result {
        self.word(text).done()
    }
    /// What `write!` calls.
    pub(crate) fn write_fmt(&mut self, words: fmt::Arguments<'_>) -> fmt::Result {
        struct Into<'a>(&'a mut Vec<u8>);
        impl Write for Into<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        let mut result = Ok(());
        self.0.push(kind::WORD);
        put_sized(self.0, |to| result = Into(to).write_fmt(words));
        result
    }
}

/// Arguments that were kept, in words.
pub(super) struct Parts<'a>(pub &'a [u8]);

impl fmt::Display for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Bytes(self.0);
        let mut comma = "";
        while let Some(kind) = parts.byte() {
            let (before, next) = match kind {
                kind::AFTER => ("", ", "),
                kind::BEFORE => (comma, ""),
                _ => (comma, ", "),
            };
            f.write_str(before)?;
            comma = next;
            if show(kind, &mut parts, f)?.is_none() {
                break; // damaged
            }
        }
        Ok(())
    }
}

fn show(
    kind: u8,
    parts: &mut Bytes<'_>,
    f: &mut fmt::Formatter<'_>,
) -> Result<Option<()>, fmt::Error> {
    let text = |bytes| String::from_utf8_lossy(bytes);
    let shown = |bytes| Path::new(OsStr::from_bytes(bytes));
    let mut all = || {
        Some(match kind {
            kind::WORD | kind::BEFORE | kind::AFTER => f.write_str(&text(parts.sized()?)),
            kind::QUOTED => write!(f, "{:?}", Shown(shown(parts.sized()?))),
            kind::LONG => {
                let length = parts.varint()?;
                write!(f, "{:?}... {length} bytes", text(parts.sized()?))
            }
            kind::AT => write!(f, "{}", At(parts.varint()? as i32)),
            kind::HEX => write!(f, "{:#x}", parts.varint()?),
            kind::OCTAL => write!(f, "{:#05o}", parts.varint()?),
            kind::FLAGS => {
                let bits = parts.varint()?;
                let table = Flags::ALL.get(usize::from(parts.byte()?))?;
                fmt::Display::fmt(&Names(bits, table.table()), f)
            }
            _ => return None,
        })
    };
    all().transpose()
}

/// What `args` writes, in words.
pub(crate) fn written(args: impl Fn(&mut Args<'_>) -> fmt::Result) -> String {
    let mut kept = Vec::new();
    let _ = args(&mut Args(&mut kept)); // a buffer takes all that is written
    Parts(&kept).to_string()
}

/// A path, in quotes: as a text where it is one, for `Path` writes itself letter by letter.
struct Shown<'a>(pub &'a Path);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_str() {
            Some(text) => fmt::Debug::fmt(text, f),
            None => fmt::Debug::fmt(self.0, f),
        }
    }
}

/// The names of set bits, joined by `|`, the rest in hex; `0` for none.
pub(crate) struct Names<'a>(pub u64, pub &'a [(u64, &'a str)]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Names(bits, table) = *self;
        let (mut rest, mut bar) = (bits, "");
        for (bit, name) in table {
            if *bit != 0 && rest & bit == *bit {
                f.write_str(bar)?;
                f.write_str(name)?;
                (rest, bar) = (rest & !bit, "|");
            }
        }
        match (rest, bits) {
            (0, 0) => f.write_str("0"),
            (0, _) => Ok(()),
            _ => write!(f, "{bar}{rest:#x}"),
        }
    }
}

/// [`Names`] as a text: how plans write flags.
pub(crate) fn flag_names(bits: u64, table: &[(u64, &str)]) -> String {
    Names(bits, table).to_string()
}

/// `AT_FDCWD` by name, any other descriptor by number.
pub(crate) struct At(pub i32);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            libc::AT_FDCWD => f.write_str("AT_FDCWD"),
            fd => fmt::Display::fmt(&fd, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flags_are_named_and_what_is_left_is_a_number() {
        let table = [(1, "ONE"), (6, "BOTH"), (2, "TWO")];
        let names = [0, 1, 2, 7, 8, 9].map(|bits| flag_names(bits, &table));
        assert_eq!(names, ["0", "ONE", "TWO", "ONE|BOTH", "0x8", "ONE|0x8"]);
        for (at, flags) in Flags::ALL.into_iter().enumerate() {
            assert_eq!(flags as usize, at); // it is found by its number again
        }
    }

    #[test]
    fn each_kind_comes_back_as_strace_prints_it() {
        let all = written(|a| {
            a.at(libc::AT_FDCWD).at(3).path("/a \"b\"").octal(0o644);
            a.hex(255).flags(libc::O_CREAT as u64, Flags::Open);
            a.before("{set=").word("0").after("}");
            write!(a, "{}, {}", 1, 2)?;
            a.maybe(None::<&str>).maybe(Some("x")).done()
        });
        let expected =
            "AT_FDCWD, 3, \"/a \\\"b\\\"\", 0o644, 0xff, O_CREAT, {set=0}, 1, 2, NULL, \"x\"";
        assert_eq!(all, expected);
    }

    #[test]
    fn a_long_text_is_its_beginning_and_its_length() {
        let long = "é".repeat(200);
        let short = format!("\"{}\"... 400 bytes", "é".repeat(64));
        assert_eq!(written(|a| a.text(&long).done()), short);
        assert_eq!(written(|a| a.text("a\n").done()), "\"a\\n\"");
    }

    proptest! {
        #[test]
        fn quotes_are_those_of_debug(text in "(?s).{0,20}") {
            let quoted = format!("{text:?}, {text}");
            prop_assert_eq!(written(|a| a.path(&text).word(&text).done()), quoted);
        }

        #[test]
        fn what_is_damaged_is_read_up_to_there(bytes: Vec<u8>) {
            let _ = Parts(&bytes).to_string(); // it ends, and does not panic
        }
    }
}
