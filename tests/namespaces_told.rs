//! Stage 1 on the built binary: what it tells. Narration, plans and help.

mod common;

use common::Run;
use common::namespaces::ns_run;
use std::time::Duration;

#[test]
fn what_is_explained_goes_to_stderr() {
    for kind in ["--uts", "--pid"] {
        let args = [kind, "--hostname", "blue", "--explain", "--", "uname", "-n"];
        let output = ns_run(&args).success();
        output.out_is("blue");
        for part in ["1 namespaces", "sethostname", "\"blue\"", "execve", "✓"] {
            output.err_has(part);
        }
        let args = [kind, "--hostname", "blue", "--explain=json", "--", "uname"];
        let output = ns_run(&args).success();
        let calls = output.stderr.lines().filter_map(|l| {
            let value: serde_json::Value = serde_json::from_str(l).expect("a record a line");
            value["call"].as_str().map(str::to_string)
        });
        let calls: Vec<String> = calls.collect();
        assert!(calls.contains(&"sethostname".to_string()), "{calls:?}");
        assert_eq!(
            calls.last().map(String::as_str),
            Some("execve"),
            "{calls:?}"
        );
    }
}

#[test]
fn help_and_plans_are_as_they_were_read() {
    let settings = common::filters(&[(r#""[A-Z_]+=[^"]*""#, "\"ENV\"")]);
    let snapshot = |name: &str, args: &[&str]| {
        let output = Run::new(args).limit(Duration::from_secs(20)).go().success();
        settings.bind(|| insta::assert_snapshot!(name.to_string(), output.stdout));
    };
    for name in ["run", "enter", "ls", "tree", "pin", "unpin"] {
        snapshot(&format!("ns_{name}_help"), &["ns", name, "--help"]);
    }
    snapshot("ns_help", &["ns", "--help"]);
    let flags = [
        "--all",
        "--hostname",
        "blue",
        "--boottime",
        "1d",
        "--workdir",
        "/tmp",
    ];
    let dry = [
        "ns",
        "run",
        "--map-user",
        "0:100000:65536",
        "--map-group",
        "0:100000:65536",
    ];
    let command = ["--dry-run", "--", "sh", "-c", "true"];
    if common::is_root() {
        let args: Vec<&str> = dry.iter().chain(&flags).chain(&command).copied().collect();
        snapshot("ns_run_dry_run", &args);
    }
}
