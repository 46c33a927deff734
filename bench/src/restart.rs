//! What a restart costs: time from the order to the new instance, and memory that really leaves the process.
//!
//! | key | meaning |
//! | --- | --- |
//! | `restart_p50_us`, `restart_p99_us` | order sent to answer received: the new instance runs, the old one is dropped; a small component, loopback HTTP included |
//! | `reclaimed_over_dirty` | resident memory that left the runner over what the instance had dirtied |
//! | `process_restart_over_restart` | the peer: killing and starting a whole process that hosts the same component, as `wasmtime run` does, with its code compiled before; over ours, medians |

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ebb_testbed::{paths, runner::Runner, wait};

use crate::{
    cpu::resident_bytes,
    report::{Aim, Report},
    restart_latency::restart_latencies_us,
    statistics::{median, percentile},
};

const PROCESS_RESTARTS: usize = 30;
const DIRTY_ROUNDS: usize = 5;
const PAGE_BYTES: f64 = 65_536.0;
/// What a Rust component starts with.
const SMALL_BYTES: u64 = 17 * 65_536;
const BIG_BYTES: u64 = 128 << 20;

#[tokio::main]
pub(crate) async fn run() {
    let mut report = Report::new("restart");
    let runner = Runner::start(&steady(SMALL_BYTES, 0)).await;
    let latencies = restart_latencies_us(&runner, "steady").await;
    drop(runner);
    let ours = median(latencies.clone());
    report.figure("restart_p50_us", ours);
    report.figure("restart_p99_us", percentile(latencies, 0.99));
    let peer = median((0..PROCESS_RESTARTS).map(|_| process_restart()).collect());
    report.figure("process_restart_p50_us", peer * 1e6);
    let mut shares = Vec::new();
    for _ in 0..DIRTY_ROUNDS {
        shares.push(reclaimed_over_dirty().await);
    }
    report.ratio("reclaimed_over_dirty", median(shares), Some(Aim::AtLeast(0.98)));
    report.ratio("process_restart_over_restart", peer * 1e6 / ours, None);
    report.publish();
}

fn steady(required_bytes: u64, ramp_ms: u64) -> String {
    format!(
        "  - name: steady\n    path: {}\n    kind: command\n    replicas: 1\n    memory_limit: 256MiB\n    \
         env: {{REQUIRED_BYTES: \"{required_bytes}\", RAMP_MS: \"{ramp_ms}\"}}\n",
        paths::guest("steady").display()
    )
}

/// A guest dirties 128 MiB and is restarted; the new one has hardly begun its ramp when memory is read.
async fn reclaimed_over_dirty() -> f64 {
    let runner = Runner::start(&steady(BIG_BYTES, 2000)).await;
    let full = BIG_BYTES as f64 - PAGE_BYTES;
    let linear = async || runner.scrape().await.one("wasm_linear_memory_bytes", &[]).unwrap_or(0.0);
    wait::until("the guest holds 128 MiB", Duration::from_secs(30), async || {
        (linear().await >= full).then_some(())
    })
    .await;
    let (linear_before, resident_before) = (linear().await, resident_bytes(runner.process.id()) as f64);
    let response = runner.restart("steady", 0).send().await.expect("the runner answers");
    assert_eq!(response.status(), 200);
    let (linear_after, resident_after) = (linear().await, resident_bytes(runner.process.id()) as f64);
    (resident_before - resident_after) / (linear_before - linear_after)
}

/// Seconds from the kill of a process that hosts the component until a new one's guest has printed its first
/// line.
fn process_restart() -> f64 {
    let start = || {
        let mut child = Command::new(paths::program("bench-run-one"))
            .arg(paths::guest("steady"))
            .env("REQUIRED_BYTES", SMALL_BYTES.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bench-run-one can be started");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("the guest prints a line");
        assert!(!line.is_empty(), "the guest prints its settings at start");
        child
    };
    let mut old = start();
    let restarted = Instant::now();
    old.kill().expect("a child can be killed");
    old.wait().expect("a child can be waited for");
    let mut new = start();
    let seconds = restarted.elapsed().as_secs_f64();
    new.kill().expect("a child can be killed");
    new.wait().expect("a child can be waited for");
    seconds
}
