//! What operators need besides running: health checks, completions, manual pages, systemd units, what a reload says.

use std::{fs, path::Path, process::Command};

use ebb_testbed::{evaluator::Evaluator, free_address, http, paths, runner::Runner};
use tempfile::TempDir;

use crate::{programs::run, support};

const COMMON: [&str; 5] = ["check", "healthy", "completions", "manual", "schema"];

/// All commands of `program`.
fn commands(program: &str) -> Vec<&'static str> {
    let own: &[&str] = if program == "ebb-evaluator" { &["backtest", "explain"] } else { &[] };
    COMMON.iter().chain(own).copied().collect()
}

const PROGRAMS: [&str; 2] = ["ebb-runner", "ebb-evaluator"];

#[track_caller]
fn said((code, said): (Option<i32>, String), expected_code: i32, expected: &str) {
    assert_eq!(code, Some(expected_code), "{said}");
    assert!(said.contains(expected), "{said}\ncontains {expected}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_runner_is_healthy_while_it_runs() {
    let mut runner = Runner::start(&support::leaky(1)).await;
    let config = runner.dir().join("runner.yml");
    let healthy = format!("{} is ready", runner.address);
    said(run("ebb-runner", &["--config", text(&config), "healthy"]), 0, &healthy);
    // Without a config: images need none for their check.
    said(run("ebb-runner", &["healthy", "--address", &runner.address]), 0, &healthy);
    assert_eq!(runner.process.terminate().code(), Some(0));
    let gone = format!("not ready: connecting to {}; is the program running", runner.address);
    said(run("ebb-runner", &["--config", text(&config), "healthy"]), 1, &gone);
}

#[tokio::test]
async fn an_evaluator_is_healthy_once_it_knows_instances() {
    let runner = Runner::start(&support::leaky(1)).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    let healthy = format!("{} is ready", evaluator.address);
    ebb_testbed::wait::until("the evaluator is ready", support::DEADLINE, async || {
        let asked = run("ebb-evaluator", &["--config", text(&evaluator.config_path()), "healthy"]);
        (asked.0 == Some(0)).then(|| assert!(asked.1.contains(&healthy), "{}", asked.1))
    })
    .await;
    let nobody = free_address();
    let store = support::scrape_store(&[&nobody]);
    let blind = Evaluator::start(&support::evaluator(&store, &[&nobody], "")).await;
    let asked = run("ebb-evaluator", &["healthy", "--address", &blind.address]);
    said(asked, 1, "/-/ready: expected 200, got 503 Service Unavailable");
}

#[test]
fn a_health_check_knows_exit_codes_0_and_1_only() {
    let dir = TempDir::new().unwrap();
    let broken = dir.path().join("broken.yml");
    fs::write(&broken, "modules: [\n").unwrap();
    for program in PROGRAMS {
        said(run(program, &["--config", text(&broken), "healthy"]), 1, "broken.yml:");
        let missing = dir.path().join("missing.yml");
        said(run(program, &["--config", text(&missing), "healthy"]), 1, "missing.yml");
    }
    said(run("ebb-runner", &["healthy"]), 1, "expected --config FILE, EBB_RUNNER_CONFIG, or --address");
    let config = dir.path().join("runner.yml");
    fs::write(&config, "control: {listen: \"127.0.0.1:0\"}\nmodules: []\n").unwrap();
    said(
        run("ebb-runner", &["--config", text(&config), "healthy"]),
        1,
        "expected HOST:PORT on the command line",
    );
}

#[test]
fn completions_know_every_command() {
    for program in PROGRAMS {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let (code, script) = run(program, &["completions", shell]);
            assert_eq!(code, Some(0), "{script}");
            for command in commands(program) {
                assert!(script.contains(command), "{program}: {shell} completes {command}");
            }
        }
        let (_, script) = run(program, &["completions", "bash"]);
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("completions");
        fs::write(&file, format!("{script}\ncomplete -p {program}\n")).unwrap();
        let output = Command::new("bash").arg(&file).output().unwrap();
        assert!(output.status.success(), "bash reads it: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_command_has_a_manual_page_and_a_line_of_help() {
    for program in PROGRAMS {
        let dir = TempDir::new().unwrap();
        // Made if it is not there.
        let folder = dir.path().join("share/man1");
        said(run(program, &["manual", text(&folder)]), 0, "");
        let page = |name: &str| {
            let file = folder.join(format!("{name}.1"));
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        let main = page(program);
        let (_, help) = run(program, &["--help"]);
        for command in commands(program) {
            assert!(main.contains(&command.replace('-', "\\-")), "{program}(1) names {command}");
            let own = page(&format!("{program}-{command}"));
            assert!(own.contains(".TH") && own.contains(".SH SYNOPSIS"), "{own}");
            let line = help.lines().find_map(|line| line.trim().strip_prefix(command));
            assert!(
                line.is_some_and(|line| line.trim().len() > 10),
                "{program} --help tells {command}: {help}"
            );
        }
    }
}

#[test]
fn manual_pages_that_cannot_be_written_are_an_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    said(run("ebb-runner", &["manual", text(&file.join("man1"))]), 1, "writing manual pages to");
}

#[test]
fn systemd_accepts_the_units() {
    for program in PROGRAMS {
        let unit = paths::root().join(format!("deploy/systemd/{program}.service"));
        let content = fs::read_to_string(&unit).unwrap();
        let installed = format!("ExecStart=/usr/bin/{program} ");
        assert!(content.contains(&installed), "{installed}");
        // systemd wants to see the program that is started.
        let built = format!("ExecStart={} ", paths::program(program).display());
        let dir = TempDir::new().unwrap();
        let copy = dir.path().join(format!("{program}.service"));
        fs::write(&copy, content.replace(&installed, &built)).unwrap();
        let analyze = |args: &[&str]| {
            Command::new("systemd-analyze")
                .args(args)
                .arg(&copy)
                .output()
                .expect("systemd-analyze is there: run `scripts/install-systemd.sh`")
        };
        let output = analyze(&["verify", "--man=no"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains(program), "{program}: {said}");
        // Tenths: 10 (exposed) to 0. Both stand below 2 with what they must be able to do.
        let output = analyze(&["security", "--offline=yes", "--threshold=20"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[tokio::test]
async fn a_runners_reload_names_the_keys_that_wait_for_a_new_start() {
    let runner = Runner::start(&support::leaky(1)).await;
    let config = runner.dir().join("runner.yml");
    let changed = fs::read_to_string(&config)
        .unwrap()
        .replace("access_log: true", "access_log: false, max_connections: 7")
        .replace("level: info", "level: debug");
    fs::write(&config, changed).unwrap();
    let reload = http::client().post(format!("http://{}/-/reload", runner.address));
    let (status, answer) = http::answer(reload).await;
    assert_eq!(status, 200, "{answer}");
    let expected = ["http.access_log", "http.max_connections", "log.level"];
    assert_eq!(answer["needs_restart"], serde_json::json!(expected), "{answer}");
    assert_eq!(answer["unchanged"], serde_json::json!(["leaky"]), "{answer}");
    for field in expected {
        runner.process.says(&format!("field=\"{field}\"")).await;
    }
}

#[tokio::test]
async fn an_evaluators_reload_takes_over_what_it_can_and_says_what_it_cannot() {
    let runner = Runner::start(&support::leaky(1)).await;
    let store = support::scrape_store(&[&runner.address]);
    let config = |extra: &str| support::evaluator(&store, &[&runner.address], extra);
    let evaluator = Evaluator::start(&config("")).await;
    let reload =
        async || http::answer(http::client().post(format!("http://{}/-/reload", evaluator.address))).await;
    evaluator.rewrite_config(&config("dry_run: true\n"));
    assert_eq!(reload().await.0, 200);
    ebb_testbed::wait::until("it is a dry run", support::DEADLINE, async || {
        (evaluator.api("status").await["dry_run"] == true).then_some(())
    })
    .await;
    evaluator.rewrite_config(&config("log: {level: debug}\n"));
    assert_eq!(reload().await.0, 200);
    evaluator.process.says("log: a change takes effect when the evaluator is restarted").await;
    let text = fs::read_to_string(evaluator.config_path()).unwrap();
    fs::write(evaluator.config_path(), text.replace(&evaluator.address, "127.0.0.1:1")).unwrap();
    let (status, answer) = reload().await;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("listen, bearer_token_file, web_config_file: cannot be changed"),
        "{answer}"
    );
}
