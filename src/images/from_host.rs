//! An image out of this host's own programs: `image from-host`, and the embedded image `lab`.
//!
//! What it does: collects programs with everything that they need to start (loader, shared
//! libraries, `#!` interpreters), keeps the symbolic links on the way (`/bin → usr/bin`), adds the
//! few files that programs expect (`/etc/passwd`, `/tmp`), and writes it as one layer tar. So a
//! container can run on a machine with no network and no image.
//!
//! The layer is reproducible for the same host files: entries sorted, owner root, times zero.
//! What it implements: image-spec "Image Layer Filesystem Changeset". Interface: [`Collection`],
//! [`lab`]. Read next: [`crate::host::elf`].

use crate::error::{Context, Error, Kind, Result};
use crate::host::elf::{self, SearchPath};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// One entry of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Directory(u32),
    /// Where on the host it is copied from.
    File(PathBuf),
    Link(PathBuf),
    Text(String, u32),
}

/// Files collected for an image, by their path in it.
#[derive(Debug, Default)]
pub struct Collection {
    entries: BTreeMap<PathBuf, Entry>,
    search: Option<SearchPath>,
}

impl Collection {
    /// An empty collection with the directories and files that every program may expect.
    pub fn new(name: &str) -> Collection {
        let mut c = Collection {
            search: Some(SearchPath::of_this_host()),
            ..Default::default()
        };
        for (path, mode) in [
            ("dev", 0o755),
            ("etc", 0o755),
            ("proc", 0o555),
            ("root", 0o700),
            ("run", 0o755),
            ("sys", 0o555),
            ("tmp", 0o1777),
            ("var", 0o755),
            ("var/tmp", 0o1777),
        ] {
            c.entries.insert(path.into(), Entry::Directory(mode));
        }
        let text = |t: &str| Entry::Text(t.to_string(), 0o644);
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
        c.entries.insert("etc/passwd".into(), text(passwd));
        c.entries.insert(
            "etc/group".into(),
            text("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
        );
        let release = format!("NAME=\"glassbox {name}\"\nID=glassbox-{name}\n");
        c.entries.insert("etc/os-release".into(), text(&release));
        c
    }

    /// Adds a program, by name (searched in PATH) or path, with all that it needs. Errors: it does
    /// not exist, or a library of its is not found.
    pub fn add_program(&mut self, program: &str) -> Result<()> {
        let path = find(program)?;
        self.add_file(&path)
            .with_context(|| format!("cannot take {program} from this host"))
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let real = self.add_path(path, 0)?;
        let Some(real) = real else { return Ok(()) }; // it is there already, with its needs
        let bytes = std::fs::read(&real).with_context(|| format!("cannot read {real:?}"))?;
        if let Some(rest) = bytes.strip_prefix(b"#!") {
            let line = String::from_utf8_lossy(rest.split(|b| *b == b'\n').next().unwrap_or(b""))
                .trim()
                .to_string();
            let mut words = line.split_whitespace();
            if let Some(interpreter) = words.next() {
                self.add_file(Path::new(interpreter))?;
                // "#!/usr/bin/env python3": the program that env will look for.
                if interpreter.ends_with("/env")
                    && let Some(name) = words.find(|w| !w.starts_with('-'))
                {
                    self.add_program(name)?;
                }
            }
            return Ok(());
        }
        let Some(needs) = elf::read(&bytes) else {
            return Ok(());
        };
        if let Some(loader) = &needs.loader {
            self.add_file(loader)?;
        }
        let search = self.search.clone().unwrap_or_default();
        for library in &needs.libraries {
            let file = search.find(library, &needs, &real).ok_or_else(|| {
                Error::kind(
                    Kind::NotFound,
                    format!(
                        "{} needs {library}, which is not on this host",
                        real.display()
                    ),
                )
                .hint("ldconfig -p lists the libraries that the loader knows")
            })?;
            self.add_file(&file)?;
        }
        Ok(())
    }

    /// Adds one path with the directories and symbolic links that lead to it. Returns the real
    /// path of a file that is new here.
    fn add_path(&mut self, path: &Path, depth: u8) -> Result<Option<PathBuf>> {
        if depth > 40 {
            return Err(Error::new(format!(
                "too many symbolic links at {}",
                path.display()
            )));
        }
        let mut walked = PathBuf::from("/");
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            match component {
                Component::Normal(name) => walked.push(name),
                Component::ParentDir => {
                    walked.pop();
                    continue;
                }
                _ => continue,
            }
            let meta = std::fs::symlink_metadata(&walked)
                .with_context(|| format!("cannot find {}", walked.display()))?;
            let inside = walked.strip_prefix("/").unwrap_or(&walked).to_path_buf();
            if meta.is_symlink() {
                let target = std::fs::read_link(&walked)
                    .with_context(|| format!("cannot read the link {}", walked.display()))?;
                self.entries.insert(inside, Entry::Link(target.clone()));
                let rest: PathBuf = components.collect();
                let base = walked.parent().unwrap_or(Path::new("/"));
                return self.add_path(&base.join(target).join(rest), depth + 1);
            }
            if meta.is_dir() {
                self.entries
                    .entry(inside)
                    .or_insert(Entry::Directory(0o755));
            } else if meta.is_file() {
                let known = self
                    .entries
                    .insert(inside, Entry::File(walked.clone()))
                    .is_some();
                return Ok((!known).then_some(walked));
            } else {
                return Err(Error::new(format!(
                    "{} is no file or directory",
                    walked.display()
                )));
            }
        }
        Ok(None)
    }

    /// Adds a symbolic link.
    pub fn add_link(&mut self, path: &str, target: &str) {
        self.entries
            .entry(path.into())
            .or_insert(Entry::Link(target.into()));
    }

    /// How many files there are, without directories and links.
    pub fn files(&self) -> usize {
        self.entries
            .values()
            .filter(|e| matches!(e, Entry::File(_) | Entry::Text(..)))
            .count()
    }

    /// Writes the layer tar, uncompressed.
    pub fn write_layer(&self, out: &mut dyn Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for (path, entry) in &self.entries {
            self.write_entry(&mut tar, path, entry)
                .with_context(|| format!("cannot write {} into the layer", path.display()))?;
        }
        tar.finish().context("cannot finish the layer")
    }

    fn write_entry(
        &self,
        tar: &mut tar::Builder<&mut dyn Write>,
        path: &Path,
        entry: &Entry,
    ) -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        let nothing = std::io::empty();
        match entry {
            Entry::Directory(mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                tar.append_data(&mut header, path.join(""), nothing)
            }
            Entry::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                tar.append_link(&mut header, path, target)
            }
            Entry::Text(text, mode) => {
                header.set_mode(*mode);
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes())
            }
            Entry::File(source) => {
                let mut file = std::fs::File::open(source)?;
                let meta = file.metadata()?;
                // Set-user-id bits stay on the host: this is an image of tools.
                header.set_mode(meta.permissions().mode() & 0o755);
                header.set_size(meta.len());
                tar.append_data(&mut header, path, &mut file)
            }
        }
    }
}

/// Finds a program as a shell would.
fn find(program: &str) -> Result<PathBuf> {
    if program.contains('/') {
        return std::path::absolute(program).with_context(|| format!("cannot find {program}"));
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/bin:/sbin:/bin";
    path.split(':')
        .filter(|d| d.starts_with('/'))
        .map(|d| Path::new(d).join(program))
        .find(|p| {
            p.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| {
            Error::kind(
                Kind::NotFound,
                format!("there is no program {program:?} on this host"),
            )
        })
}

/// The tools of the image `lab` on a host without a static busybox; those that are not there are
/// left out, except the shell.
const TOOLS: &[&str] = &[
    "sh", "ls", "cat", "echo", "true", "false", "sleep", "id", "env", "hostname", "uname", "ps",
    "mount", "umount", "df", "free", "head", "tail", "wc", "grep", "sed", "tr", "cut", "sort",
    "uniq", "cp", "mv", "rm", "mkdir", "rmdir", "ln", "touch", "chmod", "chown", "readlink",
    "stat", "date", "dd", "kill", "tty", "stty", "test", "seq", "pwd", "whoami", "nproc", "ip",
    "ping",
];

/// The image `lab`: what it was made of, and its files.
pub fn lab() -> Result<(String, Collection)> {
    let mut collection = Collection::new("lab");
    if let Some((busybox, applets)) = static_busybox() {
        collection
            .entries
            .insert("bin/busybox".into(), Entry::File(busybox.clone()));
        for directory in ["bin", "sbin", "usr", "usr/bin", "usr/sbin"] {
            collection
                .entries
                .insert(directory.into(), Entry::Directory(0o755));
        }
        for applet in applets {
            let up = "../".repeat(applet.matches('/').count());
            if applet != "bin/busybox" {
                collection.add_link(&applet, &format!("{up}bin/busybox"));
            }
        }
        collection.add_link("bin/sh", "../bin/busybox");
        return Ok((
            format!("static busybox from {}", busybox.display()),
            collection,
        ));
    }
    for tool in TOOLS {
        match collection.add_program(tool) {
            Err(e) if *tool == "sh" => return Err(e),
            _ => {} // a tool that this host lacks, the lab lacks too
        }
    }
    // Wherever the host keeps its tools, /bin finds them.
    if !collection.entries.contains_key(Path::new("bin")) {
        collection.add_link("bin", "usr/bin");
    }
    Ok((
        "the host's own tools and their libraries".into(),
        collection,
    ))
}

/// A static busybox of this host, and the paths of its applets (`bin/ls`).
fn static_busybox() -> Option<(PathBuf, Vec<String>)> {
    let path = [
        "/bin/busybox",
        "/usr/bin/busybox",
        "/bin/busybox.static",
        "/usr/local/bin/busybox",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|p| {
        std::fs::read(p)
            .ok()
            .and_then(|b| elf::read(&b))
            .is_some_and(|n| n.loader.is_none())
    })?;
    let output = std::process::Command::new(&path)
        .arg("--list-full")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    let applets: Vec<String> = String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.contains(".."))
        .map(str::to_string)
        .collect();
    applets
        .iter()
        .any(|a| a.ends_with("/sh"))
        .then_some((path, applets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(collection: &Collection) -> Vec<String> {
        let mut bytes = Vec::new();
        collection.write_layer(&mut bytes).unwrap();
        tar::Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn a_program_comes_with_its_libraries_and_links() {
        let mut c = Collection::new("test");
        c.add_program("/bin/ls").unwrap();
        let names = names(&c);
        assert!(names.iter().any(|n| n.ends_with("bin/ls")), "{names:?}");
        assert!(names.iter().any(|n| n.contains("libc.so")), "{names:?}");
        assert!(names.iter().any(|n| n == "etc/passwd"));
        let parents = names.iter().filter(|n| n.as_str() == "usr/").count();
        assert!(parents <= 1, "a directory stands once");
    }

    #[test]
    fn the_layer_is_reproducible() {
        let layer = || {
            let mut c = Collection::new("test");
            c.add_program("true").unwrap();
            let mut bytes = Vec::new();
            c.write_layer(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(layer(), layer());
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let e = Collection::new("test")
            .add_program("no-such-program")
            .unwrap_err();
        assert!(format!("{e:#}").contains("no-such-program"));
    }

    #[test]
    fn the_lab_has_a_shell() {
        let (_, lab) = lab().unwrap();
        let names = names(&lab);
        assert!(
            names.iter().any(|n| n == "bin/sh" || n == "usr/bin/sh"),
            "{names:?}"
        );
    }
}
