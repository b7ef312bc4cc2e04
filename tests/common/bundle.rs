//! A bundle of one test's own, and the process that makes a container out of it.
//!
//! What it does: [`Bundle`] is a directory with a config.json and a root file system that shows the
//! host's programs, read-only. [`Bundle::run`] starts this test program again as the maker of the
//! container ([`maker`]): making one forks, which a program of many threads must not, and whatever
//! the maker does to itself stays its own. Its journal comes back with what the container printed.
//!
//! Interface: [`Bundle`], [`Ran`], [`maker`]. Read next: `tests/runtime_fields.rs`.

use super::TempRoot;
use glassbox::host::Host;
use glassbox::journal::{Event, Options, Plan, Record, parse};
use glassbox::runtime::{self, ExecRequest, Launched, Request, Stdio};
use glassbox::spec::runtime::{Process, Spec};
use glassbox::sys::{process, record};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the bundle for the maker.
const BUNDLE: &str = "GLASSBOX_TEST_BUNDLE";
/// The test that becomes the maker.
const MAKER: &str = "a_bundle_becomes_a_container";

/// What a container has in nearly every test: fresh /proc and /dev, and the host's programs.
pub struct Bundle {
    /// The directory; `rootfs` below it is the root.
    pub root: TempRoot,
    /// config.json, to be changed before the run.
    pub config: Value,
    /// Runs before the maker and around it: a shell script in which `"$@"` is the maker.
    pub around: Option<String>,
    /// The step after which the making fails on purpose.
    pub fail_after: Option<String>,
}

impl Bundle {
    /// A bundle whose program is `sh -c script`.
    pub fn new(name: &str, script: &str) -> Bundle {
        let root = TempRoot::new(name);
        let rootfs = root.join("rootfs");
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=64k"]}),
        ];
        std::fs::create_dir(&rootfs).expect("rootfs");
        for directory in ["proc", "dev", "tmp"] {
            std::fs::create_dir(rootfs.join(directory)).expect("a directory");
        }
        for place in ["/bin", "/sbin", "/lib", "/lib64", "/usr"] {
            match std::fs::read_link(place) {
                Ok(to) => std::os::unix::fs::symlink(to, rootfs.join(&place[1..])).expect(place),
                Err(_) if Path::new(place).is_dir() => mounts.push(json!({"destination": place,
                    "type": "bind", "source": place, "options": ["rbind", "ro"]})),
                Err(_) => {}
            }
        }
        let all = ["bounding", "effective", "permitted"].map(|set| (set, capabilities()));
        let config = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {
                "cwd": "/", "args": ["sh", "-c", script],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "user": {"uid": 0, "gid": 0},
                "capabilities": std::collections::BTreeMap::from(all),
            },
            "mounts": mounts,
            "linux": {"namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
            ]}
        });
        Bundle {
            root,
            config,
            around: None,
            fail_after: None,
        }
    }

    /// `config.process`
    pub fn process(&mut self) -> &mut Value {
        &mut self.config["process"]
    }
    /// `config.linux`
    pub fn linux(&mut self) -> &mut Value {
        &mut self.config["linux"]
    }
    /// Another namespace.
    pub fn namespace(&mut self, typ: &str) {
        let list = self.config["linux"]["namespaces"]
            .as_array_mut()
            .expect("a list");
        list.push(json!({"type": typ}));
    }
    /// A user namespace of its own, whose root is user 100000 outside.
    pub fn user_namespace(&mut self) {
        self.namespace("user");
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
        // The nobody that it is outside must get at its root.
        for entry in [self.root.path().to_path_buf(), self.root.join("rootfs")] {
            std::os::unix::fs::chown(entry, Some(100_000), Some(100_000)).expect("chown");
        }
        for entry in std::fs::read_dir(self.root.join("rootfs"))
            .expect("rootfs")
            .flatten()
        {
            std::os::unix::fs::lchown(entry.path(), Some(100_000), Some(100_000)).expect("chown");
        }
    }
    /// A mount after those that are there.
    pub fn mount(&mut self, mount: Value) {
        self.config["mounts"]
            .as_array_mut()
            .expect("a list")
            .push(mount);
    }
    /// A cgroup of its own.
    pub fn cgroup(&mut self, resources: Value) {
        self.config["linux"]["cgroupsPath"] = format!("/{}", self.root.tag()).into();
        self.config["linux"]["resources"] = resources;
    }

    /// The maker as a command, config.json written.
    pub fn command(&self) -> Command {
        let text = serde_json::to_string_pretty(&self.config).expect("JSON");
        std::fs::write(self.root.join("config.json"), text).expect("config.json");
        let program = std::env::current_exe().expect("this program");
        let maker = ["--exact", MAKER, "--nocapture", "--test-threads=1"].map(OsString::from);
        let mut words = vec![program.into_os_string()];
        words.extend(maker);
        if let Some(script) = &self.around {
            let shell = ["sh", "-ec", script, "sh"].map(OsString::from);
            words.splice(0..0, shell);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env(BUNDLE, self.root.path());
        if let Some(step) = &self.fail_after {
            command.env("GLASSBOX_FAIL_STEP", step);
        }
        command
    }

    /// Makes the container and waits for its end.
    #[track_caller]
    pub fn run(&self) -> Ran {
        self.run_as(self.command())
    }

    /// The same by a command that was made of [`Self::command`].
    #[track_caller]
    pub fn run_as(&self, mut command: Command) -> Ran {
        let out = command.output().expect("the maker starts");
        let read = |name: &str| std::fs::read_to_string(self.root.join(name)).unwrap_or_default();
        let lines: Vec<String> = read("journal").lines().map(str::to_string).collect();
        let code = read("code").trim().parse().unwrap_or(-1);
        let ran = Ran {
            code,
            stdout: read("stdout"),
            stderr: read("stderr"),
            around: String::from_utf8_lossy(&out.stdout).into_owned(),
            journal: parse(&lines),
        };
        let maker = String::from_utf8_lossy(&out.stderr);
        assert!(
            code >= 0,
            "the maker failed: {:?}\n{maker}\n{}",
            out.status,
            ran.around
        );
        ran
    }

    /// Runs it: stdout of a container that ends well, every fact as the plan expected it.
    #[track_caller]
    pub fn ok(&self) -> String {
        let ran = self.run();
        assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
        let wrong = ran.unexpected();
        assert!(wrong.is_empty(), "{wrong:#?}");
        ran.stdout.trim_end().to_string()
    }

    /// Makes it, which must fail: the whole error.
    #[track_caller]
    pub fn refused(&self) -> String {
        let ran = self.run();
        assert_eq!(ran.code, 125, "{}\n{}", ran.stdout, ran.stderr);
        ran.stderr
    }
}

/// Every capability that the tests have themselves.
fn capabilities() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let mut lines = status.lines();
    let own = lines.find_map(|l| l.strip_prefix("CapPrm:"));
    let own = u64::from_str_radix(own.expect("CapPrm").trim(), 16).expect("a mask");
    glassbox::security::capabilities::CapSet(own).names()
}

/// A container that ended, or could not be made (status 125).
pub struct Ran {
    /// Its exit status.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// The same, or the error of making it.
    pub stderr: String,
    /// What the script around the maker printed.
    pub around: String,
    /// The making, as it was recorded.
    pub journal: Vec<Record>,
}

impl Ran {
    /// Facts that the kernel reported otherwise than the plan expected.
    pub fn unexpected(&self) -> Vec<&Record> {
        let wrong = |r: &&Record| {
            matches!(
                r,
                Record::Event(Event::Fact {
                    as_expected: Some(false),
                    ..
                })
            )
        };
        self.journal.iter().filter(wrong).collect()
    }
}

/// Where this program was started as the maker: makes the container and does not come back.
pub fn maker() {
    let Some(bundle) = std::env::var_os(BUNDLE).map(PathBuf::from) else {
        return;
    };
    let arena = record::Arena::anonymous().expect("memory");
    record::install(Some(arena.clone()));
    let code = match make(&bundle) {
        Ok(code) => code,
        Err(error) => {
            let hint = error.get_hint().unwrap_or_default();
            std::fs::write(bundle.join("stderr"), format!("{error:#}\n{hint}\n")).expect("stderr");
            125
        }
    };
    let journal = arena.lines(0).0.join("\n");
    std::fs::write(bundle.join("journal"), journal).expect("journal");
    std::fs::write(bundle.join("code"), code.to_string()).expect("code");
    std::process::exit(0);
}

fn make(bundle: &Path) -> glassbox::Result<i32> {
    let text = std::fs::read_to_string(bundle.join("config.json")).expect("config.json");
    let spec: Spec = serde_json::from_str(&text).expect("config.json is one");
    let host = Host::detect()?;
    let options = Options {
        observe: true,
        fail_after: std::env::var("GLASSBOX_FAIL_STEP").ok(),
    };
    let request = Request {
        id: "box",
        spec: &spec,
        bundle,
        host: &host,
        group: runtime::group_of(&spec, &host)?,
        stdio: streams(bundle, "stdout"),
        wishes: runtime::Wishes::default(),
    };
    let init = runtime::launch(request, Plan::default(), &mut (), &options)?;
    let result = match std::fs::read_to_string(bundle.join("exec.json")) {
        Ok(text) => {
            let process: Process = serde_json::from_str(&text).expect("exec.json is a process");
            let request = ExecRequest {
                id: "box",
                keyring: "box",
                bundle,
                init: init.pid,
                spec: &spec,
                process: &process,
                host: &host,
                stdio: streams(bundle, "exec-stdout"),
                preserve_fds: 0,
                groups: &[],
            };
            let result = runtime::exec(request, &mut (), &options).map(|p| end_of(&p));
            let _ = process::pidfd_send_signal(&init.pidfd, libc::SIGKILL);
            end_of(&init);
            result
        }
        Err(_) => Ok(end_of(&init)),
    };
    runtime::remove(&spec, &host)?;
    result
}

/// Lets everybody execute a file.
pub fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn streams(bundle: &Path, stdout: &str) -> Stdio {
    let file = |name: &str| -> OwnedFd { File::create(bundle.join(name)).expect(name).into() };
    Stdio::Fds {
        stdin: File::open("/dev/null").expect("/dev/null").into(),
        stdout: file(stdout),
        stderr: file("stderr"),
    }
}

fn end_of(program: &Launched) -> i32 {
    let exit = process::waitid(&program.pidfd, 0).expect("our child");
    exit.expect("it has ended").code()
}
