//! What operators need besides running: health checks.

use std::{fs, path::Path};

use ebb_testbed::{evaluator::Evaluator, free_address, runner::Runner};
use tempfile::TempDir;

use crate::{programs::run, support};

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
    said(run("ebb-runner", &["--config", text(&config), "healthy"]), 1, "expected --address HOST:PORT");
}
