//! Published attacks on container runtimes, mounted against this one: each must fail to get out.
//!
//! A test's doc tells the attack; the attack is carried out for real, by a program or an image that
//! is the attacker's, and what it was after (a file of the host, the runtime's own program) is
//! compared afterwards. Where it is cheap the same code is shown to work where nothing stops it, so
//! that the test can fail.

mod common;

use common::bundle::Bundle;
use common::{TempRoot, binary};
use serde_json::{Value, json};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[test]
fn a_bundle_becomes_a_container() {
    common::bundle::maker();
    needs!("root");
    assert_eq!(Bundle::new("bundle", "echo here").ok(), "here");
}

/// What the attacker must not change, and how it reads afterwards.
const NONCE: &str = "nobody has written here";

/// A copy of the binary that an attack may destroy, and a root of its own for the runtime's state.
struct Victim {
    dir: TempRoot,
    program: PathBuf,
    before: Vec<u8>,
}

impl Victim {
    fn new(name: &str) -> Victim {
        let dir = TempRoot::new(name);
        let program = dir.join("victim");
        std::fs::copy(binary(), &program).expect("a copy");
        let before = std::fs::read(&program).expect("it");
        Victim {
            dir,
            program,
            before,
        }
    }
    /// Its container's id: nobody else's, for a cgroup is called so.
    fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.dir.tag())
    }
    /// `glassbox runtime ARGS` for half a minute at most; the names `box` and `other` are ids.
    fn runtime(&self, args: &[&str]) -> Output {
        // A file and no pipe: what waits in a created container keeps it open.
        let said = self.dir.join("said");
        let file = std::fs::File::create(&said).expect("a file");
        let args = args.iter().map(|a| match *a {
            "box" | "other" => self.id(a),
            a => a.to_string(),
        });
        let status = Command::new("timeout")
            .args(["-s", "KILL", "30"])
            .arg(&self.program)
            .args(["runtime", "--root"])
            .arg(self.dir.join("state"))
            .args(args)
            .stdin(std::process::Stdio::null())
            .stdout(file.try_clone().expect("a copy"))
            .stderr(file)
            .status();
        Output {
            status: status.expect("it starts"),
            stdout: std::fs::read(&said).expect("what it said"),
            stderr: Vec::new(),
        }
    }
    #[track_caller]
    fn is_unharmed(&self) {
        let now = std::fs::read(&self.program).expect("it");
        assert!(now == self.before, "the runtime's own file was overwritten");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        for id in ["box", "other"] {
            self.runtime(&["delete", "--force", id]);
        }
    }
}

/// config.json written, and the bundle's directory as a word.
fn written(bundle: &Bundle) -> String {
    drop(bundle.command());
    bundle.root.path().to_str().expect("UTF-8").to_string()
}

fn text(out: &Output) -> String {
    let (stdout, stderr) = (&out.stdout, &out.stderr);
    String::from_utf8_lossy(stdout).into_owned() + &String::from_utf8_lossy(stderr)
}

/// Tries to write, for some seconds, to the program of every process that it sees and that is not
/// its own. A redirection of exec that fails would end the shell, so a subshell tries first.
const OVERWRITE: &str = r#"
    for i in $(seq 1 40); do
        for p in /proc/[0-9]*; do
            [ "$(readlink $p/exe 2>/dev/null)" = "$(readlink /proc/self/exe)" ] && continue
            case "$(readlink $p/exe 2>/dev/null)" in *victim*) echo seen; esac
            if (exec 9<$p/exe) && exec 9<$p/exe; then
                case "$(readlink /proc/self/fd/9)" in *victim*) echo open;
                    (sleep 1; for n in 1 2 3 4 5 6; do echo '#!/bin/evil' >/proc/self/fd/9 && echo written; sleep 0.3; done) & esac
                exec 9<&-
            fi
        done 2>/dev/null
        sleep 0.05
    done; wait; echo tried"#;

/// CVE-2019-5736. A container whose program is /proc/self/exe executes the runtime itself; the C
/// library that it loads is the image's, whose constructor is the attacker's. Here the attacker's
/// part is what it can reach of that file: it is opened for writing when nobody executes it any more.
/// The program is told to be a shell script that begins with `#!/proc/self/exe`, too.
#[test]
fn the_runtimes_own_file_is_not_written_through_proc_self_exe() {
    needs!("root");
    let victim = Victim::new("own-exe");
    for way in ["/proc/self/exe", "/script"] {
        let mut bundle = Bundle::new("own-exe", "");
        // The runtime, executed inside, runs this loader's idea of a program: it waits and is looked at.
        bundle.process()["args"] = json!([way, "runtime", "--version"]);
        let script = bundle.root.join("rootfs/script");
        std::fs::write(&script, "#!/proc/self/exe\n").expect("a script");
        common::bundle::executable(&script);
        let at = written(&bundle);
        victim.runtime(&["run", "--bundle", &at, "box"]);
        victim.is_unharmed();
    }
    // What the published exploit does next: the link of a process that is the runtime.
    let mut bundle = Bundle::new("own-exe", OVERWRITE);
    bundle.linux()["maskedPaths"] = json!([]);
    let at = written(&bundle);
    let created = victim.runtime(&["create", "--bundle", &at, "box"]);
    assert!(created.status.success(), "{}", text(&created));
    let state: Value =
        serde_json::from_slice(&victim.runtime(&["state", "box"]).stdout).expect("state");
    let exe = format!("/proc/{}/exe", state["pid"]);
    // Held, as the exploit holds it, until nobody executes it any more; and that by the host's root.
    let held = glassbox::sys::fs::open(&exe, libc::O_PATH, 0).expect("it can be held");
    victim.runtime(&["delete", "--force", "box"]);
    let write = |fd: std::os::fd::OwnedFd| {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let open = std::fs::OpenOptions::new().write(true).open(path);
        open.map_err(|e| e.raw_os_error().unwrap_or(0)).map(drop)
    };
    assert_eq!(write(held), Err(libc::EROFS));
    // The same code on a file that is not protected.
    let bare = glassbox::sys::fs::open(&victim.program, libc::O_PATH, 0).expect("it opens");
    assert_eq!(write(bare), Ok(()));
    victim.is_unharmed();
}

/// CVE-2019-5736 by exec: the container waits for a process that joins it, opens its program, and
/// writes there when that has been replaced.
#[test]
fn nor_through_a_process_that_joins() {
    needs!("root");
    let victim = Victim::new("join-exe");
    // Again and again, however slow this machine is.
    let bundle = Bundle::new("join-exe", &format!("while :; do ({OVERWRITE}); done"));
    let at = written(&bundle);
    let created = victim.runtime(&["create", "--bundle", &at, "box"]);
    assert!(created.status.success(), "{}", text(&created));
    assert!(victim.runtime(&["start", "box"]).status.success());
    for _ in 0..4 {
        let out = victim.runtime(&["exec", "box", "true"]);
        assert!(out.status.success(), "{}", text(&out));
        victim.runtime(&["exec", "box", "/proc/self/exe", "runtime", "--version"]);
    }
    victim.is_unharmed();
}

/// Beginning again must change nothing that the caller gave: descriptors that are preserved, the name
/// in ps(1), and nothing more than them in the container.
#[test]
fn what_the_caller_gave_outlives_the_second_execution() {
    needs!("root");
    let victim = Victim::new("again");
    let bundle = Bundle::new("again", "cat <&3; ls /proc/self/fd");
    let at = written(&bundle);
    let script = format!(
        "echo given > {at}/given; exec 3<{at}/given; exec {} runtime --root {} run --preserve-fds 1 --bundle {at} {}",
        victim.program.display(),
        victim.dir.join("state").display(),
        victim.id("box")
    );
    let out = Command::new("timeout")
        .args(["30", "sh", "-c", &script])
        .output()
        .expect("sh");
    let said = text(&out);
    // 3 is the one given, 4 is ls's own.
    assert_eq!(said, "given\n0\n1\n2\n3\n4\n");
    let waits = Bundle::new("again", "true");
    victim.runtime(&["create", "--bundle", &written(&waits), "other"]);
    let state: Value =
        serde_json::from_slice(&victim.runtime(&["state", "other"]).stdout).expect("state");
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", state["pid"])).expect("comm");
    assert_eq!(comm, "victim\n");
}

/// CVE-2024-21626. A working directory of /proc/self/fd/N is a directory of the host, if the runtime
/// has one open. From there `..` leads to the host's root.
#[test]
fn no_working_directory_is_the_hosts() {
    needs!("root");
    let outside = TempRoot::new("cwd-host");
    std::fs::write(outside.join("nonce"), NONCE).expect("nonce");
    for n in 3..10 {
        for more in ["", "/../../../made"] {
            let mut bundle = Bundle::new("cwd", "pwd; cat nonce ../nonce ../../../../etc/hostname");
            bundle.process()["cwd"] = json!(format!("/proc/self/fd/{n}{more}"));
            // A descriptor that leaks from the caller is what the attacker hopes for.
            bundle.around = Some(format!("exec {n}<{}; \"$@\"", outside.path().display()));
            let ran = bundle.run();
            assert_eq!(ran.code, 125, "{n}: {}{}", ran.stdout, ran.stderr);
            assert!(ran.stderr.contains("working directory"), "{}", ran.stderr);
            assert!(!outside.join("made").exists());
        }
    }
    let mut bundle = Bundle::new("cwd-exec", "sleep 300");
    for n in 3..10 {
        let process = json!({"cwd": format!("/proc/self/fd/{n}"), "args": ["pwd"],
            "user": {"uid": 0, "gid": 0}});
        std::fs::write(bundle.root.join("exec.json"), process.to_string()).expect("exec.json");
        bundle.around = Some(format!("exec {n}<{}; \"$@\"", outside.path().display()));
        let ran = bundle.run();
        assert_eq!(ran.code, 125, "{n}: {}{}", ran.stdout, ran.stderr);
    }
    // A link of the image's own is no magic link, and stays inside.
    let mut bundle = Bundle::new("cwd-link", "pwd");
    symlink("/tmp", bundle.root.join("rootfs/made")).expect("a link");
    bundle.process()["cwd"] = json!("/made/new");
    assert_eq!(bundle.ok(), "/tmp/new");
}

/// CVE-2023-27561. Where /proc (or /sys) is a symbolic link in the image, the mount lands at another
/// place, and what is masked under the name /proc is not masked there.
#[test]
fn proc_and_sys_are_no_links() {
    needs!("root");
    for (name, fstype) in [("proc", "proc"), ("sys", "sysfs")] {
        let mut bundle = Bundle::new("linked", "cat /else/interrupts");
        let rootfs = bundle.root.join("rootfs");
        std::fs::create_dir(rootfs.join("else")).expect("a directory");
        let _ = std::fs::remove_dir(rootfs.join(name));
        symlink("/else", rootfs.join(name)).expect("a link");
        if fstype == "sysfs" {
            bundle.mount(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}));
        }
        let refused = bundle.refused();
        assert!(
            refused.contains("symbolic link") && refused.contains("ELOOP"),
            "{refused}"
        );
    }
}

/// CVE-2025-31133. /dev/null of the container covers masked files, and is a link to a file that the
/// attacker wants to see or to write.
#[test]
fn what_covers_masked_files_is_the_null_device() {
    needs!("root");
    let mut bundle = Bundle::new(
        "null",
        "stat -c '%t:%T' /proc/interrupts; stat -c %t:%T /proc/timer_list; wc -c </proc/interrupts",
    );
    // No fresh /dev: the image's own, where null is the attacker's.
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| m["destination"] != "/dev");
    symlink(
        "/proc/sys/kernel/core_pattern",
        bundle.root.join("rootfs/dev/null"),
    )
    .expect("a link");
    bundle.linux()["maskedPaths"] = json!(["/proc/interrupts", "/proc/timer_list"]);
    assert_eq!(bundle.ok(), "1:3\n1:3\n0");
}

/// CVE-2025-52565. /dev/console, over which the terminal is mounted, is a link to a file below
/// /proc; or /dev/pts/N is.
#[test]
fn the_console_is_no_link() {
    needs!("root");
    let victim = Victim::new("console");
    let mut bundle = Bundle::new("console", "true");
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| m["destination"] != "/dev");
    let dev = bundle.root.join("rootfs/dev");
    std::fs::create_dir(dev.join("pts")).expect("pts");
    bundle.mount(
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666"]}),
    );
    bundle.process()["terminal"] = json!(true);
    symlink("/proc/sysrq-trigger", dev.join("console")).expect("a link");
    let at = written(&bundle);
    let out = victim.runtime(&["run", "--bundle", &at, "box"]);
    assert!(text(&out).contains("symbolic link"), "{}", text(&out));
    std::fs::remove_file(dev.join("console")).expect("the link");
    let out = victim.runtime(&["run", "--bundle", &at, "box"]);
    assert!(out.status.success(), "{}", text(&out));
    // The whole of /dev leads out: the multiplexer would be the host's.
    std::fs::remove_dir_all(&dev).expect("/dev");
    symlink("/dev", &dev).expect("a link to itself, inside");
    let out = victim.runtime(&["run", "--bundle", &at, "box"]);
    assert!(!out.status.success(), "{}", text(&out));
}

/// CVE-2025-52881, and a procfs that is not one. A kernel parameter is written by a path below the
/// container's /proc, where the attacker put another file under its name: one of the image's, a
/// tmpfs's, or (by a bind mount) another of the real procfs.
#[test]
fn kernel_parameters_are_written_to_a_real_procfs() {
    needs!("root");
    let fake = |bundle: &Bundle, below: &str| {
        let file = bundle.root.join(below).join("sys/kernel/msgmax");
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
        std::fs::write(&file, NONCE).expect("a file");
        file
    };
    let real =
        "unshare --mount sh -c 'mount -t proc proc /proc 2>/dev/null; cat /proc/sys/kernel/msgmax'";
    // The image's own /proc, a bind mount over it, a tmpfs.
    let mut image = Bundle::new(
        "fake-image",
        "cat /proc/sys/kernel/msgmax; echo; mkdir /tmp/p; mount -t proc proc /tmp/p; cat /tmp/p/sys/kernel/msgmax",
    );
    let written_to = fake(&image, "rootfs/proc");
    image.linux()["sysctl"] = json!({"kernel.msgmax": "12345"});
    let mounts = image.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| m["destination"] != "/proc");
    assert_eq!(image.ok(), format!("{NONCE}\n12345"), "{real}");
    assert_eq!(std::fs::read_to_string(&written_to).expect("it"), NONCE);
    // Another parameter of the real one, bound over it: the write would land there.
    let mut bound = Bundle::new(
        "fake-bound",
        "cat /proc/sys/kernel/msgmnb; umount /proc/sys/kernel/msgmax; cat /proc/sys/kernel/msgmax",
    );
    bound.mount(
        json!({"destination": "/proc/sys/kernel/msgmax", "type": "bind",
        "source": "/proc/sys/kernel/msgmnb", "options": ["bind"]}),
    );
    bound.linux()["sysctl"] = json!({"kernel.msgmax": "12345"});
    let ran = bound.run();
    assert!(
        ran.stdout.ends_with("\n12345\n") && !ran.stdout.starts_with("12345"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
}

/// Exchanges two names below `dir` as fast as it can, until it is dropped.
struct Swapper(
    std::sync::Arc<AtomicBool>,
    Option<std::thread::JoinHandle<u64>>,
);

impl Swapper {
    fn new(dir: &Path, one: &'static str, other: &'static str) -> Swapper {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (seen, dir) = (stop.clone(), std::fs::File::open(dir).expect("the volume"));
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !seen.load(Relaxed) {
                swaps += u64::from(glassbox::sys::fs::renameat2(&dir, one, &dir, other, 2).is_ok());
            }
            swaps
        });
        Swapper(stop, Some(thread))
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        let swaps = self.1.take().expect("a thread").join().expect("it ends");
        assert!(
            swaps > 100 || std::thread::panicking(),
            "only {swaps} swaps: no race at all"
        );
    }
}

/// CVE-2021-30465. Two containers share a volume. While the second is made, the first exchanges a
/// directory of it, below which the second has a mount, with a link to the host's root; and a name at
/// which a device is made with a link to a file of the host, whose mode would be changed.
#[test]
fn places_in_a_volume_that_somebody_exchanges() {
    needs!("root");
    let host = TempRoot::new("race-host");
    let nonce = host.join("dir/nonce");
    std::fs::create_dir(host.join("dir")).expect("a directory");
    std::fs::write(&nonce, NONCE).expect("nonce");
    let mode = |path: &Path| std::fs::metadata(path).expect("it").mode();
    let before = mode(&nonce);
    let mut bundle = Bundle::new("race", "cat /volume/place/mark; true");
    let volume = bundle.root.join("volume");
    std::fs::create_dir_all(volume.join("place/dir")).expect("a volume");
    symlink(host.path(), volume.join("link")).expect("a link");
    let mark = bundle.root.join("mark");
    std::fs::create_dir(&mark).expect("a directory");
    bundle.mount(
        json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"]}),
    );
    bundle.mount(json!({"destination": "/volume/place/dir", "type": "bind", "source": mark, "options": ["rbind"]}));
    bundle.mount(json!({"destination": "/volume/place/made", "type": "tmpfs", "source": "tmpfs"}));
    bundle.linux()["devices"] = json!([{"path": "/volume/place/null", "type": "c", "major": 1,
        "minor": 3, "fileMode": 0o666, "uid": 7, "gid": 7}]);
    bundle.linux()["readonlyPaths"] = json!(["/volume/place/dir"]);
    bundle.linux()["maskedPaths"] = json!(["/volume/place/dir/nonce"]);
    let swapper = Swapper::new(&volume, "place", "link");
    for _ in 0..40 {
        bundle.run(); // made or refused: both are good
        assert_eq!(std::fs::read_to_string(&nonce).expect("it"), NONCE);
        assert_eq!(mode(&nonce), before);
        let names: Vec<_> = std::fs::read_dir(host.path())
            .expect("it")
            .flatten()
            .collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
    drop(swapper);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&host.tag()), "{mounts}");
}

/// CVE-2022-29162. Inheritable capabilities are none, of a container and of what is executed in it:
/// a file with inheritable capabilities would give them back to an ordinary user.
#[test]
fn nothing_is_inheritable() {
    needs!("root");
    let victim = Victim::new("inheritable");
    let bundle = Bundle::new("inheritable", "grep CapInh /proc/self/status; sleep 300");
    let at = written(&bundle);
    let log = bundle.root.join("log");
    let script = format!(
        "{} runtime --root {} create --bundle {at} {} >{} 2>&1 </dev/null",
        victim.program.display(),
        victim.dir.join("state").display(),
        victim.id("box"),
        log.display()
    );
    // Even where the caller has some.
    let caps = ["--inh-caps=+chown,+net_raw", "sh", "-c", &script];
    assert!(
        Command::new("setpriv")
            .args(caps)
            .status()
            .expect("setpriv")
            .success()
    );
    assert!(victim.runtime(&["start", "box"]).status.success());
    let out = victim.runtime(&[
        "exec",
        "--cap",
        "CAP_NET_ADMIN",
        "box",
        "grep",
        "CapInh",
        "/proc/self/status",
    ]);
    assert_eq!(text(&out), "CapInh:\t0000000000000000\n");
    let said = std::fs::read_to_string(&log).expect("log");
    assert_eq!(said, "CapInh:\t0000000000000000\n");
}

/// CVE-2022-0492. Who may mount a cgroup v1 hierarchy writes a program's path to its release_agent,
/// which the host's kernel executes as the host's root.
#[test]
fn no_release_agent_is_set_from_a_user_namespace() {
    needs!("root");
    let script = r#"
        mkdir /tmp/cg
        for c in memory rdma misc cpuset pids; do
            mount -t cgroup -o $c cgroup /tmp/cg || continue
            echo "mounted $c"
            echo /evil > /tmp/cg/release_agent && echo "set $c"
            umount /tmp/cg
        done 2>/dev/null
        unshare -UrCm sh -c 'mount -t cgroup -o rdma cgroup /tmp/cg && echo /evil > /tmp/cg/release_agent && echo set inside' 2>/dev/null
        echo tried"#;
    let mut bundle = Bundle::new("release-agent", script);
    bundle.user_namespace();
    bundle.namespace("cgroup");
    let said = bundle.ok();
    assert!(said.ends_with("tried") && !said.contains("set "), "{said}");
}

/// A key of the caller's session is readable by who has that session: a container gets a keyring of
/// its own, and what is executed in it later gets the same one.
#[test]
fn the_session_keyring_is_the_containers() {
    needs!("root");
    let victim = Victim::new("keyring");
    let bundle = Bundle::new("keyring", "sleep 300");
    let at = written(&bundle);
    assert!(
        victim
            .runtime(&["create", "--bundle", &at, "box"])
            .status
            .success()
    );
    assert!(victim.runtime(&["start", "box"]).status.success());
    let session = format!(
        "grep -E ' {}\\.[0-9a-f]+: ' /proc/keys | cut -d' ' -f1",
        victim.id("box")
    );
    let first = text(&victim.runtime(&["exec", "box", "sh", "-c", &session]));
    let second = text(&victim.runtime(&["exec", "box", "sh", "-c", &session]));
    assert_eq!(first, second);
    assert_eq!(first.lines().count(), 1, "{first}");
}

/// The kernel joins the session keyring that has the wanted name, whoever made it. A second container
/// of the same id (in another state directory), or one for which a container of the same user has
/// made a keyring beforehand, must not share its keys.
#[test]
fn no_keyring_is_shared_by_its_name() {
    needs!("root", "python3");
    // add_key(2), KEYCTL_SEARCH and KEYCTL_JOIN_SESSION_KEYRING by their numbers on x86_64.
    if cfg!(not(target_arch = "x86_64")) {
        return common::skip("the script has the system call numbers of x86_64");
    }
    let call = "import ctypes, sys, time; c = ctypes.CDLL(None, use_errno=True).syscall";
    let add = format!("{call}; print(c(248, b'user', b'glassbox-secret', b'x', 1, -3) > 0)");
    let search = format!("{call}; print(c(250, 10, -3, b'user', b'glassbox-secret', 0) > 0)");
    let (first, second) = (Victim::new("keys-first"), Victim::new("keys-second"));
    let id = first.id("box");
    // What an attacker leaves: a keyring of that name, which everybody of its user may join.
    let trap = format!(
        "{call}; k = c(250, 1, b'{id}', 0, 0, 0); c(250, 5, k, 0x3f3f0000, 0, 0); \
         print(c(248, b'user', b'glassbox-secret', b'x', 1, -3) > 0, flush=True); time.sleep(60)"
    );
    // It ends by itself after a minute.
    let mut trap = Command::new("python3")
        .args(["-c", &trap])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    let mut line = String::new();
    let out = trap.stdout.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("a line");
    assert_eq!(line, "True\n", "the trap is laid");
    // The trap works: who joins by that name alone has the key.
    let naive = format!(
        "{call}; c(250, 1, b'{id}', 0, 0, 0); print(c(250, 10, -3, b'user', b'glassbox-secret', 0) > 0)"
    );
    let caught = Command::new("python3")
        .args(["-c", &naive])
        .output()
        .expect("python3");
    assert_eq!(text(&caught), "True\n");

    let bundle = Bundle::new("keys", "sleep 300");
    let at = written(&bundle);
    let python = |victim: &Victim, id: &str, script: &str| {
        text(&victim.runtime(&["exec", id, "python3", "-c", script]))
    };
    let made = first.runtime(&["run", "-d", "--bundle", &at, "box"]);
    assert!(made.status.success(), "{}", text(&made));
    assert_eq!(python(&first, "box", &search), "False\n", "the trap's key");
    assert_eq!(python(&first, "box", &add), "True\n");
    assert_eq!(
        python(&first, "box", &search),
        "True\n",
        "exec has the container's keyring"
    );
    // The same id, another state directory; a cgroup of its own, for that is found by the id.
    let mut bundle = Bundle::new("keys-same", "sleep 300");
    bundle.cgroup(json!({}));
    let at = written(&bundle);
    let made = second.runtime(&["run", "-d", "--bundle", &at, &id]);
    assert!(made.status.success(), "{}", text(&made));
    let said = python(&second, &id, &search);
    second.runtime(&["delete", "--force", &id]);
    let _ = trap.kill();
    let _ = trap.wait();
    assert_eq!(said, "False\n", "the first container's key");
}
