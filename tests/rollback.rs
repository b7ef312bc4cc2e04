//! Every step of the plan fails in turn, and the host is as before.
//!
//! `GLASSBOX_FAIL_STEP=ID` makes a run fail right after that step was applied: everything up to it
//! was done and has to be undone. Nothing of it may be left: no mount, no cgroup, no process, no
//! container, no file.

mod common;

use common::{LeakCheck, Output, Run, TempRoot, has_program, is_root, missing, skip};

/// `glassbox run FLAGS lab true` against a state root of its own.
struct Case<'a> {
    root: TempRoot,
    flags: &'a [&'a str],
    user: bool,
}

impl Case<'_> {
    fn run(&self, first: &[&str], fail: Option<&str>) -> Output {
        let root = self.root.path().display().to_string();
        let words = ["run", "--root", root.as_str()];
        let args = words
            .iter()
            .chain(first)
            .chain(self.flags)
            .chain(&["lab", "true"]);
        let run = Run::new(args);
        let run = match fail {
            Some(step) => run.env("GLASSBOX_FAIL_STEP", step),
            None => run,
        };
        match self.user {
            true => run.as_user().go(),
            false => run.go(),
        }
    }

    /// The ids of the steps that it takes, from its own dry run.
    fn steps(&self) -> Vec<String> {
        let out = self.run(&["--dry-run", "--json"], None).success();
        let plan: serde_json::Value = serde_json::from_str(&out.stdout).expect("the plan as JSON");
        let steps = plan["steps"].as_array().expect("steps").iter();
        let ids = steps.map(|s| s["id"].as_str().expect("an id").to_string());
        ids.collect()
    }

    /// `clean` looks at what else a failed run must not leave.
    fn fail_each(&self, clean: &dyn Fn(&TempRoot, &str)) {
        let root = &self.root;
        let leaks = LeakCheck::new(root).children();
        let steps = self.steps();
        assert!(steps.len() > 20, "the plan is whole: {steps:?}");
        for step in &steps {
            // There is no "after" the program was executed; and the test of a plan must not run it.
            if step == "execute" {
                continue;
            }
            let out = self.run(&[], Some(step));
            assert_eq!(out.code(), 125, "step {step}: {}", out.stderr);
            out.err_has(&format!("step {step:?} was told to fail"));
            let left: Vec<_> = std::fs::read_dir(root.join("containers"))
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name())
                .filter(|n| n.len() == 64)
                .collect();
            assert!(left.is_empty(), "step {step} left containers: {left:?}");
            clean(root, step);
            leaks.check();
        }
        // And the same run without the failure works: nothing was left that is in its way.
        self.run(&[], None).success();
        leaks.check();
    }
}

fn fail_each(name: &str, flags: &[&str]) {
    let case = Case {
        root: TempRoot::new(name),
        flags,
        user: false,
    };
    case.fail_each(&|_, _| ());
}

#[test]
fn a_limited_container() {
    if let Some(why) = missing(&["root"]) {
        return skip(why);
    }
    fail_each(
        "rollback-root",
        &[
            "--rm",
            "--network",
            "none",
            "-m",
            "64M",
            "--pids-limit",
            "50",
        ],
    );
}

#[test]
fn a_container_with_a_terminal_and_mounts() {
    if !is_root() {
        return skip("needs root for a bind mount into a container with a cgroup");
    }
    fail_each(
        "rollback-mounts",
        &[
            "--rm",
            "-t",
            "--tmpfs",
            "/x",
            "--read-only",
            "-v",
            "/tmp:/data:ro",
        ],
    );
}

#[test]
fn a_container_with_volumes_an_init_and_a_user() {
    if let Some(why) = missing(&["root"]) {
        return skip(why);
    }
    // What a run makes outside its own directory has to go again as well.
    let place = TempRoot::new("rollback-made");
    let source = place.join("made/by/-v");
    let cidfile = place.join("cid");
    let bind = format!("{}:/a", source.display());
    let flags = [
        "--rm",
        "--init",
        "--user=1000:1000",
        "--workdir=/new/dir",
        "--ulimit=nofile=64:64",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "-v",
        &bind,
        "-v",
        "named:/n",
        "--cidfile",
        cidfile.to_str().expect("a path"),
    ];
    let case = Case {
        root: TempRoot::new("rollback-volumes"),
        flags: &flags,
        user: false,
    };
    case.fail_each(&|root, step| {
        assert!(!cidfile.exists(), "step {step} left the --cidfile");
        assert!(!place.join("made").exists(), "step {step} left {bind}");
        let volume = root.join("volumes/named");
        assert!(!volume.exists(), "step {step} left a volume");
    });
}

#[test]
fn a_container_in_a_network_with_a_published_port() {
    if let Some(why) = missing(&["root", "ip"]) {
        return skip(why);
    }
    let network = common::network::own_network();
    let case = Case {
        root: TempRoot::new("rollback-network"),
        flags: &["--rm", "--network", "bridge", "-p", "18080:80"],
        user: false,
    };
    let forwarding = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("readable");
    let (devices, before) = (common::network::devices(), forwarding());
    case.fail_each(&|_, step| {
        let now = common::network::devices();
        assert_eq!(now, devices, "step {step} left a device");
        let tables = common::network::tables();
        assert!(tables.is_empty(), "step {step} left {tables}");
        assert_eq!(forwarding(), before, "step {step} left forwarding on");
    });
    network.check();
}

#[test]
fn a_rootless_container() {
    if is_root() && !has_program("setpriv") {
        return skip("needs the program setpriv to become another user");
    }
    let case = Case {
        root: TempRoot::for_user("rollback-rootless"),
        flags: &["--rm", "--init", "--tmpfs", "/x"],
        user: true,
    };
    case.fail_each(&|_, _| ());
}

/// An exec that fails leaves the container with the processes that it had, and nothing else.
#[test]
fn an_exec_into_a_running_container() {
    if let Some(why) = missing(&["root"]) {
        return skip(why);
    }
    let root = TempRoot::new("rollback-exec");
    let leaks = LeakCheck::new(&root);
    let go = |fail: Option<&str>, words: &[&str]| {
        let run = Run::new(words).env("GLASSBOX_ROOT", root.path());
        match fail {
            Some(step) => run.env("GLASSBOX_FAIL_STEP", step).go(),
            None => run.go(),
        }
    };
    let run = [
        "run", "-d", "--name", "box", "--init", "lab", "sleep", "300",
    ];
    go(None, &run).success();
    let top = || go(None, &["top", "box", "-o", "pid,args"]).success().stdout;
    let inside = top();
    let always = [
        "pidfd",
        "born-undumpable",
        "join-pid",
        "clone",
        "dumpable",
        "not-dumpable",
        "join",
        "session",
        "keyring",
        "cwd",
    ];
    // These are steps of some hosts only: of cgroup v2, and of v1.
    let somewhere = ["open-cgroup", "attach"];
    let terminal = [
        "terminal-channel",
        "open-root",
        "terminal",
        "receive-terminal",
    ];
    let mut of_this_host = 0;
    for (flags, own) in [(&[][..], &["streams"][..]), (&["-t"], &terminal)] {
        let words = [&["exec"], flags, &["box", "true"]].concat();
        for step in always.iter().chain(own).chain(&somewhere) {
            let out = go(Some(step), &words);
            if somewhere.contains(step) && out.code() == 0 {
                continue;
            }
            of_this_host += usize::from(somewhere.contains(step));
            // Docker's status for a program that was not executed, whatever the reason.
            assert_eq!(out.code(), 126, "{step} of {words:?}: {out}");
            out.err_has(&format!("step {step:?} was told to fail"));
            assert_eq!(top(), inside, "{step} of {words:?} left a process");
        }
        go(None, &words).success();
    }
    assert!(of_this_host > 0, "it entered no cgroup");
    go(None, &["rm", "-f", "box"]).success();
    leaks.check();
}
