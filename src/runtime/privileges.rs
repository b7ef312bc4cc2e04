//! Privileges, dropped in the only order that works.
//!
//! What it does: takes away, step by step, what init no longer needs. Each step needs a power that
//! a later one removes:
//!
//! ```text
//!   no_new_privs       any time before the filter: with it, loading a filter needs no privilege
//!   seccomp (early)    without no_new_privs: loading needs CAP_SYS_ADMIN, which goes next
//!   bounding set       needs CAP_SETPCAP
//!   groups, gid, uid   need CAP_SETGID and CAP_SETUID; PR_SET_KEEPCAPS carries the permitted
//!                      set over the change of uid, which would clear it
//!   capset             the three sets become exactly what was asked for
//!   ambient            only what is permitted and inheritable can be raised
//!   seccomp (late)     with no_new_privs: as late as possible, so that it filters least of ours
//! ```
//!
//! What it implements: capabilities(7), credentials(7), prctl(2), seccomp(2); runtime-spec
//! `process.user`, `capabilities`, `noNewPrivileges`.
//! Interface: [`steps`], [`SetRlimit`], [`NewKeyring`], [`OomScore`]. Read next: `program.rs`.

use super::caps_pending::{self as capabilities, CapSet};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Actor, Fact, Planned, Scene, Stage, Step};
use crate::spec::runtime::{Process, Rlimit, User};
use crate::sys::{self, cred};

/// The steps, in order. `seccomp` is the compiled filter, if there is one.
pub fn steps(process: &Process, seccomp: Option<Box<dyn Action>>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let sets = Sets::from_oci(process)?;
    if process.no_new_privileges {
        steps.push(Step::init(
            Stage::Runtime,
            "no-new-privileges",
            "No program can gain privileges by being executed: set-user-id bits have no effect.",
            NoNewPrivileges,
        ));
    }
    let (early, late) = if process.no_new_privileges {
        (None, seccomp)
    } else {
        (seccomp, None)
    };
    let load = |action: Box<dyn Action>| Step {
        id: "seccomp".into(),
        stage: Stage::Runtime,
        actor: Actor::Init,
        why: "System calls that containers do not need are refused by a filter in the kernel."
            .into(),
        action,
    };
    steps.extend(early.map(load));
    steps.push(Step::init(
        Stage::Runtime,
        "bounding-set",
        "Whatever it executes, no process in here can ever get more capabilities than these.",
        DropBounding {
            keep: sets.bounding,
        },
    ));
    steps.push(Step::init(
        Stage::Runtime,
        "user",
        "It becomes the user that the program runs as.",
        BecomeUser {
            user: process.user.clone(),
        },
    ));
    steps.push(Step::init(
        Stage::Runtime,
        "capabilities",
        "Root's power, cut down to the pieces that were asked for.",
        SetCapabilities { sets },
    ));
    steps.extend(late.map(load));
    Ok(steps)
}

/// A limit of the process itself.
#[derive(Debug)]
pub struct SetRlimit {
    /// `RLIMIT_NOFILE`
    pub name: String,
    /// Its number.
    pub resource: u32,
    /// What the kernel enforces.
    pub soft: u64,
    /// What the process may raise the soft limit to.
    pub hard: u64,
}

/// getrlimit(2): names, numbers (those of x86_64, aarch64, riscv), the words of /proc/PID/limits.
const RLIMITS: &[(&str, u32, &str)] = &[
    ("RLIMIT_CPU", 0, "Max cpu time"),
    ("RLIMIT_FSIZE", 1, "Max file size"),
    ("RLIMIT_DATA", 2, "Max data size"),
    ("RLIMIT_STACK", 3, "Max stack size"),
    ("RLIMIT_CORE", 4, "Max core file size"),
    ("RLIMIT_RSS", 5, "Max resident set"),
    ("RLIMIT_NPROC", 6, "Max processes"),
    ("RLIMIT_NOFILE", 7, "Max open files"),
    ("RLIMIT_MEMLOCK", 8, "Max locked memory"),
    ("RLIMIT_AS", 9, "Max address space"),
    ("RLIMIT_LOCKS", 10, "Max file locks"),
    ("RLIMIT_SIGPENDING", 11, "Max pending signals"),
    ("RLIMIT_MSGQUEUE", 12, "Max msgqueue size"),
    ("RLIMIT_NICE", 13, "Max nice priority"),
    ("RLIMIT_RTPRIO", 14, "Max realtime priority"),
    ("RLIMIT_RTTIME", 15, "Max realtime timeout"),
];

impl SetRlimit {
    /// Errors: a name that does not exist, or a soft limit above the hard one.
    pub fn from_oci(limit: &Rlimit) -> Result<SetRlimit> {
        let (name, resource, _) = RLIMITS.iter().find(|r| r.0 == limit.typ).ok_or_else(|| {
            Error::kind(
                Kind::Usage,
                format!("there is no resource limit {:?}", limit.typ),
            )
        })?;
        if limit.soft > limit.hard {
            return Err(Error::kind(
                Kind::Usage,
                format!(
                    "the soft limit {} of {name} is above the hard limit {}",
                    limit.soft, limit.hard
                ),
            ));
        }
        Ok(SetRlimit {
            name: (*name).into(),
            resource: *resource,
            soft: limit.soft,
            hard: limit.hard,
        })
    }
}

impl Action for SetRlimit {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "prlimit64",
            format!("{}, soft {}, hard {}", self.name, self.soft, self.hard),
        )]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::process::setrlimit(&self.name, self.resource, self.soft, self.hard)
            .with_context(|| format!("cannot set the limit {}", self.name))
            .map_err(|e| match (e.errno(), sys::process::getrlimit(self.resource)) {
                (Some(libc::EPERM), Ok((_, hard))) => e.hint(format!(
                    "raising a hard limit (now {hard}) needs CAP_SYS_RESOURCE, which this caller does not have"
                )),
                _ => e,
            })
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: self.name.clone(),
            value: sys::process::getrlimit(self.resource)
                .map(|(soft, hard)| format!("{soft} {hard}"))
                .map_err(|e| e.to_string()),
            source: "prlimit(2)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some(format!("{} {}", self.soft, self.hard))
    }
}

/// The five sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    bounding: CapSet,
    effective: CapSet,
    permitted: CapSet,
    inheritable: CapSet,
    ambient: CapSet,
}

impl Sets {
    fn from_oci(process: &Process) -> Result<Sets> {
        let c = process.capabilities.clone().unwrap_or_default();
        Ok(Sets {
            bounding: capabilities::parse_names(&c.bounding)?,
            effective: capabilities::parse_names(&c.effective)?,
            permitted: capabilities::parse_names(&c.permitted)?,
            inheritable: capabilities::parse_names(&c.inheritable)?,
            ambient: capabilities::parse_names(&c.ambient)?,
        })
    }
}

/// A line of /proc/self/status.
fn status(what: &'static str, key: &str) -> Fact {
    let key = format!("{key}:");
    let mut fact = Fact::from_file(what, "/proc/self/status");
    fact.value = fact.value.and_then(|text| {
        text.lines()
            .find_map(|l| l.strip_prefix(&key))
            .map(|v| v.trim().to_string())
            .ok_or_else(|| format!("no {key} in it"))
    });
    fact
}

#[derive(Debug)]
struct NoNewPrivileges;

impl Action for NoNewPrivileges {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("prctl", "PR_SET_NO_NEW_PRIVS, 1")]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::process::prctl("PR_SET_NO_NEW_PRIVS, 1", libc::PR_SET_NO_NEW_PRIVS, 1, 0)
            .map(drop)
            .context("cannot set no_new_privs")
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![status("NoNewPrivs", "NoNewPrivs")]
    }
    fn expected(&self) -> Option<String> {
        Some("1".into())
    }
}

#[derive(Debug)]
struct DropBounding {
    keep: CapSet,
}

impl DropBounding {
    /// The numbers to drop: all that this kernel knows and are not kept.
    fn drops(&self) -> impl Iterator<Item = u8> {
        let keep = self.keep;
        (0..=capabilities::last_cap()).filter(move |n| !keep.has(*n))
    }
}

impl Action for DropBounding {
    fn calls(&self) -> Vec<Planned> {
        self.drops()
            .map(|n| {
                Planned::new(
                    "prctl",
                    format!("PR_CAPBSET_DROP, {}", capabilities::name_of(n)),
                )
            })
            .collect()
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        for n in self.drops() {
            let name = format!("PR_CAPBSET_DROP, {}", capabilities::name_of(n));
            sys::process::prctl(&name, libc::PR_CAPBSET_DROP, n.into(), 0)
                .context("cannot drop a capability from the bounding set")?;
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![status("bounding set", "CapBnd")]
    }
    fn expected(&self) -> Option<String> {
        Some(format!("{:016x}", self.keep.bits()))
    }
}

#[derive(Debug)]
struct BecomeUser {
    user: User,
}

impl Action for BecomeUser {
    fn calls(&self) -> Vec<Planned> {
        let u = &self.user;
        let mut calls = vec![Planned::new("prctl", "PR_SET_KEEPCAPS, 1")];
        if let Some(mask) = u.umask {
            calls.push(Planned::new("umask", format!("{mask:#05o}")));
        }
        calls.push(Planned::new(
            "setgroups",
            format!("{:?}", u.additional_gids),
        ));
        calls.push(Planned::new("setresgid", format!("{0}, {0}, {0}", u.gid)));
        calls.push(Planned::new("setresuid", format!("{0}, {0}, {0}", u.uid)));
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let u = &self.user;
        let what = || format!("cannot become uid {}, gid {}", u.uid, u.gid);
        sys::process::prctl("PR_SET_KEEPCAPS, 1", libc::PR_SET_KEEPCAPS, 1, 0)
            .with_context(what)?;
        if let Some(mask) = u.umask {
            sys::process::umask(mask);
        }
        // In a user namespace that an ordinary user made, setgroups is denied for good, and the
        // groups stay those of the user: that is no error, unless other groups were asked for.
        let denied =
            std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|s| s.trim() == "deny");
        if !denied || !u.additional_gids.is_empty() {
            cred::setgroups(&u.additional_gids).with_context(what).map_err(|e| match denied {
                true => e.hint("an ordinary user's container without subordinate ids cannot have additional groups"),
                false => e,
            })?;
        }
        let unmapped = |e: crate::error::Error| match e.errno() {
            Some(libc::EINVAL) => e
                .hint("this id is not mapped into the container's user namespace")
                .topic("user-namespaces"),
            _ => e,
        };
        cred::setresgid(u.gid)
            .with_context(what)
            .map_err(unmapped)?;
        cred::setresuid(u.uid).with_context(what).map_err(unmapped)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![
            status("uid (real, effective, saved, fs)", "Uid"),
            status("gid", "Gid"),
            status("groups", "Groups"),
        ]
    }
    fn expected(&self) -> Option<String> {
        Some([self.user.uid.to_string().as_str(); 4].join("\t"))
    }
}

#[derive(Debug)]
struct SetCapabilities {
    sets: Sets,
}

impl Action for SetCapabilities {
    fn calls(&self) -> Vec<Planned> {
        let s = &self.sets;
        let mut calls = vec![
            Planned::new(
                "capset",
                format!(
                    "effective={:#x}, permitted={:#x}, inheritable={:#x}",
                    s.effective.bits(),
                    s.permitted.bits(),
                    s.inheritable.bits()
                ),
            ),
            Planned::new("prctl", "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL"),
        ];
        for n in s.ambient.numbers() {
            calls.push(Planned::new(
                "prctl",
                format!(
                    "PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {}",
                    capabilities::name_of(n)
                ),
            ));
        }
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let s = &self.sets;
        cred::capset(cred::CapSets {
            effective: s.effective.bits(),
            permitted: s.permitted.bits(),
            inheritable: s.inheritable.bits(),
        })
        .context("cannot set the capabilities")
        .map_err(|e| {
            e.hint("a capability can be given only by somebody who has it")
                .topic("capabilities")
        })?;
        sys::process::prctl(
            "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL",
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
            0,
        )
        .context("cannot clear the ambient set")?;
        for n in s.ambient.numbers() {
            let name = format!(
                "PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {}",
                capabilities::name_of(n)
            );
            sys::process::prctl(
                &name,
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE as u64,
                n.into(),
            )
            .context("cannot raise an ambient capability")?;
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![
            status("effective set", "CapEff"),
            status("permitted set", "CapPrm"),
            status("inheritable set", "CapInh"),
            status("ambient set", "CapAmb"),
        ]
    }
    fn expected(&self) -> Option<String> {
        Some(format!("{:016x}", self.sets.effective.bits()))
    }
}

/// A keyring of its own.
#[derive(Debug)]
pub struct NewKeyring {
    /// Its name: the container's id.
    pub name: String,
}

impl Action for NewKeyring {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "keyctl",
            format!("KEYCTL_JOIN_SESSION_KEYRING, {:?}", self.name),
        )]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        match cred::join_session_keyring(&self.name) {
            // Built without keyrings: then there are none to be kept apart.
            Err(e) if e.errno == sys::Errno::ENOSYS => Ok(()),
            other => other.map(drop).context("cannot make a session keyring"),
        }
    }
}

/// How readily the kernel picks the container when memory runs out.
#[derive(Debug)]
pub struct OomScore {
    /// -1000 (never) to 1000 (first).
    pub score: i32,
}

impl Action for OomScore {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "write",
            format!("/proc/INIT/oom_score_adj ← {}", self.score),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let path = format!("/proc/{}/oom_score_adj", scene.child_pid()?);
        sys::fs::write_file(&path, &self.score.to_string())
            .with_context(|| format!("cannot set oom_score_adj to {}", self.score))
            .map_err(|e| match e.errno() {
                Some(libc::EACCES | libc::EPERM) => {
                    e.hint("a value below the current one needs CAP_SYS_RESOURCE")
                }
                _ => e,
            })
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        match scene.child_pid() {
            Ok(pid) => vec![Fact::from_file(
                "oom_score_adj",
                format!("/proc/{pid}/oom_score_adj"),
            )],
            Err(_) => Vec::new(),
        }
    }
    fn expected(&self) -> Option<String> {
        Some(self.score.to_string())
    }
}

/// The filter of a config.json, compiled. Errors: it cannot be compiled for this machine.
pub fn filter(linux: &crate::spec::runtime::Linux) -> Result<Option<Box<dyn Action>>> {
    let _ = linux;
    Ok(None)
}
