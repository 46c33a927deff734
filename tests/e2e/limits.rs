//! What comes from outside is bounded: connections, and whoever should read the log.

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
};

use ebb_testbed::{
    evaluator::Evaluator,
    free_address,
    http::{self, client},
    load::rude::Rude,
    metrics::Scrape,
    paths,
    runner::Runner,
    wait,
};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{self, DEADLINE};

#[tokio::test]
async fn half_heads_keep_nobody_from_either_program() {
    /// More than either program has room for.
    const HALF_HEADS: usize = 400;
    let runner = Runner::start(&support::steady(1)).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    for address in [&runner.address, &evaluator.address] {
        let open = async || Scrape::of(address).await.unwrap().one("process_open_fds", &[]).unwrap();
        let before = open().await;
        let mut half = Vec::new();
        for _ in 0..HALF_HEADS {
            half.push(Rude::say(address, "GET /metrics HTTP/1.1\r\nhost: a\r\n").await);
        }
        // It answers, and has closed the oldest to do so.
        wait::until("it answers", DEADLINE, async || {
            http::text(&format!("http://{address}/-/healthy")).await
        })
        .await;
        let open = open().await;
        assert!(open < before + 300.0, "{open} descriptors are open, {before} were before");
        drop(half);
    }
}

/// A program whose standard error is a pipe that nobody reads, until the test does.
struct Unread(Child);

impl Unread {
    fn start(program: &str, config: &str) -> (Self, TempDir) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(paths::program(program))
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        (Self(child), dir)
    }

    /// Asks it to end, and reads all that it said.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap());
        signal::kill(pid, Signal::SIGTERM).unwrap();
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How much a pipe holds that nobody reads, in bytes.
const PIPE_BYTES: usize = 64 * 1024;

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_request_and_loses_no_line() {
    const REQUESTS: usize = 2000;
    let (control, gateway) = (free_address(), free_address());
    let (runner, _dir) = Unread::start(
        "ebb-runner",
        &format!(
            "control: {{listen: \"{control}\"}}\nhttp: {{listen: \"{gateway}\", access_log: true}}\n\
             log: {{format: json}}\nengine: {{compile_cache: {}}}\nstate_dir: state\nmodules:\n{}",
            paths::root().join("target/testbed-cache").display(),
            support::http("hello", 2, "max_restarting: 1", "")
        ),
    );
    wait::until("the runner is ready", DEADLINE, async || {
        http::text(&format!("http://{control}/-/ready")).await
    })
    .await;
    for _ in 0..REQUESTS {
        let answer = client().get(format!("http://{gateway}/")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hello\n");
    }
    let dropped = Scrape::of(&control).await.unwrap().one("ebb_runner_log_lines_dropped_total", &[]);
    assert_eq!(dropped, Some(0.0), "there is room for thousands of lines");
    let (code, said) = tokio::task::spawn_blocking(|| runner.end()).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.len() > 2 * PIPE_BYTES, "{} bytes", said.len());
    assert_eq!(said.lines().filter(|line| line.contains("\"target\":\"access\"")).count(), REQUESTS);
    assert!(said.lines().last().unwrap().contains("\"message\":\"stopped\""), "{said:.2000}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_keep_a_program_from_ending() {
    // A port that is taken: the program fails with a message of its own.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "listen: \"{}\"\nstore: {{scrape: {{targets: [\"127.0.0.1:1\"]}}}}\nrunners: {{allow: [\"127.0.0.1:1\"]}}\n",
        taken.local_addr().unwrap()
    );
    let (mut evaluator, _dir) = Unread::start("ebb-evaluator", &config);
    let pipe = evaluator.0.stderr.take().unwrap();
    // What is in the pipe is read after the program has gone.
    let code = tokio::task::spawn_blocking(move || evaluator.0.wait().unwrap().code()).await.unwrap();
    assert_eq!(code, Some(1));
    let said = std::io::read_to_string(pipe).unwrap();
    assert!(said.contains("ebb-evaluator: listening on 127.0.0.1:"), "{said}");
}
