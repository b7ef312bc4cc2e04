//! When, where and as what the program runs: scheduler, I/O priority, processors, memory nodes,
//! execution domain.
//!
//! What it does: settings of a process that its children inherit and that outlive execve. The two
//! priorities are privileges over the whole host: the kernel asks for CAP_SYS_NICE in the *initial*
//! user namespace. So init takes them while it has its capabilities, and where it is in a user
//! namespace, in which no capability counts, the parent takes them for it.
//!
//! What it implements: runtime-spec `process.scheduler`, `process.ioPriority`,
//! `process.execCPUAffinity`, `linux.personality`, `linux.memoryPolicy`; sched_setattr(2),
//! ioprio_set(2), sched_setaffinity(2), personality(2), set_mempolicy(2).
//! Interface: [`steps`], [`affinity`]; the actions [`SetScheduler`], [`SetIoPriority`],
//! [`SetAffinity`], [`RestoreAffinity`], [`SetMemoryPolicy`], [`SetPersonality`].
//! Read next: `privileges.rs`.

use crate::cgroups::limits::{format_list, parse_list};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Actor, Fact, Planned, Scene, Stage, Step};
use crate::spec::runtime::{IoPriority, Linux, MemoryPolicy, Personality, Process, Scheduler};
use crate::sys::sched::{self, SchedAttr};

/// A word of the document and the kernel's number for it.
pub(super) type Words = &'static [(&'static str, u32)];

const POLICIES: Words = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const SCHED_FLAGS: Words = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const IO_CLASSES: Words = &[
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];
/// Modes of set_mempolicy(2).
pub(super) const MEMORY_MODES: Words = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
/// Flags of set_mempolicy(2), which are bits of the mode.
pub(super) const MEMORY_FLAGS: Words = &[
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];
const DOMAINS: Words = &[("LINUX", 0), ("LINUX32", 8)];

fn number(field: &str, word: &str, words: Words) -> Result<u32> {
    let found = words.iter().find(|(name, _)| *name == word);
    found.map(|(_, number)| *number).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        Error::kind(Kind::Usage, format!("{field} cannot be {word:?}"))
            .hint(format!("it is one of {}", known.join(", ")))
            .topic("oci-bundle")
    })
}

/// The word for a number.
fn word(number: u32, words: Words) -> String {
    let found = words.iter().find(|(_, n)| *n == number);
    found.map_or_else(|| number.to_string(), |(name, _)| (*name).to_string())
}

/// Numbers out of a list such as `0-2,7`.
fn numbers(field: &str, list: &str) -> Result<Vec<u32>> {
    let text = parse_list(list).with_context(|| format!("{field} is wrong"))?;
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    Ok(text.split(',').filter_map(range).flatten().collect())
}

/// The steps of one program, in order; `actor` takes the two priorities. Errors: a word that is
/// none of the specification's, a value that does not belong to the policy.
pub fn steps(process: &Process, linux: &Linux, actor: Actor) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut push = |actor, id, why, action: Box<dyn Action>| {
        steps.push(Step {
            actor,
            action,
            ..Step::init(Stage::Runtime, id, why, Nothing)
        });
    };
    if let Some(scheduler) = &process.scheduler {
        let why = "When it runs, among all that want a processor.";
        let action = SetScheduler::new(scheduler, actor)?;
        push(actor, "scheduler", why, Box::new(action));
    }
    if let Some(priority) = &process.io_priority {
        let why = "When its requests are served, among all that want a disk.";
        let action = SetIoPriority::new(priority, actor)?;
        push(actor, "io-priority", why, Box::new(action));
    }
    // Both before the seccomp filter, which may refuse these calls.
    if let Some(policy) = &linux.memory_policy {
        let why = "Which NUMA nodes its memory comes from; its cgroup has said which it may use.";
        let action = SetMemoryPolicy::new(policy)?;
        push(Actor::Init, "memory-policy", why, Box::new(action));
    }
    if let Some(personality) = &linux.personality {
        let why = "What kind of system it is told that it runs on.";
        let action = SetPersonality::new(personality)?;
        push(Actor::Init, "personality", why, Box::new(action));
    }
    Ok(steps)
}

/// Numbers of processors, where some are given.
type Processors = Option<Vec<u32>>;

/// The processors of `process.execCPUAffinity`, before and after it enters the cgroup.
/// Errors: something that is no list.
pub fn affinity(process: &Process) -> Result<(Processors, Processors)> {
    let Some(affinity) = &process.exec_cpu_affinity else {
        return Ok((None, None));
    };
    let list = |name: &str, list: &Option<String>| match list.as_deref() {
        None | Some("") => Ok(None),
        Some(list) => numbers(name, list).map(Some),
    };
    Ok((
        list("process.execCPUAffinity.initial", &affinity.initial)?,
        list("process.execCPUAffinity.final", &affinity.r#final)?,
    ))
}

/// Stands in a [`Step`] until its action is put there.
#[derive(Debug)]
struct Nothing;

impl Action for Nothing {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        Ok(())
    }
}

/// Whose settings: the child's when the parent takes the step, else the caller's own (0).
fn whose(actor: Actor, scene: &Scene) -> Result<i32> {
    match actor {
        Actor::Parent => scene.child_pid(),
        Actor::Init => Ok(0),
    }
}

fn whose_word(actor: Actor) -> &'static str {
    match actor {
        Actor::Parent => "INIT",
        Actor::Init => "0",
    }
}

fn fact(what: &str, value: std::result::Result<String, String>, source: &str) -> Vec<Fact> {
    vec![Fact {
        what: what.into(),
        value,
        source: source.into(),
    }]
}

/// Sets the scheduler's policy and its parameters.
#[derive(Debug)]
pub struct SetScheduler {
    /// What is set.
    pub attr: SchedAttr,
    /// Who takes the step.
    pub actor: Actor,
}

impl SetScheduler {
    fn new(s: &Scheduler, actor: Actor) -> Result<SetScheduler> {
        let policy = number("process.scheduler.policy", &s.policy, POLICIES)?;
        let wrong = |what: String| Err(Error::kind(Kind::Usage, what).topic("oci-bundle"));
        if s.policy == "SCHED_ISO" {
            return Err(Error::kind(
                Kind::Unsupported,
                "process.scheduler.policy is SCHED_ISO, which Linux has reserved and never had",
            ));
        }
        let (other, realtime) = (matches!(policy, 0 | 3), matches!(policy, 1 | 2));
        if !(-20..=19).contains(&s.nice) || (s.nice != 0 && !other) {
            return wrong(format!(
                "process.scheduler.nice is {}: it lies between -20 and 19, for SCHED_OTHER and \
                 SCHED_BATCH",
                s.nice
            ));
        }
        if realtime != (1..=99).contains(&s.priority) || (!realtime && s.priority != 0) {
            return wrong(format!(
                "process.scheduler.priority is {}: SCHED_FIFO and SCHED_RR need one between 1 and \
                 99, the others have none",
                s.priority
            ));
        }
        let times = [s.runtime, s.deadline, s.period];
        if policy != 6 && times != [0; 3] {
            return wrong(format!(
                "process.scheduler has a runtime, deadline or period: {} has none",
                s.policy
            ));
        }
        let mut flags = 0;
        for flag in &s.flags {
            flags |= u64::from(number("process.scheduler.flags", flag, SCHED_FLAGS)?);
        }
        let attr = SchedAttr {
            policy,
            flags,
            nice: s.nice,
            priority: s.priority as u32,
            runtime: s.runtime,
            deadline: s.deadline,
            period: s.period,
        };
        Ok(SetScheduler { attr, actor })
    }
}

/// A policy and the parameters that it has.
fn scheduler_words(a: &SchedAttr) -> String {
    let policy = word(a.policy, POLICIES);
    match a.policy {
        0 | 3 => format!("{policy}, nice {}", a.nice),
        1 | 2 => format!("{policy}, priority {}", a.priority),
        6 => {
            // A period of 0 means that of the deadline.
            let period = if a.period == 0 { a.deadline } else { a.period };
            format!("{policy}, {} of {period} ns, by {}", a.runtime, a.deadline)
        }
        _ => policy,
    }
}

impl Action for SetScheduler {
    fn calls(&self) -> Vec<Planned> {
        let who = whose_word(self.actor);
        let args = format!("{who}, {{{}}}", scheduler_words(&self.attr));
        vec![Planned::new("sched_setattr", args)]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        sched::sched_setattr(whose(self.actor, scene)?, &self.attr)
            .with_context(|| {
                format!("cannot set the scheduler to {}", scheduler_words(&self.attr))
            })
            .map_err(|e| match e.errno() {
                Some(libc::EPERM) if matches!(self.attr.policy, 1 | 2) => e.hint(
                    "a realtime policy needs CAP_SYS_NICE on the host; and where the cpu \
                     controller divides realtime up (cgroup v1), linux.resources.cpu.realtimeRuntime",
                ),
                Some(libc::EPERM) => e.hint("this needs CAP_SYS_NICE on the host"),
                Some(libc::EBUSY) => {
                    e.hint("so much time is not free: see kernel.sched_rt_runtime_us")
                }
                Some(libc::EINVAL) if self.attr.policy == 6 => e.hint(
                    "runtime, deadline and period must grow in this order, and runtime be at \
                     least 1024 ns",
                ),
                _ => e,
            })
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let value = whose(self.actor, scene)
            .map_err(|e| format!("{e:#}"))
            .and_then(|pid| sched::sched_getattr(pid).map_err(|e| e.to_string()))
            .map(|a| scheduler_words(&a));
        fact("scheduler", value, "sched_getattr(2)")
    }
    fn expected(&self) -> Option<String> {
        Some(scheduler_words(&self.attr))
    }
}

/// Sets the I/O priority.
#[derive(Debug)]
pub struct SetIoPriority {
    /// 1 realtime, 2 best effort, 3 idle.
    pub class: u32,
    /// 0 (first) to 7.
    pub level: u32,
    /// Who takes the step.
    pub actor: Actor,
}

impl SetIoPriority {
    fn new(p: &IoPriority, actor: Actor) -> Result<SetIoPriority> {
        let class = number("process.ioPriority.class", &p.class, IO_CLASSES)?;
        let level = u32::try_from(p.priority).ok().filter(|n| *n <= 7);
        let level = level.ok_or_else(|| {
            let n = p.priority;
            Error::kind(Kind::Usage, format!("process.ioPriority.priority is {n}"))
                .hint("it lies between 0 (first) and 7")
                .topic("oci-bundle")
        })?;
        Ok(SetIoPriority {
            class,
            level,
            actor,
        })
    }
}

impl Action for SetIoPriority {
    fn calls(&self) -> Vec<Planned> {
        let who = whose_word(self.actor);
        let class = word(self.class, IO_CLASSES);
        let args = format!("IOPRIO_WHO_PROCESS, {who}, {class} {}", self.level);
        vec![Planned::new("ioprio_set", args)]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        sched::ioprio_set(whose(self.actor, scene)?, self.class, self.level)
            .context("cannot set the I/O priority")
            .map_err(|e| match e.errno() {
                Some(libc::EPERM) => e.hint("IOPRIO_CLASS_RT needs CAP_SYS_NICE on the host"),
                _ => e,
            })
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let value = whose(self.actor, scene)
            .map_err(|e| format!("{e:#}"))
            .and_then(|pid| sched::ioprio_get(pid).map_err(|e| e.to_string()))
            .map(|(class, level)| format!("{} {level}", word(class, IO_CLASSES)));
        fact("I/O priority", value, "ioprio_get(2)")
    }
    fn expected(&self) -> Option<String> {
        Some(format!("{} {}", word(self.class, IO_CLASSES), self.level))
    }
}

/// The scene's name for the parent's processors before [`SetAffinity`].
const BEFORE: &str = "affinity-before";

/// Runs the caller on some processors only.
#[derive(Debug)]
pub struct SetAffinity {
    /// Their numbers.
    pub cpus: Vec<u32>,
    /// The parent's own, to be taken back by [`RestoreAffinity`] when the child has inherited it.
    pub passing: bool,
}

impl Action for SetAffinity {
    fn calls(&self) -> Vec<Planned> {
        let list = format_list(self.cpus.iter().copied());
        vec![Planned::new("sched_setaffinity", format!("0, {list}"))]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        if self.passing {
            let before = sched::sched_getaffinity(0).context("cannot read the affinity")?;
            scene.put(BEFORE, format_list(before));
        }
        let list = || format_list(self.cpus.iter().copied());
        sched::sched_setaffinity(0, &self.cpus)
            .with_context(|| format!("cannot run on the processors {}", list()))
            .map_err(|e| match e.errno() {
                Some(libc::EINVAL) => e.hint(
                    "none of them is there and allowed by the cpuset: see Cpus_allowed_list in \
                     /proc/self/status",
                ),
                _ => e,
            })
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let value = sched::sched_getaffinity(0).map(format_list);
        let value = value.map_err(|e| e.to_string());
        fact("processors", value, "sched_getaffinity(2)")
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        match self.passing {
            true => RestoreAffinity.apply(scene),
            false => Ok(()),
        }
    }
}

/// Parent: back on the processors that it came from.
#[derive(Debug)]
pub struct RestoreAffinity;

impl Action for RestoreAffinity {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("sched_setaffinity", "0, as before")]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let Some(list) = scene.get(BEFORE) else {
            return Ok(());
        };
        let cpus = numbers("the affinity before", list)?;
        sched::sched_setaffinity(0, &cpus).context("cannot return to the former processors")
    }
}

/// Sets the NUMA policy.
#[derive(Debug)]
pub struct SetMemoryPolicy {
    /// `MPOL_*`, with its flags.
    pub mode: u32,
    /// The nodes.
    pub nodes: Vec<u32>,
}

impl SetMemoryPolicy {
    fn new(policy: &MemoryPolicy) -> Result<SetMemoryPolicy> {
        let mut mode = number("linux.memoryPolicy.mode", &policy.mode, MEMORY_MODES)?;
        for flag in &policy.flags {
            mode |= number("linux.memoryPolicy.flags", flag, MEMORY_FLAGS)?;
        }
        let nodes = match policy.nodes.as_deref() {
            None | Some("") => Vec::new(),
            Some(list) => numbers("linux.memoryPolicy.nodes", list)?,
        };
        Ok(SetMemoryPolicy { mode, nodes })
    }
    fn words(mode: u32, nodes: &[u32]) -> String {
        let flags = MEMORY_FLAGS.iter().filter(|(_, bit)| mode & bit != 0);
        let all: u32 = MEMORY_FLAGS.iter().map(|(_, bit)| bit).sum();
        let name = word(mode & !all, MEMORY_MODES);
        let name = flags.fold(name, |text, (flag, _)| format!("{text}|{flag}"));
        match nodes {
            [] => name,
            _ => format!("{name} {}", format_list(nodes.iter().copied())),
        }
    }
}

impl Action for SetMemoryPolicy {
    fn calls(&self) -> Vec<Planned> {
        let words = SetMemoryPolicy::words(self.mode, &self.nodes);
        vec![Planned::new("set_mempolicy", words)]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sched::set_mempolicy(self.mode, &self.nodes)
            .with_context(|| {
                let words = SetMemoryPolicy::words(self.mode, &self.nodes);
                format!("cannot set the memory policy {words}")
            })
            .map_err(|e| match e.errno() {
                Some(libc::EINVAL) => e.hint(
                    "the mode may need nodes, or take none; a node must exist and be allowed: see \
                     Mems_allowed_list in /proc/self/status",
                ),
                Some(libc::ENOSYS) => e.hint("this kernel was built without NUMA"),
                _ => e,
            })
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let value = sched::get_mempolicy()
            .map(|(mode, nodes)| SetMemoryPolicy::words(mode, &nodes))
            .map_err(|e| e.to_string());
        fact("memory policy", value, "get_mempolicy(2)")
    }
    fn expected(&self) -> Option<String> {
        // Relative nodes read back as they were folded into the allowed ones.
        let relative = self.mode & (1 << 14) != 0;
        (!relative).then(|| SetMemoryPolicy::words(self.mode, &self.nodes))
    }
}

/// Sets the execution domain.
#[derive(Debug)]
pub struct SetPersonality {
    /// `PER_LINUX` (0) or `PER_LINUX32` (8).
    pub persona: u32,
}

impl SetPersonality {
    fn new(personality: &Personality) -> Result<SetPersonality> {
        if let Some(flag) = personality.flags.first() {
            return Err(Error::kind(
                Kind::Unsupported,
                format!(
                    "linux.personality.flags names {flag:?}: the specification has no flag yet"
                ),
            ));
        }
        let persona = number("linux.personality.domain", &personality.domain, DOMAINS)?;
        Ok(SetPersonality { persona })
    }
}

impl Action for SetPersonality {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("personality", word(self.persona, DOMAINS))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sched::personality(self.persona)
            .map(drop)
            .context("cannot set the personality")
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let value = sched::current_personality()
            .map(|n| word(n, DOMAINS))
            .map_err(|e| e.to_string());
        fact("personality", value, "personality(2)")
    }
    fn expected(&self) -> Option<String> {
        Some(word(self.persona, DOMAINS))
    }
}
