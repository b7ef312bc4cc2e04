//! Steps: what will be done, by whom, with which calls, and why.
//!
//! What it does: defines the data of a plan. It decides nothing and touches nothing; plans are
//! built purely by the stages and the runtime, and can be printed, compared and serialised
//! without root.
//! Interface: [`Plan`], [`Step`], [`Action`], [`Fact`]. Read next: `execute.rs`.

use super::Scene;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The concept that a step belongs to: the stages of the design, in teaching order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// 1: what a process sees.
    Namespaces = 1,
    /// 2: what it may use.
    Cgroups = 2,
    /// 3: the root file system, made of layers.
    Layers = 3,
    /// 4: where the layers and the configuration come from.
    Images = 4,
    /// 5: where images come from.
    Registry = 5,
    /// 6: the container itself: mounts, devices, privileges, the program.
    Runtime = 6,
    /// 7: its name, its state on disk, its network.
    Containers = 7,
}

impl Stage {
    /// The stage's number in the book.
    pub fn number(self) -> u8 {
        self as u8
    }
    /// Its name, as in `glassbox explain NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Namespaces => "namespaces",
            Stage::Cgroups => "cgroups",
            Stage::Layers => "layers",
            Stage::Images => "images",
            Stage::Registry => "registry",
            Stage::Runtime => "runtime",
            Stage::Containers => "containers",
        }
    }
    /// What it is for, in half a sentence.
    pub fn purpose(self) -> &'static str {
        match self {
            Stage::Namespaces => "give the process its own view of the system",
            Stage::Cgroups => "limit what it may use",
            Stage::Layers => "stack its root file system",
            Stage::Images => "know what to run",
            Stage::Registry => "fetch and share images",
            Stage::Runtime => "furnish the inside, drop privileges, start the program",
            Stage::Containers => "give it a name and a place",
        }
    }
}

/// Which of the two processes takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The process outside, with the caller's privileges in the host's namespaces.
    Parent,
    /// The process that `clone3` split off: inside the new namespaces, it becomes the container.
    Init,
}

impl Actor {
    /// Its name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Actor::Parent => "parent",
            Actor::Init => "init",
        }
    }
}

/// A system call that a step is going to make, before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The call's name, or `write`.
    pub call: Cow<'static, str>,
    /// Its arguments, in the words of the man page; for a write `FILE ← VALUE`.
    pub args: String,
}

impl Planned {
    /// A call and its arguments.
    pub fn new(call: impl Into<Cow<'static, str>>, args: impl Into<String>) -> Self {
        Planned {
            call: call.into(),
            args: args.into(),
        }
    }
}

/// A piece of kernel state, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is: `memory.max`, `pid namespace`, `uid_map`.
    pub what: String,
    /// Its value, or the reason why it could not be read.
    pub value: std::result::Result<String, String>,
    /// Where it was read: a file, an ioctl, a system call.
    pub source: String,
}

impl Fact {
    /// Reads a fact from a kernel file (trimmed), keeping the reason when that fails.
    pub fn from_file(what: impl Into<String>, path: impl AsRef<std::path::Path>) -> Fact {
        let path = path.as_ref();
        Fact {
            what: what.into(),
            value: std::fs::read_to_string(path)
                .map(|s| s.trim().to_string())
                .map_err(|e| e.to_string()),
            source: path.display().to_string(),
        }
    }
    /// The same fact with its value put into other words.
    #[must_use]
    pub fn map(mut self, words: impl FnOnce(&str) -> String) -> Fact {
        self.value = self.value.map(|v| words(&v));
        self
    }
    /// Reads a fact from a symbolic link such as /proc/self/ns/pid.
    pub fn from_link(what: impl Into<String>, path: impl AsRef<std::path::Path>) -> Fact {
        let path = path.as_ref();
        Fact {
            what: what.into(),
            value: std::fs::read_link(path)
                .map(|s| s.display().to_string())
                .map_err(|e| e.to_string()),
            source: path.display().to_string(),
        }
    }
}

/// How a step is done, read back and undone. Implemented by small structs in the stages, whose
/// fields are the step's arguments.
pub trait Action: fmt::Debug {
    /// The state-changing calls that [`apply`](Action::apply) will make, in order.
    fn calls(&self) -> Vec<Planned>;
    /// Does it. `scene` carries descriptors from step to step.
    fn apply(&self, scene: &mut Scene) -> Result<()>;
    /// Reads the kernel state that the step changes; called before and after. Must not change
    /// anything, and must cost little. The default is a step that leaves nothing to read.
    fn observe(&self, _scene: &Scene) -> Vec<Fact> {
        Vec::new()
    }
    /// What the first fact must read after the step, where that can be known before.
    fn expected(&self) -> Option<String> {
        None
    }
    /// Takes it back. Called on the parent's applied steps in reverse order after init has been
    /// killed; what lives in init's namespaces needs no undo, for it dies with them.
    fn undo(&self, _scene: &mut Scene) -> Result<()> {
        Ok(())
    }
    /// True for the step at which init waits until somebody lets it go on. Its maker does not wait
    /// with it: [`super::Running::finish`] returns. The step leaves a socket to whoever let it go
    /// on in the scene, as [`super::STARTER`], and from then on init reports there.
    fn is_pause(&self) -> bool {
        false
    }
    /// True for the steps after which this process may not be able to report any more: a seccomp
    /// filter may forbid it, and `execve` does not come back.
    fn is_last_word(&self) -> bool {
        false
    }
}

/// One step of a plan.
#[derive(Debug)]
pub struct Step {
    /// A short name, unique in its plan: `limit-memory`, `mount-/proc`. Failure tests and the
    /// step-by-step mode use it.
    pub id: Cow<'static, str>,
    /// The concept that it belongs to.
    pub stage: Stage,
    /// Who takes it.
    pub actor: Actor,
    /// Why it is there: one sentence, which is both the comment in the code and what is printed.
    pub why: Cow<'static, str>,
    /// How it is done.
    pub action: Box<dyn Action>,
}

impl Step {
    /// A step of the parent's.
    pub fn parent(
        stage: Stage,
        id: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
        action: impl Action + 'static,
    ) -> Step {
        Step {
            id: id.into(),
            stage,
            actor: Actor::Parent,
            why: why.into(),
            action: Box::new(action),
        }
    }
    /// A step of init's.
    pub fn init(
        stage: Stage,
        id: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
        action: impl Action + 'static,
    ) -> Step {
        Step {
            actor: Actor::Init,
            ..Step::parent(stage, id, why, action)
        }
    }
}

/// The whole set-up, in order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps. Consecutive steps of one actor run without synchronisation.
    pub steps: Vec<Step>,
    /// What the user should know although nothing failed ("--cap-add has no effect for a user
    /// other than root"): printed as warnings.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Appends a step.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }
}

impl Serialize for Plan {
    /// The dry run's `--json`: `{"steps": [{"id", "stage", "actor", "why", "calls": […]}],
    /// "warnings": […]}`.
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            id: &'a str,
            stage: Stage,
            actor: Actor,
            why: &'a str,
            calls: Vec<Planned>,
        }
        #[derive(Serialize)]
        struct All<'a> {
            steps: Vec<Row<'a>>,
            warnings: &'a [String],
        }
        let steps = self
            .steps
            .iter()
            .map(|s| Row {
                id: &s.id,
                stage: s.stage,
                actor: s.actor,
                why: &s.why,
                calls: s.action.calls(),
            })
            .collect();
        All {
            steps,
            warnings: &self.warnings,
        }
        .serialize(serializer)
    }
}
