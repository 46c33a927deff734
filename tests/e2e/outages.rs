//! Programs that are stopped, killed, or out of room, and stores that answer badly: nothing is restarted for it, and
//! afterwards everything goes on by itself.

use std::{
    collections::HashSet,
    fs, io,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use ebb_evaluator::store::{MEMORY_METRIC, START_TIME_METRIC};
use ebb_testbed::{
    evaluator::Evaluator,
    free_address, http, paths,
    process::Process,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    programs::run,
    support::{self, DEADLINE},
};

/// For how long a program is stopped: several times what any of them waits for another.
const STOPPED: Duration = Duration::from_secs(30);

/// A runner, a Prometheus that scrapes it, and an evaluator that reads that.
struct Rig {
    runner: Runner,
    prometheus: Prometheus,
    evaluator: Evaluator,
}

impl Rig {
    /// Six instances that leak, judged, and restarted once at least.
    async fn restarting() -> Self {
        let runner = Runner::start(&support::leaky(6)).await;
        let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
        let store = support::prometheus_store(&prometheus.url);
        let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
        let rig = Self { runner, prometheus, evaluator };
        rig.restarts_beyond(0.0).await;
        rig
    }

    async fn restarted(&self) -> f64 {
        self.evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""])
    }

    async fn restarts_beyond(&self, count: f64) {
        wait::until("instances are restarted", DEADLINE, async || {
            (self.restarted().await > count).then_some(())
        })
        .await;
    }

    async fn holds(&self) -> f64 {
        wait::until("the evaluator holds", DEADLINE, async || {
            (self.evaluator.scrape().await.one("ebb_evaluator_holding", &[]) == Some(1.0)).then_some(())
        })
        .await;
        self.restarted().await
    }

    /// Each generation that was restarted, was once.
    async fn restarted_each_once(&self) {
        each_once(&restarted(&self.evaluator).await);
    }
}

/// Slot and generation of every restart that an evaluator was told was done.
async fn restarted(evaluator: &Evaluator) -> Vec<(u64, u64)> {
    let decisions = evaluator.api("decisions?action=restarted&limit=1000").await;
    let slot = |one: &Value| (one["replica"].as_u64().unwrap(), one["generation"].as_u64().unwrap());
    decisions.as_array().unwrap().iter().map(slot).collect()
}

fn each_once(restarted: &[(u64, u64)]) {
    let mut seen = HashSet::new();
    for order in restarted {
        assert!(seen.insert(order), "{order:?} was restarted twice");
    }
}

/// Stops a process, and lets it go on after [`STOPPED`]. What `meanwhile` gives is checked before that.
async fn stopped<T>(
    process: &Process,
    meanwhile: impl AsyncFnOnce() -> T,
    before_going_on: impl AsyncFnOnce(T),
) {
    process.signal(Signal::SIGSTOP);
    let since = Instant::now();
    let seen = meanwhile().await;
    wait::until("it was stopped for long", 2 * STOPPED, async || (since.elapsed() >= STOPPED).then_some(()))
        .await;
    before_going_on(seen).await;
    process.signal(Signal::SIGCONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_stops_for_thirty_seconds_costs_nothing_but_time() {
    let (one, two, three) = tokio::join!(Rig::restarting(), Rig::restarting(), Rig::restarting());
    let runner_stops = async {
        let holds = async || {
            let before = one.holds().await;
            assert_eq!(one.evaluator.api("instances").await, json!([]), "what is not seen is not judged");
            before
        };
        stopped(&one.runner.process, holds, async |before| assert_eq!(one.restarted().await, before)).await;
        let before = one.restarted().await;
        one.restarts_beyond(before).await;
        one.restarted_each_once().await;
        assert_eq!(one.runner.scrape().await.sum("wasm_instance_restarts_total", &["reason=\"crash\""]), 0.0);
    };
    let evaluator_stops = async {
        let before = two.restarted().await;
        stopped(&two.evaluator.process, async || {}, async |()| {}).await;
        two.restarts_beyond(before).await;
        two.restarted_each_once().await;
    };
    let store_stops = async {
        let mut before = 0.0;
        stopped(
            &three.prometheus.process,
            async || three.holds().await,
            async |restarted| {
                before = restarted;
                assert_eq!(three.restarted().await, restarted);
            },
        )
        .await;
        let held = three.evaluator.scrape().await.sum("ebb_evaluator_held_total", &["reason=\"timeout\""]);
        assert!(held >= 1.0, "a store that does not answer is waited for no longer than its timeout");
        three.restarts_beyond(before).await;
        three.restarted_each_once().await;
    };
    tokio::join!(runner_stops, evaluator_stops, store_stops);
}

#[tokio::test]
async fn a_runner_that_is_killed_amid_restarts_comes_back_and_none_is_restarted_twice() {
    let Rig { mut runner, prometheus: _prometheus, evaluator } = Rig::restarting().await;
    let done =
        async || evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""]);
    for _ in 0..3 {
        let before = done().await;
        let generations = async |runner: &Runner| -> Vec<u64> {
            runner.instances().await.iter().filter_map(|one| one["generation"].as_u64()).collect()
        };
        let newest = generations(&runner).await.into_iter().max().unwrap();
        runner = runner.kill_and_start().await;
        let after = generations(&runner).await;
        assert_eq!(after.len(), 6);
        assert!(after.iter().all(|generation| *generation > newest), "{after:?} after {newest}");
        wait::until("instances are restarted", DEADLINE, async || (done().await > before).then_some(()))
            .await;
    }
    each_once(&restarted(&evaluator).await);
}

#[tokio::test]
async fn an_evaluator_that_is_killed_fifty_times_restarts_none_twice_and_learns_the_same() {
    let mut rig = Rig::restarting().await;
    let mut orders = restarted(&rig.evaluator).await;
    for life in 0..50 {
        rig.evaluator.kill_and_start().await;
        // Now and then after its first order, else in the middle of whatever it does at its start.
        if life % 10 == 0 {
            rig.restarts_beyond(0.0).await;
            orders.extend(restarted(&rig.evaluator).await);
        }
    }
    each_once(&orders);
    let by_threshold =
        rig.runner.scrape().await.sum("wasm_instance_restarts_total", &["reason=\"threshold\""]);
    assert!(by_threshold >= orders.len() as f64, "{by_threshold} of {}", orders.len());

    // With the runner gone no more samples come, and whoever learned from the same ones learned the same.
    rig.runner.process.kill();
    let gone = async |evaluator: &Evaluator| {
        wait::until("no instance lives", DEADLINE, async || {
            let status = evaluator.api("status").await;
            (status["instances"] == 0 && status["populations"] != 0).then_some(())
        })
        .await;
    };
    gone(&rig.evaluator).await;
    let store = support::prometheus_store(&rig.prometheus.url);
    let anew = Evaluator::start(&support::evaluator(&store, &[&rig.runner.address], "")).await;
    let learned = async |evaluator: &Evaluator| -> Vec<Value> {
        let modules = evaluator.api("modules").await;
        let of = |one: &Value| json!([one["sample_size"], one["mean_bytes"], one["threshold"]]);
        modules.as_array().unwrap().iter().map(of).collect()
    };
    let (often_killed, _) = wait::until("both have learned", DEADLINE, async || {
        let both = (learned(&rig.evaluator).await, learned(&anew).await);
        (!both.0.is_empty() && both.0 == both.1).then_some(both)
    })
    .await;
    let learned = &often_killed[0];
    assert!(learned[0].as_u64() > Some(0) && learned[1].is_number(), "{often_killed:?}");
    assert!(learned[2].is_object() || learned[2].is_number(), "{often_killed:?}");
}

/// A program on a file system that is full: its log, and whatever else its config puts there.
struct Cramped {
    process: Process,
    /// The file system, as seen from outside.
    full: PathBuf,
    dir: TempDir,
}

impl Cramped {
    /// `config`: what the program is to run with, for a folder on the file system.
    fn start(program: &str, config: impl Fn(&str) -> String) -> Self {
        let dir = TempDir::new().unwrap();
        let full = dir.path().join("full");
        fs::create_dir(&full).unwrap();
        let path = dir.path().join("config.yml");
        fs::write(&path, config(&full.display().to_string())).unwrap();
        // A mount of this process' own, which goes with it.
        let script = "set -e; mount -t tmpfs -o size=1m tmpfs \"$1\"; head -c 2m /dev/zero >\"$1/filler\" || true; \
                      exec \"$2\" --config \"$3\" >>\"$1/log\" 2>&1";
        let program = paths::program(program);
        let args = ["--mount", "sh", "-c", script, "sh"].map(PathBuf::from).into_iter();
        let args = args.chain([full.clone(), program, path]);
        let process = Process::start("unshare".as_ref(), args, &dir.path().join("start.log"));
        let full = PathBuf::from(format!("/proc/{}/root{}", process.id(), full.display()));
        Self { process, full, dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.full.join("log")).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_full_disk_costs_the_cache_and_the_log_and_nothing_else() {
    let (address, evaluator_address) = (free_address(), free_address());
    let mut runner = Cramped::start("ebb-runner", |full| {
        format!(
            "control: {{listen: {address}}}\nengine: {{compile_cache: {full}/cache}}\nstate_dir: {full}/state\n\
             modules:\n{}",
            support::steady(2)
        )
    });
    let mut evaluator = Cramped::start("ebb-evaluator", |_| {
        let store = support::scrape_store(&[&address]);
        format!("listen: {evaluator_address}\n{}", support::evaluator(&store, &[&address], ""))
    });
    for (cramped, address) in [(&mut runner, &address), (&mut evaluator, &evaluator_address)] {
        let url = format!("http://{address}/-/ready");
        wait::until("it is ready", 2 * DEADLINE, async || {
            assert!(cramped.process.is_running(), "{}{}", cramped.process.log(), cramped.log());
            http::text(&url).await
        })
        .await;
        let filler = fs::metadata(cramped.full.join("filler")).unwrap().len();
        assert!((1..=1 << 20).contains(&filler), "the disk is full of {filler} bytes: {:?}", cramped.dir);
    }
    let restart = async || {
        let order = http::client().post(format!("http://{address}/api/v1/instances/steady/0/restart"));
        assert_eq!(http::answer(order).await.0, 200);
    };
    restart().await;
    let said = runner.log().len();
    // With room again, what is said is written again.
    fs::remove_file(runner.full.join("filler")).unwrap();
    wait::until("the log goes on", DEADLINE, async || {
        restart().await;
        (runner.log().len() > said).then_some(())
    })
    .await;
}

/// How a store misbehaves.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// A byte now and then, for ever.
    Slow,
    /// Half of what it announced.
    Half,
    /// The whole answer, and then again.
    Twice,
    /// A million instances, two series each.
    Million,
}

/// A store that answers every request so, and where it listens. It ends with the runtime of its test.
async fn store(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever asked may hang up at any time.
            tokio::spawn(async move {
                let _ = respond(stream, answer).await;
            });
        }
    });
    format!("http://{address}")
}

async fn respond(mut stream: TcpStream, answer: Answer) -> io::Result<()> {
    let mut request = [0; 16 * 1024];
    let length = stream.read(&mut request).await?;
    let asked = String::from_utf8_lossy(&request[..length]).into_owned();
    let now = SystemTime::now();
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let head = format!(
        "HTTP/1.1 200 OK\r\ndate: {}\r\ncontent-type: application/json\r\nconnection: close\r\n",
        httpdate::fmt_http_date(now)
    );
    // Which modules there are, it tells at once.
    if asked.starts_with("GET /api/v1/label/") {
        let modules = "{\"status\":\"success\",\"data\":[\"m\"]}";
        let head = format!("{head}content-length: {}\r\n\r\n", modules.len());
        return stream.write_all(format!("{head}{modules}").as_bytes()).await;
    }
    let series = |name: &str, replica: u64| {
        format!(
            "{{\"metric\":{{\"__name__\":\"{name}\",\"digest\":\"sha256:0\",\"instance\":\"127.0.0.1:1\",\
             \"module\":\"m\",\"replica\":\"{replica}\"}},\"values\":[[{seconds},\"65536\"]]}}"
        )
    };
    let begin = "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[";
    let whole = format!("{begin}{}]}}}}", series(MEMORY_METRIC, 0));
    match answer {
        Answer::Slow => {
            stream.write_all(format!("{head}content-length: 1000000\r\n\r\n").as_bytes()).await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Answer::Half => {
            let announced = 2 * whole.len();
            stream.write_all(format!("{head}content-length: {announced}\r\n\r\n{whole}").as_bytes()).await
        }
        Answer::Twice => {
            let announced = 2 * whole.len();
            stream
                .write_all(format!("{head}content-length: {announced}\r\n\r\n{whole}{whole}").as_bytes())
                .await
        }
        Answer::Million => {
            stream.write_all(format!("{head}\r\n{begin}").as_bytes()).await?;
            for block in 0..1000 {
                let series: Vec<_> = (block * 1000..(block + 1) * 1000)
                    .flat_map(|replica| [MEMORY_METRIC, START_TIME_METRIC].map(|name| series(name, replica)))
                    .collect();
                stream
                    .write_all(
                        format!("{}{}", if block == 0 { "" } else { "," }, series.join(",")).as_bytes(),
                    )
                    .await?;
            }
            stream.write_all(b"]}}").await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_badly_is_a_named_hold_in_bounded_memory() {
    let check = async |answer: Answer, hold: &str| {
        let config =
            support::evaluator(&support::prometheus_store(&store(answer).await), &["127.0.0.1:1"], "");
        let evaluator = Evaluator::start(&config).await;
        let held = wait::until(&format!("the evaluator holds: {answer:?}"), DEADLINE, async || {
            let held = evaluator.scrape().await.sum("ebb_evaluator_held_total", &[]);
            (held >= 1.0).then(|| evaluator.process.log())
        })
        .await;
        let status = fs::read_to_string(format!("/proc/{}/status", evaluator.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_mib = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
        assert!(peak_mib < STORE_MIB_MAX, "{answer:?}: {peak_mib} MiB\n{held}");
        let asked = ["explain", "m/0", "--evaluator", &evaluator.address];
        let (_, said) = run("ebb-evaluator", &asked);
        assert!(said.starts_with(&format!("All restarts are held: {hold}: ")), "{answer:?}: {said}");
    };
    tokio::join!(
        check(Answer::Slow, "timeout"),
        check(Answer::Half, "query_failed"),
        check(Answer::Twice, "malformed_answer"),
        check(Answer::Million, "malformed_answer"),
    );
}

/// What an evaluator may take at most for an answer that it refuses: the largest one that it reads (256 MiB), twice while
/// its buffer grows, and itself.
const STORE_MIB_MAX: u64 = 700;
