//! The steps that give up power: ids, capabilities, no_new_privs, resource limits, keyring.
//!
//! What it implements: credentials(7), capabilities(7), prctl(2), setrlimit(2), keyctl(2),
//! proc_pid_oom_score_adj(5).
//!
//! Their order in init matters, and each line says what breaks otherwise:
//!
//! ```text
//!   NewKeyring         before the ids change, or the keyring would be another user's
//!   OomScoreAdj        while the file in /proc still belongs to us
//!   SetRlimit          before CAP_SYS_RESOURCE goes
//!   DropBounding       needs CAP_SETPCAP, which the next steps may take away
//!   SetIds             needs CAP_SETUID and CAP_SETGID; PR_SET_KEEPCAPS first, or the kernel
//!                      empties the permitted set when user 0 becomes another
//!   SetCapabilities    capset lowers the sets; the ambient set comes last, for it may only hold
//!                      what is permitted and inheritable
//!   NoNewPrivs         any time before a filter without CAP_SYS_ADMIN
//!   LoadSeccomp        last: the filter may forbid every call above (see `seccomp`)
//! ```
//!
//! Interface: one struct a step. Read next: [`super::status`], which reads them back.

use super::capabilities::{CapSet, Capability, CapabilitySets};
use super::rlimits;
use super::status::Privileges;
use crate::error::{Context, Error, Result};
use crate::host::procfs;
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{Errno, cred, fs, process};

/// Picks one value out of a process's privileges.
type Pick = fn(&Privileges) -> String;

/// Reads the privileges of this process once and makes facts of them.
fn facts(wanted: &[(&str, Pick)]) -> Vec<Fact> {
    let read = Privileges::of_self();
    let fact = |(what, pick): &(&str, Pick)| Fact {
        what: (*what).into(),
        value: match &read {
            Ok((privileges, _)) => Ok(pick(privileges)),
            Err(e) => Err(format!("{e:#}")),
        },
        source: read.as_ref().map_or("/proc/self/status", |(_, s)| s).into(),
    };
    wanted.iter().map(fact).collect()
}

/// A capability's argument in prctl's lines; `41` for one newer than the table.
fn cap_argument(number: u8) -> String {
    match Capability::from_number(number) {
        Some(capability) => capability.name(),
        None => number.to_string(),
    }
}

/// Takes every capability but `keep` out of the bounding set: no process of the container can ever
/// gain it again, not even from a set-user-id program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropBounding {
    /// What stays.
    pub keep: CapSet,
    /// The kernel's last capability ([`super::capabilities::last`]).
    pub last: u8,
}

impl DropBounding {
    fn dropped(&self) -> impl Iterator<Item = u8> {
        let keep = self.keep.0;
        (0..=self.last.min(63)).filter(move |n| keep & (1 << n) == 0)
    }
}

impl Action for DropBounding {
    fn calls(&self) -> Vec<Planned> {
        self.dropped()
            .map(|n| Planned::new("prctl", format!("PR_CAPBSET_DROP, {}", cap_argument(n))))
            .collect()
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        for n in self.dropped() {
            let args = format!("PR_CAPBSET_DROP, {}", cap_argument(n));
            process::prctl(&args, libc::PR_CAPBSET_DROP, n.into(), 0)
                .context("cannot drop a capability from the bounding set")
                .map_err(|e| {
                    e.hint("this needs CAP_SETPCAP: be root, or use a new user namespace")
                        .topic("capabilities")
                })?;
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        facts(&[("bounding set", |p| p.capabilities.bounding.words())])
    }
    fn expected(&self) -> Option<String> {
        // The set can only shrink; what it was before is not known here, except when nothing stays.
        self.keep.is_empty().then(|| CapSet::EMPTY.words())
    }
}

/// Sets the effective, permitted and inheritable sets, then the ambient set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCapabilities {
    /// The sets; the bounding one is [`DropBounding`]'s.
    pub sets: CapabilitySets,
}

/// `linux/prctl.h`: operations of PR_CAP_AMBIENT.
const AMBIENT_RAISE: u64 = 2;
const AMBIENT_CLEAR_ALL: u64 = 4;

impl Action for SetCapabilities {
    fn calls(&self) -> Vec<Planned> {
        let s = &self.sets;
        let mut calls = vec![
            Planned::new(
                "capset",
                format!(
                    "effective={:#x}, permitted={:#x}, inheritable={:#x}",
                    s.effective.0, s.permitted.0, s.inheritable.0
                ),
            ),
            Planned::new("prctl", "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL"),
        ];
        calls.extend(s.ambient.iter().map(|c| {
            Planned::new(
                "prctl",
                format!("PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {c}"),
            )
        }));
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let s = &self.sets;
        cred::capset(cred::CapSets {
            effective: s.effective.0,
            permitted: s.permitted.0,
            inheritable: s.inheritable.0,
        })
        .context("cannot set the capabilities")
        .map_err(|e| explain_capset(e, s))?;
        process::prctl(
            "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL",
            libc::PR_CAP_AMBIENT,
            AMBIENT_CLEAR_ALL,
            0,
        )
        .context("cannot clear the ambient set")?;
        for c in s.ambient.iter() {
            process::prctl(
                &format!("PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {c}"),
                libc::PR_CAP_AMBIENT,
                AMBIENT_RAISE,
                c.number().into(),
            )
            .with_context(|| format!("cannot make {c} ambient"))
            .map_err(|e| {
                e.hint("an ambient capability must be permitted and inheritable too")
                    .topic("capabilities")
            })?;
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        facts(&[
            ("effective set", |p| p.capabilities.effective.words()),
            ("permitted set", |p| p.capabilities.permitted.words()),
            ("inheritable set", |p| p.capabilities.inheritable.words()),
            ("ambient set", |p| p.capabilities.ambient.words()),
        ])
    }
    fn expected(&self) -> Option<String> {
        Some(self.sets.effective.words())
    }
}

/// capset answers EPERM for every reason; the sets tell which one it was.
fn explain_capset(error: Error, sets: &CapabilitySets) -> Error {
    let error = error.topic("capabilities");
    let Ok(now) = cred::capget() else {
        return error;
    };
    let lacking = sets.permitted.minus(CapSet(now.permitted));
    let beyond = sets.effective.minus(sets.permitted);
    let hint = if !lacking.is_empty() {
        format!("not permitted now: {}", lacking.names().join(", "))
    } else if !beyond.is_empty() {
        format!("effective but not permitted: {}", beyond.names().join(", "))
    } else {
        "an inheritable capability must be permitted or bounding".into()
    };
    error.hint(hint)
}

/// prctl(PR_SET_NO_NEW_PRIVS): execve gives no further privileges from here on, for this process
/// and all its children; it cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoNewPrivs;

impl Action for NoNewPrivs {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("prctl", "PR_SET_NO_NEW_PRIVS, 1")]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        process::prctl("PR_SET_NO_NEW_PRIVS, 1", libc::PR_SET_NO_NEW_PRIVS, 1, 0)
            .context("cannot set no_new_privs")?;
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        facts(&[("no_new_privs", |p| match p.no_new_privs {
            Some(set) => u8::from(set).to_string(),
            None => "unknown".into(),
        })])
    }
    fn expected(&self) -> Option<String> {
        Some("1".into())
    }
}

/// Becomes the container's user. Ids are those inside the user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetIds {
    /// The user id: real, effective, saved.
    pub uid: u32,
    /// The group id: real, effective, saved.
    pub gid: u32,
    /// The supplementary groups. `None`: left as they are, for a user namespace whose setgroups
    /// file says `deny`.
    pub groups: Option<Vec<u32>>,
    /// The file mode creation mask. `None`: as it is.
    pub umask: Option<u32>,
    /// Keeps the permitted capabilities although user 0 becomes another: set it when
    /// [`SetCapabilities`] follows.
    pub keep_capabilities: bool,
}

impl Action for SetIds {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = Vec::new();
        if self.keep_capabilities {
            calls.push(Planned::new("prctl", "PR_SET_KEEPCAPS, 1"));
        }
        if let Some(groups) = &self.groups {
            calls.push(Planned::new(
                "setgroups",
                format!("{}, {groups:?}", groups.len()),
            ));
        }
        let (uid, gid) = (self.uid, self.gid);
        calls.push(Planned::new("setresgid", format!("{gid}, {gid}, {gid}")));
        calls.push(Planned::new("setresuid", format!("{uid}, {uid}, {uid}")));
        if self.keep_capabilities {
            calls.push(Planned::new("prctl", "PR_SET_KEEPCAPS, 0"));
        }
        if let Some(mask) = self.umask {
            calls.push(Planned::new("umask", format!("{mask:#05o}")));
        }
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let keep = |on: u64| -> Result<()> {
            if self.keep_capabilities {
                let name = format!("PR_SET_KEEPCAPS, {on}");
                process::prctl(&name, libc::PR_SET_KEEPCAPS, on, 0)
                    .context("cannot keep the capabilities while the user changes")?;
            }
            Ok(())
        };
        keep(1)?;
        // Groups first: after setresuid there is no CAP_SETGID in effect any more.
        if let Some(groups) = &self.groups {
            cred::setgroups(groups)
                .context("cannot set the supplementary groups")
                .map_err(explain_groups)?;
        }
        cred::setresgid(self.gid)
            .with_context(|| format!("cannot become group {}", self.gid))
            .map_err(|e| explain_id(e, "gid", self.gid))?;
        cred::setresuid(self.uid)
            .with_context(|| format!("cannot become user {}", self.uid))
            .map_err(|e| explain_id(e, "uid", self.uid))?;
        keep(0)?;
        if let Some(mask) = self.umask {
            process::umask(mask);
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        use nix::unistd;
        let read = |what: &str, value: String, source: &str| Fact {
            what: what.into(),
            value: Ok(value),
            source: source.into(),
        };
        let groups = match unistd::getgroups() {
            Ok(groups) => {
                let ids: Vec<String> = groups.iter().map(|g| g.as_raw().to_string()).collect();
                ids.join(" ")
            }
            Err(e) => e.to_string(),
        };
        vec![
            read("user", unistd::geteuid().to_string(), "geteuid(2)"),
            read("group", unistd::getegid().to_string(), "getegid(2)"),
            read("supplementary groups", groups, "getgroups(2)"),
        ]
    }
    fn expected(&self) -> Option<String> {
        Some(self.uid.to_string())
    }
}

fn explain_groups(e: Error) -> Error {
    match e.errno() {
        Some(libc::EPERM) => e
            .hint(
                "setgroups is denied in this user namespace, because an ordinary user mapped the \
                 groups; newgidmap and a range in /etc/subgid allow it",
            )
            .topic("user-namespaces"),
        Some(libc::EINVAL) => e
            .hint("a group is not mapped in this user namespace: see /proc/self/gid_map")
            .topic("user-namespaces"),
        _ => e,
    }
}

fn explain_id(e: Error, kind: &str, id: u32) -> Error {
    match e.errno() {
        Some(libc::EINVAL) => e
            .hint(format!(
                "{id} is not mapped in this user namespace: see /proc/self/{kind}_map; a range in \
                 /etc/sub{kind} gives more ids"
            ))
            .topic("user-namespaces"),
        _ => e,
    }
}

/// Sets one resource limit of this process, which its children inherit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRlimit {
    /// Its name: `RLIMIT_NOFILE`.
    pub name: String,
    /// What the kernel enforces; `u64::MAX` is no limit.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

impl Action for SetRlimit {
    fn calls(&self) -> Vec<Planned> {
        let args = format!(
            "0, {}, {{rlim_cur={}, rlim_max={}}}",
            self.name, self.soft, self.hard
        );
        vec![Planned::new("prlimit64", args)]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let resource = rlimits::find(&self.name)?;
        process::setrlimit(resource.name, resource.number, self.soft, self.hard)
            .with_context(|| format!("cannot set {}", self.name))
            .map_err(|e| self.explain(e, resource.number))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let value = rlimits::find(&self.name)
            .map_err(|e| e.to_string())
            .and_then(|r| process::getrlimit(r.number).map_err(|e| e.to_string()))
            .map(|(soft, hard)| format!("{} of {}", rlimits::words(soft), rlimits::words(hard)));
        vec![Fact {
            what: self.name.clone(),
            value,
            source: "prlimit(2)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        let (soft, hard) = (rlimits::words(self.soft), rlimits::words(self.hard));
        Some(format!("{soft} of {hard}"))
    }
}

impl SetRlimit {
    fn explain(&self, e: Error, number: u32) -> Error {
        let e = e.topic("rlimits");
        match (e.errno(), process::getrlimit(number)) {
            (Some(libc::EINVAL), _) => e.hint("the soft limit may not be above the hard limit"),
            (Some(libc::EPERM), Ok((_, hard))) if self.hard > hard => e.hint(format!(
                "the hard limit here is {}; raising it to {} needs CAP_SYS_RESOURCE on the host, \
                 which this user lacks",
                rlimits::words(hard),
                rlimits::words(self.hard)
            )),
            (Some(libc::EPERM), _) => e.hint("fs.nr_open on the host bounds RLIMIT_NOFILE"),
            _ => e,
        }
    }
}

/// A new, empty session keyring, so that the container cannot read the caller's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKeyring {
    /// Its description; the container's id.
    pub name: String,
}

impl NewKeyring {
    /// Its possessor may do all; its user see, read and search it: so `exec` finds it by name.
    const PERMISSIONS: u32 = 0x3f0b_0000;
}

impl Action for NewKeyring {
    fn calls(&self) -> Vec<Planned> {
        let join = format!("KEYCTL_JOIN_SESSION_KEYRING, {:?}", self.name);
        let permit = format!("KEYCTL_SETPERM, the keyring, {:#x}", Self::PERMISSIONS);
        vec![Planned::new("keyctl", join), Planned::new("keyctl", permit)]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let joined = cred::join_session_keyring(&self.name);
        match joined.and_then(|key| cred::set_key_permissions(key, Self::PERMISSIONS)) {
            Ok(()) => Ok(()),
            // A kernel without keyrings has no keys to protect.
            Err(e) if e.errno == Errno::ENOSYS => Ok(()),
            Err(e) if e.errno == Errno::EDQUOT => Err(Error::new(
                "cannot make a session keyring for the container",
            )
            .caused_by(e)
            .hint("this user has too many keys: see kernel.keys.maxkeys and /proc/key-users")),
            Err(e) => {
                Err(Error::new("cannot make a session keyring for the container").caused_by(e))
            }
        }
    }
}

/// How readily the kernel kills this process when memory runs out: -1000 (never) to 1000 (first).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomScoreAdj {
    /// The adjustment.
    pub value: i32,
}

const OOM_FILE: &str = "/proc/self/oom_score_adj";

impl Action for OomScoreAdj {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "write",
            format!("{OOM_FILE} ← {}", self.value),
        )]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        procfs::write_own("oom_score_adj", &self.value.to_string()).map_err(|e| self.refused(e))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact::from_file("oom_score_adj", OOM_FILE)]
    }
    fn expected(&self) -> Option<String> {
        Some(self.value.to_string())
    }
}

impl OomScoreAdj {
    fn refused(&self, error: Error) -> Error {
        let errno = error.errno();
        let error = error.context(format!(
            "cannot set the OOM score adjustment to {}",
            self.value
        ));
        match errno {
            Some(libc::EACCES | libc::EPERM) => error.hint(
                "a value below the present one needs CAP_SYS_RESOURCE on the host, which this \
                 user lacks",
            ),
            Some(libc::EINVAL) => error.hint("the value lies between -1000 and 1000"),
            _ => error,
        }
    }
}

/// The scene's names for the file and the value that [`RestoreOomScoreAdj`] writes back.
const OOM_BEFORE: &str = "oom-score-before";

/// The same for a child that is born undumpable, whose files in /proc are not its own: the parent
/// takes the value, the child inherits it.
#[derive(Debug)]
pub struct LendOomScoreAdj(pub OomScoreAdj);

impl Action for LendOomScoreAdj {
    fn calls(&self) -> Vec<Planned> {
        self.0.calls()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let file = procfs::open_own("oom_score_adj", libc::O_RDWR)?;
        let mut before = [0; 16];
        let n = nix::unistd::read(&file, &mut before)
            .map_err(std::io::Error::from)
            .with_context(|| format!("cannot read {OOM_FILE}"))?;
        let before = String::from_utf8_lossy(&before[..n]);
        fs::write(&file, OOM_FILE.as_ref(), &self.0.value.to_string())
            .map_err(|e| self.0.refused(e.into()))?;
        scene.put(OOM_BEFORE, before.trim());
        scene.put_fd(OOM_BEFORE, file);
        Ok(())
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        self.0.observe(scene)
    }
    fn expected(&self) -> Option<String> {
        self.0.expected()
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        RestoreOomScoreAdj.apply(scene)
    }
}

/// The parent's own value again, by the descriptor: the file may not be the parent's any more.
#[derive(Debug)]
pub struct RestoreOomScoreAdj;

impl Action for RestoreOomScoreAdj {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("write", format!("{OOM_FILE} ← as it was"))]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let (Some(file), Some(before)) = (scene.take_fd(OOM_BEFORE), scene.get(OOM_BEFORE)) else {
            return Ok(());
        };
        fs::write(&file, OOM_FILE.as_ref(), before)
            .context("cannot set the OOM score adjustment back")
    }
}
