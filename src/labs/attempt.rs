//! An attempt: one learner's copy of a lab, on disk.
//!
//! What it does: starting a lab makes a directory with the learner's values (the nonce and what is
//! derived from it) and the facts of the host at that moment. Resetting ends the learner's
//! processes, removes the directory, and proves from the kernel that nothing is left.
//!
//! On disk, below the state root: `labs/03-uts-and-ipc/attempt.json`, and `work/`, which is the
//! learner's.
//! Interface: [`Attempt`], [`Leftover`]. Read next: `check.rs`.

use super::facts::{Facts, is_running, link, status_field};
use super::{Lab, text};
use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Namespaces by which a process of the lab's is known.
const KINDS: &[&str] = &["mnt", "pid", "user", "net", "ipc", "uts", "cgroup", "time"];

/// One learner's copy of a lab.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The lab's name.
    pub lab: String,
    /// Eight random hexadecimal digits.
    pub nonce: String,
    /// The learner's values.
    pub values: BTreeMap<String, String>,
    /// Facts of the host when the lab was started.
    pub start: BTreeMap<String, String>,
    #[serde(skip)]
    place: PathBuf,
}

/// Something that a reset found and could not or should not remove.
pub type Leftover = String;

impl Attempt {
    fn place(root: &Path, lab: &Lab) -> PathBuf {
        root.join("labs").join(lab.name)
    }

    /// Starts a lab below the state root. Errors: it is started already, or the directory cannot
    /// be made.
    pub fn start(root: &Path, lab: &Lab) -> Result<Attempt> {
        let place = Self::place(root, lab);
        if place.join("attempt.json").exists() {
            return Err(Error::kind(
                Kind::Conflict,
                format!("lab {} is started already", lab.name),
            )
            .hint(format!(
                "`glassbox lab check {0}` goes on, `glassbox lab reset {0}` begins anew",
                lab.name
            )));
        }
        let random: [u8; 12] = crate::sys::ask::getrandom()?;
        let nonce: String = random[..4].iter().map(|b| format!("{b:02x}")).collect();
        let mut seed = [0u8; 8];
        seed.copy_from_slice(&random[4..]);
        let mut seed = u64::from_le_bytes(seed);
        let definition = lab.definition()?;
        let values = definition
            .values
            .iter()
            .map(|(name, form)| {
                let value = text::fill(form, |placeholder| match placeholder {
                    "nonce" => Some(nonce.clone()),
                    other => number(other, &mut seed),
                });
                (name.clone(), value)
            })
            .collect();
        let facts = Facts::new(place.join("work/pid"));
        let mut start = BTreeMap::new();
        for fact in ["uid", "host.hostname", "host.shm.sizes"] {
            start.insert(fact.to_string(), facts.read(fact)?);
        }
        for kind in KINDS {
            if let Ok(id) = facts.read(&format!("host.ns.{kind}")) {
                start.insert(format!("host.ns.{kind}"), id);
            }
        }
        let attempt = Attempt {
            lab: lab.name.into(),
            nonce,
            values,
            start,
            place,
        };
        std::fs::create_dir_all(attempt.dir())
            .with_context(|| format!("cannot make {}", attempt.dir().display()))?;
        let json = serde_json::to_string_pretty(&attempt).context("cannot write the attempt")?;
        std::fs::write(attempt.place.join("attempt.json"), json)
            .with_context(|| format!("cannot write to {}", attempt.place.display()))?;
        Ok(attempt)
    }

    /// The attempt that was started. Errors: none was.
    pub fn load(root: &Path, lab: &Lab) -> Result<Attempt> {
        let place = Self::place(root, lab);
        let path = place.join("attempt.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let error = Error::kind(Kind::NotFound, format!("lab {} is not started", lab.name));
                return Err(error.hint(format!("`glassbox lab start {}` starts it", lab.name)));
            }
            Err(e) => {
                return Err(Error::new(format!("cannot read {}", path.display())).caused_by(e));
            }
        };
        let mut attempt: Attempt = serde_json::from_str(&text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        attempt.place = place;
        Ok(attempt)
    }

    /// The learner's directory.
    pub fn dir(&self) -> PathBuf {
        self.place.join("work")
    }
    pub(super) fn facts(&self) -> Facts {
        Facts::new(self.dir().join("pid"))
    }

    /// The value of a placeholder that needs no fact of now.
    pub fn value(&self, name: &str) -> Option<String> {
        match name {
            "dir" => Some(self.dir().display().to_string()),
            "nonce" => Some(self.nonce.clone()),
            // In a lab's text, which is read when it is started.
            "host_name" => self.start.get("host.hostname").cloned(),
            _ => match name.strip_prefix("start.") {
                Some(fact) => self.start.get(fact).cloned(),
                None => self.values.get(name).cloned(),
            },
        }
    }

    /// The environment that a solution runs with: LAB_DIR, LAB_NONCE, and a variable a value.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("LAB_DIR".to_string(), self.dir().display().to_string()),
            ("LAB_NONCE".to_string(), self.nonce.clone()),
        ];
        let upper = |name: &str| format!("LAB_{}", name.to_uppercase());
        env.extend(self.values.iter().map(|(n, v)| (upper(n), v.clone())));
        env
    }

    /// Ends the learner's processes, removes the directory, and returns what is left all the same:
    /// nothing, when all went well.
    ///
    /// A process is the lab's when it is the one named in the pid file or shares a namespace with
    /// it that is not the host's, and belongs to this user. One that lives in the host's
    /// namespaces is not touched (its number may have been reused) but reported.
    pub fn reset(self) -> Result<Vec<Leftover>> {
        let facts = self.facts();
        let mut left = Vec::new();
        if let Ok(pid) = facts.pid()
            && is_running(pid)
        {
            // Held open until all are ended: the number of a namespace that is gone is given to
            // the next one that anybody makes, whose processes are not the lab's.
            let _held = hold_namespaces(pid);
            let own = own_namespaces(pid);
            if own.is_empty() {
                left.push(format!(
                    "process {pid}: it has no namespace of its own, so it was not ended"
                ));
            } else {
                for pid in end_all(&own)? {
                    left.push(format!(
                        "process {pid}: it is still in a namespace of the lab's"
                    ));
                }
            }
        }
        if facts.read("host.hostname").ok() != self.value("start.host.hostname") {
            let was = self.value("start.host.hostname").unwrap_or_default();
            left.push(format!(
                "the host's name: it was {was:?} when the lab was started"
            ));
        }
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let before = words(&self.value("start.host.shm.sizes").unwrap_or_default());
        for size in words(&facts.read("host.shm.sizes")?) {
            if self.values.values().any(|v| *v == size) && !before.contains(&size) {
                left.push(format!("a shared memory segment of {size} bytes in the host's IPC namespace: ipcrm -m ID"));
            }
        }
        std::fs::remove_dir_all(&self.place)
            .with_context(|| format!("cannot remove {}", self.place.display()))?;
        if let Some(labs) = self.place.parent() {
            let _ = std::fs::remove_dir(labs); // stays while another lab is in it
        }
        Ok(left)
    }
}

/// `number:LOW:HIGH:STEP`: a random multiple of STEP in the range.
fn number(form: &str, seed: &mut u64) -> Option<String> {
    let mut parts = form
        .strip_prefix("number:")?
        .split(':')
        .map(|p| p.parse::<u64>().ok());
    let (low, high, step) = (parts.next()??, parts.next()??, parts.next()??);
    let choices = (high.checked_sub(low)?).checked_div(step)? + 1;
    let value = low + (*seed % choices) * step;
    *seed = seed.rotate_left(17);
    Some(value.to_string())
}

/// The namespaces of a process that are not this process's.
fn own_namespaces(pid: i32) -> Vec<String> {
    KINDS
        .iter()
        .filter_map(|kind| {
            let theirs = link(&format!("/proc/{pid}/ns/{kind}")).ok()?;
            let ours = link(&format!("/proc/self/ns/{kind}")).ok()?;
            (theirs != ours).then_some(theirs)
        })
        .collect()
}

/// Descriptors of the namespaces that [`own_namespaces`] names, of those that may be opened.
fn hold_namespaces(pid: i32) -> Vec<std::fs::File> {
    let path = |kind: &&str| format!("/proc/{pid}/ns/{kind}");
    let open = |kind| std::fs::File::open(path(kind)).ok();
    KINDS.iter().filter_map(open).collect()
}

/// This user's processes in one of the namespaces.
fn members(namespaces: &[String]) -> Vec<i32> {
    let uid = nix::unistd::geteuid().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| status_field(*pid, "Uid:", 1).is_ok_and(|u| u == uid) && is_running(*pid))
        .filter(|pid| {
            own_namespaces(*pid)
                .iter()
                .any(|ns| namespaces.contains(ns))
        })
        .collect()
}

/// SIGKILL to all members, through descriptors, until none is seen twice in a row (one may be about
/// to enter, split off by another that has just been killed) or five seconds are over: those that
/// are left.
fn end_all(namespaces: &[String]) -> Result<Vec<i32>> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut none_before = false;
    loop {
        let members = members(namespaces);
        if members.is_empty() && none_before || Instant::now() > deadline {
            return Ok(members);
        }
        none_before = members.is_empty();
        for pid in members {
            let Ok(pidfd) = sys::process::pidfd_open(pid) else {
                continue; // it has ended meanwhile
            };
            // The number may have been reused between looking and opening: look again.
            if own_namespaces(pid).iter().any(|ns| namespaces.contains(ns)) {
                let killed = sys::process::pidfd_send_signal(&pidfd, libc::SIGKILL);
                killed.with_context(|| format!("cannot end process {pid}"))?;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
