//! What a test must not leave behind, and how that is checked.
//!
//! What it does: a [`TempRoot`] is a directory with a unique name (the tag), removed at the end. A
//! [`LeakCheck`] remembers, when it is made, the mounts, the cgroups with "glassbox" in their path
//! and the files below given directories; when it is dropped, it compares, and it looks for
//! processes that carry the tag (in their command line, environment, working directory or mounts)
//! and for mounts of this namespace that mention it. A leak fails the test and is named.
//!
//! Other people's tests run on the same machine, so what is new is only a leak if it stays: the
//! comparison is repeated for some seconds, and a cgroup in which somebody else's process lives is
//! theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory for one test's state, removed when dropped (nothing may be mounted below it then).
#[derive(Debug)]
pub struct TempRoot {
    path: PathBuf,
}

impl TempRoot {
    /// A new directory of mode 0755 in the temporary directory, with `name` in its name.
    pub fn new(name: &str) -> TempRoot {
        let path = std::env::temp_dir().join(format!(
            "glassbox-test-{}-{}-{name}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir(&path).expect("a fresh directory");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        TempRoot { path }
    }
    /// The same, owned by the ordinary user that tests become.
    pub fn for_user(name: &str) -> TempRoot {
        let root = TempRoot::new(name);
        if super::is_root() {
            std::os::unix::fs::chown(&root.path, Some(super::USER), Some(super::USER))
                .expect("chown");
        }
        root
    }
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
    /// Its unique name, for the names of what the test makes.
    pub fn tag(&self) -> String {
        self.path
            .file_name()
            .expect("has a name")
            .to_string_lossy()
            .into_owned()
    }
    /// Writes a file below it, making directories on the way, and returns its path.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("mkdir");
        std::fs::write(&path, content).expect("write");
        path
    }
}

impl AsRef<Path> for TempRoot {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
impl AsRef<std::ffi::OsStr> for TempRoot {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.path.as_os_str()
    }
}

impl Drop for TempRoot {
    fn drop(&mut self) {
        let mounted = mounts_with(&self.path.to_string_lossy());
        if mounted.is_empty() {
            // A directory without permissions for its owner (0000) stops an ordinary user.
            if let Err(e) = std::fs::remove_dir_all(&self.path)
                && !std::thread::panicking()
            {
                panic!("cannot remove {:?}: {e}", self.path);
            }
        } else if !std::thread::panicking() {
            panic!("still mounted below {:?}: {mounted:#?}", self.path);
        }
    }
}

/// Fails the test when something of it is left; see the top of the file. Make it right after the
/// [`TempRoot`], so that it is dropped before it.
#[derive(Debug)]
pub struct LeakCheck {
    tag: String,
    watched: Vec<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
    mounts: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
    children: BTreeSet<i32>,
    whole: bool,
}

impl LeakCheck {
    /// Watches the host for leaks of the test that owns `root`.
    pub fn new(root: &TempRoot) -> LeakCheck {
        LeakCheck {
            tag: root.tag(),
            watched: Vec::new(),
            cgroups: cgroups(),
            mounts: mounts_with("glassbox"),
            files: BTreeSet::new(),
            children: BTreeSet::new(),
            whole: false,
        }
    }
    /// Also compares the files below a directory before and after.
    pub fn files_below(mut self, directory: impl Into<PathBuf>) -> LeakCheck {
        let directory = directory.into();
        walk(&directory, &mut self.files);
        self.watched.push(directory);
        self
    }
    /// Also compares this thread's children; another test's are those of its own thread.
    pub fn children(mut self) -> LeakCheck {
        self.children = children();
        self.whole = true;
        self
    }

    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for mount in mounts_with("glassbox").difference(&self.mounts) {
            if mount.contains(&self.tag) {
                leaks.push(format!("a mount: {mount}"));
            }
        }
        for group in cgroups().difference(&self.cgroups) {
            let name = group.file_name().unwrap_or_default();
            // A slow machine may let another test's empty group be for longer than we wait.
            let path = group.to_string_lossy();
            let others = path.contains("glassbox-test-") && !path.contains(&self.tag);
            if name != "glassbox" && name != "glassbox.slice" && !others && !populated(group) {
                leaks.push(format!("a cgroup: {}", group.display()));
            }
        }
        leaks.extend(processes_of(&self.tag));
        let mut files = BTreeSet::new();
        self.watched.iter().for_each(|d| walk(d, &mut files));
        for file in files.difference(&self.files) {
            leaks.push(format!("a file: {}", file.display()));
        }
        for file in self.files.difference(&files) {
            leaks.push(format!("a file that is gone: {}", file.display()));
        }
        if self.whole {
            for pid in children().difference(&self.children) {
                leaks.push(format!("a child process: {pid}"));
            }
        }
        leaks
    }

    /// Checks until nothing is left. What another test, side by side with this one, is just making
    /// or removing comes and goes: a leak is what stays for ten seconds (a monitor that is just
    /// ending is none either).
    #[track_caller]
    pub fn check(&self) {
        let mut seen: BTreeMap<String, Instant> = BTreeMap::new();
        let start = Instant::now();
        loop {
            let leaks = self.leaks();
            seen.retain(|leak, _| leaks.contains(leak));
            for leak in leaks {
                seen.entry(leak).or_insert_with(Instant::now);
            }
            let stays = |since: &Instant| since.elapsed() > Duration::from_secs(10);
            let left: Vec<_> = seen.iter().filter(|(_, since)| stays(since)).collect();
            if !left.is_empty() {
                let left: Vec<_> = left.iter().map(|(leak, _)| leak.as_str()).collect();
                panic!("the test left behind:\n  {}", left.join("\n  "));
            }
            // For ten seconds nothing of the first look has stayed: what there is now is young.
            if seen.is_empty() || start.elapsed() > Duration::from_secs(30) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for LeakCheck {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

fn mounts_with(word: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter(|l| l.contains(word))
        .map(str::to_string)
        .collect()
}

/// Every cgroup directory with "glassbox" in its path, in all hierarchies.
fn cgroups() -> BTreeSet<PathBuf> {
    fn below(directory: &Path, inside: bool, found: &mut BTreeSet<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let ours = inside || entry.file_name().to_string_lossy().contains("glassbox");
            if ours {
                found.insert(entry.path());
            }
            below(&entry.path(), ours, found);
        }
    }
    let mut found = BTreeSet::new();
    below(Path::new("/sys/fs/cgroup"), false, &mut found);
    found
}

/// Whether a process lives in the cgroup or below it.
fn populated(group: &Path) -> bool {
    let here = std::fs::read_to_string(group.join("cgroup.procs"));
    here.is_ok_and(|procs| !procs.trim().is_empty())
        || std::fs::read_dir(group).is_ok_and(|entries| {
            entries
                .flatten()
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .any(|e| populated(&e.path()))
        })
}

/// Processes other than this one that carry the tag.
fn processes_of(tag: &str) -> Vec<String> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != own) {
        let read = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let link = |file: &str| {
            let target = std::fs::read_link(format!("/proc/{pid}/{file}")).unwrap_or_default();
            target.to_string_lossy().into_owned()
        };
        let places = [
            ("command line", read("cmdline")),
            ("environment", read("environ")),
            ("mounts", read("mountinfo")),
            ("working directory", link("cwd")),
            ("root", link("root")),
        ];
        if read("stat").contains(") Z ") {
            continue; // its parent is about to reap it; `children` catches what stays
        }
        if let Some((place, text)) = places.iter().find(|(_, text)| text.contains(tag)) {
            let name = read("comm");
            if *place == "mounts" && own_mounts_too(text) {
                continue;
            }
            found.push(format!(
                "process {pid} ({}): the tag is in its {place}",
                name.trim()
            ));
        }
    }
    found
}

/// Whether these are the mounts of this process's own namespace (a leaked mount is reported once,
/// not once for each process of the host).
fn own_mounts_too(mountinfo: &str) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|own| own == mountinfo)
}

fn children() -> BTreeSet<i32> {
    let text = std::fs::read_to_string("/proc/thread-self/children").expect("children");
    text.split(' ').filter_map(|p| p.parse().ok()).collect()
}

fn walk(directory: &Path, into: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        into.insert(entry.path());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), into);
        }
    }
}
