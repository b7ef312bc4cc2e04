//! Real input: a Debian root file system of several layers, worked in as a user would at a keyboard.
//!
//! The image comes from `tests/fixtures/debian-image`: mmdebstrap's tree, what installing python3
//! changed, and a third layer with whiteouts, an opaque directory and attributes. The tests load
//! it with `image load` and use it through a real pty. `GLASSBOX_DEBIAN_IMAGE` names a ready one;
//! without it the script builds one below cargo's target directory.
//!
//! Read next: `tests/fixtures/debian-image`, `terminal.rs`, `images.rs`.

mod common;

use common::{LeakCheck, Output, Run, Screen, TempRoot};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

/// The machine of tests/vm is emulated: unpacking takes it a minute, python some seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// A state root with the image loaded. Tests that run at the same time share it; the last one
/// removes it, and checks for leaks first.
struct Debian {
    _leaks: LeakCheck,
    root: TempRoot,
}

impl Debian {
    /// Says why, and is none, where there is no image.
    #[track_caller]
    fn loaded() -> Option<Arc<Debian>> {
        static SHARED: Mutex<Weak<Debian>> = Mutex::new(Weak::new());
        let tar = match image() {
            Ok(tar) => tar,
            Err(reason) => {
                common::skip(reason);
                return None;
            }
        };
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(debian) = shared.upgrade() {
            return Some(debian);
        }
        let root = TempRoot::new("debian");
        let leaks = LeakCheck::new(&root);
        let debian = Arc::new(Debian {
            _leaks: leaks,
            root,
        });
        let loaded = debian.go(&["image", "load", "-i", &tar.to_string_lossy()]);
        loaded
            .success()
            .out_is("Loaded image: debian-test:latest\n");
        *shared = Arc::downgrade(&debian);
        Some(debian)
    }
    fn go(&self, args: &[&str]) -> Output {
        Run::new(args)
            .env("GLASSBOX_ROOT", self.root.path())
            .limit(PATIENCE)
            .go()
    }
    /// What a script prints in a new container.
    #[track_caller]
    fn bash(&self, script: &str) -> String {
        let run = ["run", "--rm", "debian-test", "bash", "-euc", script];
        self.go(&run).success().stdout
    }
    /// Bash at a terminal, with a prompt that says who and where: `root@box:~# `.
    fn at_a_terminal(&self, options: &[&str], command: &[&str]) -> Screen {
        let mut args = vec!["run", "--rm", "-it", "--hostname", "box"];
        args.extend(options);
        args.push("debian-test");
        args.extend(command);
        Screen::open(&self.root, &args).limit(PATIENCE)
    }
}

impl Drop for Debian {
    /// What a failed test left running, so that it does not stay on the machine.
    fn drop(&mut self) {
        let ids = self.go(&["ps", "-aq"]).stdout;
        for id in ids.lines() {
            self.go(&["rm", "-f", id]);
        }
        let panicking = std::thread::panicking();
        assert!(panicking || ids.is_empty(), "containers are left:\n{ids}");
    }
}

/// The image's file, or why there is none.
fn image() -> Result<PathBuf, String> {
    static FILE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let find = || {
        if let Some(ready) = std::env::var_os("GLASSBOX_DEBIAN_IMAGE") {
            let ready = PathBuf::from(ready);
            assert!(ready.is_file(), "GLASSBOX_DEBIAN_IMAGE: no file {ready:?}");
            return Ok(ready);
        }
        if let Some(reason) = common::missing(&["python3"]) {
            return Err(reason);
        }
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tar = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../fixtures/debian.tar");
        let made = std::process::Command::new(here.join("tests/fixtures/debian-image"))
            .arg(&tar)
            .output()
            .map_err(|e| format!("cannot run tests/fixtures/debian-image: {e}"))?;
        if made.status.success() {
            return Ok(tar);
        }
        let said = String::from_utf8_lossy(&made.stderr);
        let last = said.trim().lines().last().unwrap_or("it said nothing");
        Err(format!("tests/fixtures/debian-image failed: {last}"))
    };
    FILE.get_or_init(find).clone()
}

/// What the topmost layer says about those below holds inside, and dpkg finds its files as it
/// installed them.
#[test]
fn layers_look_inside_as_the_image_says() {
    needs!("root");
    let Some(debian) = Debian::loaded() else {
        return;
    };
    // A whiteout of a file takes that one alone; of a directory, all of it.
    let said = debian.bash(
        "cd /usr/share/doc; for f in bash/copyright bash/README.gz perl; do
             test -e $f && echo $f is || echo $f is not; done",
    );
    assert_eq!(
        said,
        "bash/copyright is not\nbash/README.gz is\nperl is not\n"
    );
    // An opaque directory holds what its own layer puts there.
    assert_eq!(debian.bash("ls -A /usr/share/locale"), "README\n");
    // A directory became a link; the marks of the archive are nowhere.
    let said = debian.bash("readlink /usr/share/bug; find / -xdev -name '.wh.*'");
    assert_eq!(said, "doc\n");
    // Attributes, a fifo, a name of two hundred bytes, one in UTF-8, a hard link, zeros.
    let said = debian.bash(
        "cd /opt; stat -c '%a %u:%g %F' . fifo; stat -c %s zeros; tail -c 33 zeros; cat gr*e long-*
         stat -c %h /etc/motd; test /etc/motd -ef /etc/motd.link && echo one file",
    );
    let expected = "1770 1:1 directory\n600 0:0 fifo\n65569\nafter a hole, if unpacked sparse\n\
                    a name in UTF-8\nlonger than the 100 bytes of a ustar name\n2\none file\n";
    assert_eq!(said, expected);
    // CAP_NET_RAW in the permitted set, the effective flag on, revision 2 (capabilities(7)).
    let said = debian.bash(
        "python3 -c 'import os
print(os.getxattr(\"/usr/bin/ping\", \"security.capability\").hex())'",
    );
    assert_eq!(said, "0100000200200000000000000000000000000000\n");
    // The checksums that the packages brought: only what layer 3 deleted is missing.
    let said = debian.bash(
        "dpkg --verify bash coreutils dpkg libc6 perl-base python3.11-minimal python3-minimal |
             grep -v -e /usr/share/locale/ -e /usr/share/bug/ -e /usr/share/doc/perl || true",
    );
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["missing", "/usr/share/doc/bash/copyright"]
    );
}

/// Editing, history, completion, Ctrl-C, job control and the exit status of an interactive bash.
#[test]
fn an_interactive_bash() {
    needs!("root", "setsid");
    let Some(debian) = Debian::loaded() else {
        return;
    };
    // No command: the image's own, which is bash.
    let mut s = debian.at_a_terminal(&[], &[]);
    s.wait_for("root@box:~# ");
    // Ctrl-A goes to the start of the line, the arrow right by one; then o makes `ech` an echo.
    s.types("ech x=$((6*7))\x01\x1b[C\x1b[C\x1b[Co\n");
    s.wait_for("x=42");
    s.wait_for("root@box:~# ");
    // The arrow up brings the line again.
    s.types("\x1b[A\n");
    s.wait_for("x=42");
    s.wait_for("root@box:~# ");
    s.types("cat /etc/debian_ver\t\n");
    s.wait_for("12.");
    s.wait_for("root@box:~# ");
    // Ctrl-C drops a line half typed, and bash says 130.
    s.types("half a line");
    s.signals('C');
    s.types("echo status=$?\n");
    s.wait_for("status=130");
    // The terminal is the session's own, of the size that the user has.
    s.types("tty; stty size; echo shell=$$ term=$TERM\n");
    s.wait_for("/dev/pts/0");
    s.wait_for("33 99");
    s.wait_for("shell=1 term=xterm");
    // Job control: stopped, in the background, in front again, interrupted.
    s.starts(" | cat");
    s.signals('Z');
    s.types("jobs\n");
    s.wait_for("[1]+  Stopped");
    s.continues("fg");
    s.signals('C');
    s.types("echo interrupted=$?\n");
    s.wait_for("interrupted=130");
    s.starts("");
    s.signals('Z');
    s.types("jobs\n");
    s.wait_for("[1]+  Stopped");
    s.continues("bg");
    s.types("jobs\n");
    s.wait_for("[1]+  Running");
    // Whether bash still has a word to say of a job that it was told to wait for is chance.
    s.types("kill -TERM %1; wait %1; echo ended=$?\n");
    s.wait_for("ended=143");
    s.types("exit 7\n");
    assert_eq!(s.ends(), 7);
}

/// Ctrl-D at an empty line ends the shell with the status of its last command.
#[test]
fn the_end_of_input_ends_the_shell() {
    needs!("root", "setsid");
    let Some(debian) = Debian::loaded() else {
        return;
    };
    let mut s = debian.at_a_terminal(&[], &["bash"]);
    s.wait_for("root@box:~# ");
    s.types("(exit 9)\n");
    s.wait_for("root@box:~# ");
    s.types("\x04");
    assert_eq!(s.ends(), 9);
}

/// Queries of the package database, and changes to it: locks, renames and fsync on the overlay.
#[test]
fn the_package_database() {
    needs!("root", "setsid");
    let Some(debian) = Debian::loaded() else {
        return;
    };
    let mut s = debian.at_a_terminal(&[], &["bash"]);
    s.wait_for("root@box:~# ");
    s.types("dpkg -l bash | tail -1\n");
    s.wait_for("ii  bash");
    s.types("apt-cache policy bash\n");
    s.wait_for("Installed: 5.2");
    s.wait_for("100 /var/lib/dpkg/status");
    s.types("apt list --installed 2> /dev/null | grep ^python3-min\n");
    s.wait_for("python3-minimal/");
    s.wait_for("[installed,local]");
    s.types("apt-mark hold bash && apt-mark showhold | sed s/^/held:/\n");
    s.wait_for("bash set on hold.");
    s.wait_for("held:bash");
    // apt asks at the terminal; what it removes lies in a layer below.
    s.types("apt-get purge iputils-ping; echo apt=$?\n");
    s.wait_for("Do you want to continue? [Y/n]");
    s.types("y\n");
    s.wait_for("Removing iputils-ping");
    s.wait_for("apt=0");
    s.types("test -e /usr/bin/ping || echo ping=$((1-1))\n");
    s.wait_for("ping=0");
    s.types("dpkg -l | grep -c ^ii; dpkg --audit && echo audit=$?\n");
    s.wait_for("audit=0");
    s.types("exit\n");
    assert_eq!(s.ends(), 0);
    // It was that container's own writable layer.
    let said = debian.bash("test -x /usr/bin/ping; apt-mark showhold; dpkg-query -W iputils-ping");
    assert!(said.starts_with("iputils-ping\t"), "{said:?}");
}

/// Perl and python3 compute, read the keyboard, and take Ctrl-C and Ctrl-D as they would anywhere.
#[test]
fn perl_and_python() {
    needs!("root", "setsid");
    let Some(debian) = Debian::loaded() else {
        return;
    };
    let mut s = debian.at_a_terminal(&[], &["bash"]);
    s.wait_for("root@box:~# ");
    s.types("perl -e 'print \"perl=\", 6 * 7, \"\\n\"; print \"read=\", uc <STDIN>'\n");
    s.wait_for("perl=42");
    s.types("from the keyboard\n");
    s.wait_for("read=FROM THE KEYBOARD");
    s.wait_for("root@box:~# ");
    s.types("perl -MDigest::SHA=sha256_hex -e 'print \"<\", sha256_hex(\"\"), \">\\n\"'\n");
    s.wait_for("<e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855>");
    s.wait_for("root@box:~# ");
    s.types("python3\n");
    s.wait_for(">>> ");
    s.types("import os, sys; print(f'answer={6*7} tty={os.isatty(0)}')\n");
    s.wait_for("answer=42 tty=True");
    s.types("while True: pass\n\n");
    s.wait_for("... ");
    std::thread::sleep(Duration::from_millis(500));
    s.signals('C');
    s.wait_for(">>> ");
    s.types("sys.exit(3)\n");
    s.wait_for("root@box:~# ");
    s.types("echo python=$?\n");
    s.wait_for("python=3");
    // A program of its own in front: the signal is python's, and bash lives on.
    s.types("python3 -c 'import time; print(\"up\", 6*7, flush=True); time.sleep(1000)'\n");
    s.wait_for("up 42");
    s.signals('C');
    s.types("echo python=$?\n");
    s.wait_for("python=130");
    s.types("exit\n");
    assert_eq!(s.ends(), 0);
}

/// A user of the image's passwd, by name: its ids, home, terminal and lack of capabilities.
#[test]
fn a_user_of_the_image() {
    needs!("root", "setsid");
    let Some(debian) = Debian::loaded() else {
        return;
    };
    let mut s = debian.at_a_terminal(&["--user", "www-data", "-w", "/tmp"], &["bash"]);
    s.wait_for("www-data@box:/tmp$ ");
    s.types("id; echo home=$HOME\n");
    s.wait_for("uid=33(www-data) gid=33(www-data) groups=33(www-data)");
    s.wait_for("home=/var/www");
    // The terminal is the user's: bash has job control on it, and it may be opened again.
    s.types("echo reopened=$((6*7)) > $(tty); stat -c owner=%U $(tty)\n");
    s.wait_for("reopened=42");
    s.wait_for("owner=www-data");
    s.types("grep CapEff /proc/self/status\n");
    s.wait_for("CapEff:\t0000000000000000");
    s.types("echo x > /etc/hostname; cat /etc/shadow\n");
    s.wait_for("/etc/hostname: Permission denied");
    s.wait_for("/etc/shadow: Permission denied");
    s.types("echo mine > /tmp/f && stat -c made=%U:%a /tmp/f\n");
    s.wait_for("made=www-data:644");
    // The capability on the file is what lets it send: the bounding set has CAP_NET_RAW.
    s.types("ping -c 1 127.0.0.1 | grep -c 'bytes from' | sed s/^/replies=/\n");
    s.wait_for("replies=1");
    s.starts("");
    s.signals('Z');
    s.types("jobs\n");
    s.wait_for("Stopped");
    s.types("kill %1; exit 4\n");
    s.wait_for("www-data@box:/tmp$ ");
    s.types("exit 4\n");
    assert_eq!(s.ends(), 4);
    // What exec opens is the user's too.
    let started = debian.go(&["run", "-d", "--name", "box", "debian-test", "sleep", "1000"]);
    started.success();
    let exec = ["exec", "-it", "-u", "games", "box", "bash", "-c"];
    let exec = [&exec[..], &["stat -c owner=%U $(tty); exit 3"]].concat();
    let mut s = Screen::open(&debian.root, &exec).limit(PATIENCE);
    s.wait_for("owner=games");
    assert_eq!(s.ends(), 3);
    debian.go(&["rm", "-f", "box"]).success();
    // By number, one that the passwd does not know.
    let out = debian.go(&[
        "run",
        "--rm",
        "-u",
        "1234:5678",
        "debian-test",
        "bash",
        "-c",
        "id; whoami",
    ]);
    let out = out.exits(1);
    out.out_is("uid=1234 gid=5678 groups=5678");
    out.err_has("cannot find name for user ID 1234");
}
