//! The programs on the command line: what they refuse, what they print, how they end.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Output, Stdio},
};

use ebb_testbed::{evaluator::Evaluator, paths, prometheus::promtool, runner::Runner};
use tempfile::TempDir;

use crate::support;

/// Exit code of `program` with `args`, and all that it printed.
pub(crate) fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(paths::program(program)).args(args).output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// What `program` says of a config file with this content.
fn check(program: &str, file: &str, content: &str) -> (Option<i32>, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(file);
    fs::write(&path, content).unwrap();
    run(program, &["--config", &path.display().to_string(), "check"])
}

#[track_caller]
fn refused((code, said): (Option<i32>, String), expected: &[&str]) {
    assert_eq!(code, Some(2), "{said}");
    for text in expected {
        assert!(said.contains(text), "{said}\ncontains {text}");
    }
}

#[test]
fn the_shipped_configs_are_valid() {
    for (program, file) in [
        ("ebb-runner", "config/runner.yml"),
        ("ebb-evaluator", "config/evaluator.yml"),
        ("ebb-evaluator", "config/evaluator.paper.yml"),
    ] {
        let (code, said) =
            run(program, &["--config", &paths::root().join(file).display().to_string(), "check"]);
        assert_eq!(code, Some(0), "{file}: {said}");
    }
}

#[test]
fn the_shipped_prometheus_configs_are_valid() {
    for file in ["config/prometheus.yml", "deploy/compose/prometheus.yml"] {
        let path = paths::root().join(file);
        let output = Command::new(promtool()).args(["check", "config"]).arg(path).output().unwrap();
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_runner_refuses_bad_configs_by_file_line_and_field() {
    let bad = |content: &str| check("ebb-runner", "runner.yml", content);
    refused(
        bad("modules:\n  - name: a\n    path: a.wasm\n    kind: command\n    replcas: 2\n"),
        &["runner.yml:5:5", "replcas"],
    );
    refused(
        bad("modules:\n  - name: a\n    path: a.wasm\n    kind: command\n    replicas: many\n"),
        &["runner.yml:5:", "replicas"],
    );
    refused(bad("control: {listen: \"0.0.0.0:9742\"}\nmodules: []\n"), &["runner.yml", "token"]);
}

#[test]
fn the_runner_refuses_a_module_that_is_missing_or_corrupt() {
    let module = |path: &Path| {
        let content =
            format!("modules:\n  - name: broken\n    path: {}\n    kind: command\n", path.display());
        check("ebb-runner", "runner.yml", &content)
    };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("broken.wasm");
    refused(module(&path), &["broken", "broken.wasm"]);
    fs::write(&path, b"\0asm\x01\0\0\0 this is no section").unwrap();
    refused(module(&path), &["broken", "broken.wasm"]);
}

#[test]
fn the_evaluator_refuses_bad_configs_by_file_line_and_field() {
    let bad = |content: &str| check("ebb-evaluator", "evaluator.yml", content);
    let store = "store: {scrape: {targets: [\"127.0.0.1:1\"]}}\n";
    refused(bad(&format!("{store}intervall: 1s\n")), &["evaluator.yml:2:1", "intervall"]);
    refused(bad(&format!("{store}interval: soon\n")), &["evaluator.yml:2:", "interval", "duration"]);
    refused(bad("store: {}\n"), &["evaluator.yml", "exactly one of"]);
}

#[test]
fn the_evaluators_check_reads_the_files_that_its_config_names() {
    let store = "store: {scrape: {targets: [\"127.0.0.1:1\"]}}\n";
    let bad = |content: &str| check("ebb-evaluator", "evaluator.yml", content);
    refused(bad(&format!("{store}bearer_token_file: nope\n")), &["nope"]);
    refused(bad(&format!("{store}runners: {{bearer_token_file: nope}}\n")), &["nope"]);
    let prometheus = "runners: {allow: [\"r:1\"]}\nstore: {prometheus: {url: \"http://p:1\", tls_config: {ca_file: nope}}}\n";
    refused(bad(prometheus), &["nope"]);
    for auth in ["basic_auth: {username: u, password_file: nope}", "authorization: {credentials_file: nope}"]
    {
        let store = format!(
            "runners: {{allow: [\"r:1\"]}}\nstore: {{prometheus: {{url: \"http://p:1\", {auth}}}}}\n"
        );
        refused(bad(&store), &["nope"]);
    }
}

#[test]
fn what_cannot_be_printed_is_no_panic() {
    for (program, config) in [("ebb-evaluator", "evaluator.yml"), ("ebb-runner", "runner.yml")] {
        let config = paths::root().join("config").join(config);
        let output = |stdout: Stdio| {
            Command::new(paths::program(program))
                .arg("--config")
                .arg(&config)
                .arg("check")
                .stdout(stdout)
                .output()
        };
        let full = File::options().write(true).open("/dev/full").unwrap();
        let said = output(full.into()).unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{program}: {text}");
        assert!(text.contains("writing to standard output: No space left on device"), "{text}");
        let (reader, closed) = io::pipe().unwrap();
        drop(reader);
        let said = output(closed.into()).unwrap();
        assert_eq!(said.status.code(), Some(0), "{program}: {}", String::from_utf8_lossy(&said.stderr));
    }
}

#[test]
fn text_of_a_file_reaches_no_terminal_raw() {
    let text = "log: {level: \"\\e[2J\\u202e\\nERROR fake\"}\n";
    for (program, file) in [("ebb-evaluator", "evaluator.yml"), ("ebb-runner", "runner.yml")] {
        let (code, said) = check(program, file, text);
        assert_eq!(code, Some(2), "{said}");
        let is_plain = |line: &str| !line.contains(['\u{1b}', '\u{202e}']) && !line.starts_with("ERROR");
        assert!(said.lines().all(is_plain), "{said:?}");
    }
}

#[test]
fn what_the_evaluators_check_prints_is_a_config_that_means_the_same() {
    let file = paths::root().join("config/evaluator.yml").display().to_string();
    let (_, printed) = run("ebb-evaluator", &["--config", &file, "check"]);
    let (code, again) = check("ebb-evaluator", "evaluator.yml", &printed);
    assert_eq!((code, again), (Some(0), printed));
}

#[test]
fn a_missing_config_file_is_named() {
    for program in ["ebb-runner", "ebb-evaluator"] {
        refused(run(program, &["--config", "/nonexistent.yml"]), &["/nonexistent.yml", "No such file"]);
    }
}

#[test]
fn both_programs_tell_their_version() {
    for program in ["ebb-runner", "ebb-evaluator"] {
        let (code, said) = run(program, &["--version"]);
        assert_eq!(
            (code, said.trim()),
            (Some(0), format!("{program} {}", env!("CARGO_PKG_VERSION")).as_str())
        );
    }
}

#[tokio::test]
async fn both_programs_end_cleanly_on_sigterm() {
    let mut runner = Runner::start(&support::leaky(3)).await;
    let store = support::scrape_store(&[&runner.address]);
    let mut evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    assert_eq!(evaluator.process.terminate().code(), Some(0), "{}", evaluator.process.log());
    assert_eq!(runner.process.terminate().code(), Some(0), "{}", runner.process.log());
}
