//! What comes from outside is bounded: connections, answers, and whoever should read the log.

use std::{
    fs,
    io::{self, PipeReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
};

use ebb_testbed::{
    evaluator::Evaluator,
    free_address,
    http::{self, client},
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
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{self, DEADLINE, rude::Rude};

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
struct Unread {
    child: Child,
    pipe: PipeReader,
}

impl Unread {
    /// `before`: what is in the pipe already.
    fn start(program: &str, config: &str, before: &[u8]) -> (Self, TempDir) {
        let (pipe, mut stderr) = io::pipe().unwrap();
        stderr.write_all(before).unwrap();
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
            .stderr(stderr)
            .spawn()
            .unwrap();
        (Self { child, pipe }, dir)
    }

    /// Asks it to end, and reads all that it said.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        signal::kill(pid, Signal::SIGTERM).unwrap();
        let mut said = String::new();
        self.pipe.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        b"",
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
    // The pipe is full before the program writes its first line.
    let (mut evaluator, _dir) = Unread::start("ebb-evaluator", &config, &[b'x'; PIPE_BYTES]);
    let ended = async || evaluator.child.try_wait().unwrap();
    let status = wait::until("it has ended", DEADLINE, ended).await;
    assert_eq!(status.code(), Some(1));
    let mut said = String::new();
    evaluator.pipe.read_to_string(&mut said).unwrap();
    assert!(said.starts_with(&"x".repeat(PIPE_BYTES)), "{}", said.len());
}

/// A store that knows the module `steady`, and answers everything else with `answer`.
async fn store(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 16 * 1024];
                // An evaluator that stops in the middle is none of the store's business.
                while let Ok(read @ 1..) = connection.read(&mut request).await {
                    let asks_for_modules = request[..read].starts_with(b"GET /api/v1/label/module/values");
                    let answer = if asks_for_modules {
                        r#"{"status": "success", "data": ["steady"]}"#
                    } else {
                        &*answer
                    };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        answer.len()
                    );
                    if connection
                        .write_all([head.as_bytes(), answer.as_bytes()].concat().as_slice())
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_store_that_shouts_is_quoted_once_and_in_a_few_words() {
    let warning = "x".repeat(20_000_000);
    let url = store(format!(
        r#"{{"status": "success", "warnings": ["{warning}", "y"], "data": {{"resultType": "matrix", "result": []}}}}"#
    ))
    .await;
    let config = support::evaluator(&support::prometheus_store(&url), &["127.0.0.1:1"], "");
    let evaluator = Evaluator::start(&config).await;
    wait::until("it has held for some ticks", DEADLINE, async || {
        let held = evaluator.scrape().await.sum("ebb_evaluator_held_total", &["reason=\"partial_answer\""]);
        (held >= 4.0).then_some(())
    })
    .await;
    let status = evaluator.api("status").await;
    let message = status["hold"]["message"].as_str().unwrap();
    assert!(message.ends_with("x… (20000000 bytes in all), and 1 more warnings"), "{message:.2000}");
    let page = http::text(&format!("http://{}/", evaluator.address)).await.unwrap();
    assert!(page.len() < 100_000, "{} bytes", page.len());
    let log = evaluator.process.log();
    assert!(log.len() < 20_000, "{} bytes", log.len());
    let told = log.lines().filter(|line| line.contains("holding all restarts")).count();
    assert_eq!(told, 1, "{log}");
}

#[tokio::test]
async fn an_answer_that_says_error_orders_nothing() {
    let runner = Runner::start(&support::steady(1)).await;
    let generation = runner.instance("steady", 0).await["generation"].as_u64().unwrap();
    // Complete data, of memory that no instance should hold, beside a status that says that it is worth nothing.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let labels = |metric: &str, replica: u32| {
        format!(
            r#""metric": {{"__name__": "{metric}", "module": "steady", "digest": "d", "replica": "{replica}", "instance": "{}"}}"#,
            runner.address
        )
    };
    let series: Vec<_> = (0..5)
        .flat_map(|replica| {
            let bytes = if replica == 0 { 1 << 30 } else { 1 << 20 };
            let started = if replica == 0 { generation as f64 / 1000.0 } else { now - 3000.0 };
            [
                format!(
                    "{{{}, \"values\": [[{now}, \"{bytes}\"]]}}",
                    labels("wasm_linear_memory_bytes", replica)
                ),
                format!(
                    "{{{}, \"values\": [[{now}, \"{started}\"]]}}",
                    labels("wasm_instance_start_time_seconds", replica)
                ),
            ]
        })
        .collect();
    let url = store(format!(
        r#"{{"status": "error", "errorType": "internal", "error": "a block is corrupt", "data": {{"resultType": "matrix", "result": [{}]}}}}"#,
        series.join(", ")
    ))
    .await;
    let config = support::evaluator(&support::prometheus_store(&url), &[&runner.address], "");
    let evaluator = Evaluator::start(&config).await;
    wait::until("it has held for some ticks", DEADLINE, async || {
        let held = evaluator.scrape().await.sum("ebb_evaluator_held_total", &["reason=\"malformed_answer\""]);
        (held >= 3.0).then_some(())
    })
    .await;
    let scrape = evaluator.scrape().await;
    assert_eq!(scrape.sum("ebb_evaluator_samples_total", &[]), 0.0);
    assert_eq!(scrape.sum("ebb_evaluator_restarts_total", &[]), 0.0);
    assert_eq!(runner.instance("steady", 0).await["generation"], generation);
    assert!(evaluator.process.log().contains("a block is corrupt"), "{}", evaluator.process.log());
}
