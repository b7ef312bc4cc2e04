//! What a program needs from the file system to start: its loader and its shared libraries.
//!
//! What it does: reads an ELF file's dynamic section and finds each library where the dynamic
//! loader would. Pure but for reading the files; executes nothing (ldd(1) runs the program's own
//! loader, which a stranger's program could abuse).
//!
//! What it implements: elf(5), ld.so(8) (RPATH and RUNPATH with `$ORIGIN`, ld.so.conf, the default
//! directories).
//! Interface: [`read`], [`Needs`], [`SearchPath`]. Read next: [`crate::images::from_host`].

use std::path::{Path, PathBuf};

/// What one ELF file asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// `PT_INTERP`: the dynamic loader; absent in a static program and in libraries.
    pub loader: Option<PathBuf>,
    /// `DT_NEEDED`, in order.
    pub libraries: Vec<String>,
    /// `DT_RUNPATH`, or else `DT_RPATH`: directories, maybe with `$ORIGIN`.
    pub runpath: Vec<String>,
    /// 64-bit: libraries of the other class are passed over.
    pub wide: bool,
    /// `e_machine`.
    pub machine: u16,
}

/// The little-endian fields of one ELF file.
struct Elf<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl Elf<'_> {
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }
    /// A field whose offset and size differ between the classes.
    fn field(&self, base: usize, narrow: (usize, usize), wide: (usize, usize)) -> Option<u64> {
        let (at, size) = if self.wide { wide } else { narrow };
        self.number(base.checked_add(at)?, size)
    }
    fn text(&self, at: u64) -> Option<String> {
        let rest = self.bytes.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}

/// A segment: (type, offset in the file, address, size in the file).
type Segment = (u64, u64, u64, u64);

/// Reads what `bytes` asks for; `None` when it is no little-endian ELF file.
pub fn read(bytes: &[u8]) -> Option<Needs> {
    if bytes.get(..4)? != b"\x7fELF" || bytes.get(5)? != &1 {
        return None;
    }
    let elf = Elf {
        bytes,
        wide: bytes.get(4)? == &2,
    };
    let table = elf.field(0, (28, 4), (32, 8))?;
    let size = elf.field(0, (42, 2), (54, 2))?;
    let count = elf.field(0, (44, 2), (56, 2))?;
    let mut segments: Vec<Segment> = Vec::new();
    for i in 0..count {
        let base = usize::try_from(table.checked_add(i * size)?).ok()?;
        segments.push((
            elf.number(base, 4)?,
            elf.field(base, (4, 4), (8, 8))?,
            elf.field(base, (8, 4), (16, 8))?,
            elf.field(base, (16, 4), (32, 8))?,
        ));
    }
    let mut needs = Needs {
        wide: elf.wide,
        machine: elf.number(18, 2)? as u16,
        ..Needs::default()
    };
    const PT_DYNAMIC: u64 = 2;
    const PT_INTERP: u64 = 3;
    for (kind, offset, _, _) in &segments {
        if *kind == PT_INTERP {
            needs.loader = Some(elf.text(*offset)?.into());
        }
    }
    if let Some((_, offset, _, size)) = segments.iter().find(|s| s.0 == PT_DYNAMIC) {
        dynamic(&elf, *offset, *size, &segments, &mut needs)?;
    }
    Some(needs)
}

/// Reads the dynamic section: pairs of tag and value, up to a tag of zero.
fn dynamic(
    elf: &Elf<'_>,
    at: u64,
    size: u64,
    segments: &[Segment],
    needs: &mut Needs,
) -> Option<()> {
    const DT_NEEDED: u64 = 1;
    const DT_STRTAB: u64 = 5;
    const DT_RPATH: u64 = 15;
    const DT_RUNPATH: u64 = 29;
    let word = if elf.wide { 8 } else { 4 };
    let mut pairs = Vec::new();
    for i in 0..size / (2 * word as u64) {
        let base = usize::try_from(at).ok()? + i as usize * 2 * word;
        match (elf.number(base, word)?, elf.number(base + word, word)?) {
            (0, _) => break,
            pair => pairs.push(pair),
        }
    }
    let address = pairs.iter().find(|p| p.0 == DT_STRTAB)?.1;
    // The section holds addresses; the segment that an address falls into says where in the file.
    const PT_LOAD: u64 = 1;
    let strings = segments
        .iter()
        .find(|s| s.0 == PT_LOAD && (s.2..s.2.saturating_add(s.3)).contains(&address))
        .map(|s| address - s.2 + s.1)?;
    let (mut rpath, mut runpath) = (None, None);
    for (tag, value) in pairs {
        match tag {
            DT_NEEDED => needs.libraries.push(elf.text(strings + value)?),
            DT_RPATH => rpath = elf.text(strings + value),
            DT_RUNPATH => runpath = elf.text(strings + value),
            _ => {}
        }
    }
    let path = runpath.or(rpath).unwrap_or_default();
    needs.runpath = path
        .split(':')
        .filter(|p| !p.is_empty())
        .map(str::to_string)
        .collect();
    Some(())
}

/// Where this host's dynamic loader looks for libraries.
#[derive(Debug, Clone, Default)]
pub struct SearchPath {
    directories: Vec<PathBuf>,
}

impl SearchPath {
    /// /etc/ld.so.conf with its includes, then the directories that every loader knows.
    pub fn of_this_host() -> SearchPath {
        let mut path = SearchPath::default();
        path.include(Path::new("/etc/ld.so.conf"), 0);
        for known in ["/lib64", "/usr/lib64", "/lib", "/usr/lib"] {
            path.directories.push(known.into());
        }
        let arch = std::env::consts::ARCH;
        path.directories
            .push(format!("/lib/{arch}-linux-gnu").into());
        path.directories
            .push(format!("/usr/lib/{arch}-linux-gnu").into());
        path
    }

    fn include(&mut self, file: &Path, depth: u8) {
        let Ok(text) = std::fs::read_to_string(file) else {
            return;
        };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            match line.strip_prefix("include ") {
                // The includes in use are all "DIRECTORY/*.conf".
                Some(pattern) if depth < 8 => {
                    let directory = Path::new(pattern.trim()).parent().unwrap_or(Path::new("/"));
                    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|e| e.path())
                        .filter(|p| p.extension().is_some_and(|e| e == "conf"))
                        .collect();
                    files.sort();
                    files.iter().for_each(|f| self.include(f, depth + 1));
                }
                None if line.starts_with('/') => self.directories.push(line.into()),
                _ => {}
            }
        }
    }

    /// The file that the loader would take for `library`, asked for by the ELF file `by`.
    pub fn find(&self, library: &str, needs: &Needs, by: &Path) -> Option<PathBuf> {
        if library.contains('/') {
            return Some(library.into()).filter(|p: &PathBuf| p.exists());
        }
        let origin = by.parent().unwrap_or(Path::new("/")).display().to_string();
        let own = needs
            .runpath
            .iter()
            .map(|p| PathBuf::from(p.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)));
        own.chain(self.directories.iter().cloned())
            .map(|directory| directory.join(library))
            .find(|candidate| {
                let Ok(bytes) = std::fs::read(candidate) else {
                    return false;
                };
                read(&bytes).is_some_and(|l| (l.wide, l.machine) == (needs.wide, needs.machine))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_loader_and_libraries() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let needs = read(&bytes).unwrap();
        let Some(loader) = &needs.loader else { return }; // a static build has neither
        assert!(loader.is_absolute());
        assert!(
            needs.libraries.iter().any(|l| l.starts_with("libc.")),
            "{needs:?}"
        );
        let libc = needs
            .libraries
            .iter()
            .find(|l| l.starts_with("libc."))
            .unwrap();
        let found = SearchPath::of_this_host().find(libc, &needs, Path::new("/proc/self/exe"));
        assert!(found.is_some_and(|p| p.is_file()));
    }

    #[test]
    fn what_is_no_elf_file_needs_nothing() {
        assert_eq!(read(b"#!/bin/sh\n"), None);
        assert_eq!(read(b"\x7fELF"), None);
        assert_eq!(read(b"\x7fELF\x02\x01\x01"), None);
    }
}
