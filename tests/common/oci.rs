//! `glassbox runtime` on a bundle of one test's own.
//!
//! What it does: [`Runtime`] is a [`Bundle`], a state directory and a container's id. What a
//! container inherits as its streams are files here, never pipes: who waits for their end would
//! wait for the container's. When it is dropped, what still runs is deleted by force, and the host
//! is looked over for leaks.
//!
//! Interface: [`Runtime`], [`Said`]. Read next: `tests/runtime_operations.rs`.

use super::bundle::Bundle;
use super::{LeakCheck, binary};
use glassbox::journal::{Event, Record};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A container by the runtime's own command line.
pub struct Runtime {
    leaks: Option<LeakCheck>,
    /// Its bundle.
    pub bundle: Bundle,
    /// Its id.
    pub id: String,
}

/// What a command of the runtime gave.
#[derive(Debug)]
pub struct Said {
    /// The exit status; 128+n for signal n.
    pub code: i32,
    /// What it, and the container meanwhile, printed.
    pub out: String,
    /// The same of stderr.
    pub err: String,
}

impl Said {
    /// Asserts status 0.
    #[track_caller]
    pub fn ok(self) -> Said {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
    /// Asserts a failure that says this.
    #[track_caller]
    pub fn fails(self, what: &str) -> Said {
        assert_eq!(self.code, 1, "{}\n{}", self.out, self.err);
        assert!(self.err.contains(what), "{what:?} is missing: {}", self.err);
        self
    }
}

impl Runtime {
    /// A container that runs `sh -c script`.
    pub fn new(name: &str, script: &str) -> Runtime {
        let bundle = Bundle::new(name, script);
        let leaks = Some(LeakCheck::new(&bundle.root));
        let id = bundle.root.tag();
        Runtime { leaks, bundle, id }
    }
    /// A path below the bundle.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.bundle.root.join(name)
    }
    /// The state directory.
    pub fn state_root(&self) -> PathBuf {
        self.path("state")
    }
    /// A file of the bundle.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
    /// Writes config.json.
    pub fn write(&self) {
        let text = serde_json::to_string(&self.bundle.config).expect("JSON");
        std::fs::write(self.path("config.json"), text).expect("config.json");
    }

    /// `glassbox runtime ARGS`, its streams /dev/null and two files of the bundle.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["runtime", "--root"])
            .arg(self.state_root())
            .args(args)
            .env("NO_COLOR", "1")
            .env_remove("GLASSBOX_FAIL_STEP");
        command
    }
    /// Starts it, its streams in `NAME.out` and `NAME.err`.
    pub fn spawn(&self, name: &str, mut command: Command) -> Child {
        let file = |kind: &str| File::create(self.path(format!("{name}.{kind}"))).expect("a file");
        command
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        command.spawn().expect("it starts")
    }
    /// Waits for its end, for two minutes.
    #[track_caller]
    pub fn end(&self, name: &str, mut child: Child) -> Said {
        use std::os::unix::process::ExitStatusExt;
        let until = Instant::now() + Duration::from_secs(120);
        let status = loop {
            match child.try_wait().expect("wait") {
                Some(status) => break status,
                None if Instant::now() > until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("{name} does not end: {}", self.read(&format!("{name}.err")));
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        Said {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            out: self.read(&format!("{name}.out")),
            err: self.read(&format!("{name}.err")),
        }
    }
    /// Runs a command to its end.
    #[track_caller]
    pub fn go(&self, command: Command) -> Said {
        self.end("said", self.spawn("said", command))
    }
    /// Runs `glassbox runtime ARGS ID`.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Said {
        let all = [args, &[&self.id]].concat();
        self.go(self.command(&all))
    }

    /// `create`; the container's streams are `create.out` and `create.err`.
    #[track_caller]
    pub fn create(&self, args: &[&str]) -> Said {
        self.create_with(args, &[])
    }
    /// The same with variables in the environment.
    #[track_caller]
    pub fn create_with(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        self.write();
        let bundle = self.bundle.root.path().display().to_string();
        let words = [&["create", "--bundle", &bundle], args, &[&self.id]].concat();
        let mut command = self.command(&words);
        command.envs(env.iter().copied());
        self.end("create", self.spawn("create", command))
    }
    /// Creates and starts it.
    #[track_caller]
    pub fn up(&self) {
        self.create(&[]).ok();
        self.run(&["start"]).ok();
    }
    /// What `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        let said = self.run(&["state"]).ok();
        serde_json::from_str(&said.out).expect("JSON")
    }
    /// The status of the state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").into()
    }
    /// Its process id on the host.
    #[track_caller]
    pub fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().expect("a pid")
    }
    /// Waits for a status.
    #[track_caller]
    pub fn wait_for(&self, status: &str) {
        super::cgroup::wait_for(status, || self.status() == status);
    }
    /// The steps that it took: those of the creation, and those after init had waited.
    pub fn steps(&self) -> (Vec<String>, Vec<String>) {
        let journal = self.state_root().join(&self.id).join("journal");
        let records = glassbox::journal::read(&journal).expect("a journal");
        let begun = records.into_iter().filter_map(|r| match r {
            Record::Event(Event::Begin { step, .. }) => Some(step),
            _ => None,
        });
        let mut before: Vec<String> = begun.collect();
        let pause = before.iter().position(|step| step == "await-start");
        let after = before.split_off(pause.expect("init waits") + 1);
        before.pop();
        (before, after)
    }
    /// Deletes it, which must work, and asserts that nothing of it is left.
    #[track_caller]
    pub fn delete(&self) {
        self.run(&["delete", "--force"]).ok();
        self.nothing_left();
    }
    /// Asserts that there is no state, no cgroup and no process of it.
    #[track_caller]
    pub fn nothing_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.state_root())
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert!(left.is_empty(), "left in the state directory: {left:?}");
        let groups = self.groups();
        assert!(groups.is_empty(), "left cgroups: {groups:?}");
    }
    /// The directories of its cgroup.
    pub fn groups(&self) -> Vec<PathBuf> {
        let layout = glassbox::host::CgroupLayout::detect().expect("a layout");
        let path = glassbox::runtime::operations::default_group(&self.id);
        let trees = layout.hierarchies.iter().filter_map(|h| h.dir(&path));
        trees.filter(|d| d.exists()).collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let ids = std::fs::read_dir(self.state_root());
        for id in ids.into_iter().flatten().flatten() {
            let id = id.file_name().to_string_lossy().into_owned();
            let _ = self.command(&["delete", "--force", &id]).output();
        }
        drop(self.leaks.take());
    }
}
