//! Hosts that are not the runner, and the runner: each keeps the host protocol, and the evaluator restarts what leaks there.

use std::{collections::HashSet, fs, path::PathBuf, sync::Arc, time::Duration};

use ebb_conformance::{Options, Report, Token, Verdict};
use ebb_host::{
    control::{self, Access},
    instances::{Instances, Module},
    keeper::{self, Next},
    lifecycle::BackoffPolicy,
    meter::Meter,
    otel,
    slot::{Live, Version},
};
use ebb_testbed::{
    evaluator::Evaluator,
    free_address,
    http::client,
    paths,
    process::Process,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use ebb_units::{ByteCount, Digest, Generation};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

use crate::support::{self, DEADLINE};

/// An example host with two replicas of a module that leaks.
struct Host {
    process: Process,
    /// Where it takes orders, and where it serves if it does.
    address: String,
    data: String,
    kind: Kind,
    dir: TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Embedder,
    Serve,
    Python,
}

/// The token of every host that is given one.
const TOKEN: &str = "a-token-of-the-tests";

impl Host {
    async fn start(kind: Kind, with_token: bool) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("token"), TOKEN).unwrap();
        let (address, data) = (free_address(), free_address());
        let process = spawn(kind, &address, &data, &dir, with_token);
        let host = Self { process, address, data, kind, dir };
        host.answers().await;
        host
    }

    async fn answers(&self) {
        let url = format!("http://{}/metrics", self.address);
        wait::until("the host shows two instances", DEADLINE, async || {
            let text = client().get(&url).send().await.ok()?.text().await.ok()?;
            let live = text.lines().filter(|line| line.starts_with("wasm_linear_memory_bytes{"));
            (live.count() == 2).then_some(())
        })
        .await;
    }

    /// Kills it at once, and starts it again where it was.
    async fn kill_and_start(&mut self) {
        self.process.kill();
        self.process = spawn(self.kind, &self.address, &self.data, &self.dir, false);
        self.answers().await;
    }
}

fn spawn(kind: Kind, address: &str, data: &str, dir: &TempDir, with_token: bool) -> Process {
    let leaky = paths::root().join("examples/leaky.wat").display().to_string();
    let token = dir.path().join("token").display().to_string();
    let token = |flag: &str| if with_token { vec![flag.to_owned(), token.clone()] } else { Vec::new() };
    let (program, mut args, token): (PathBuf, Vec<String>, Vec<String>) = match kind {
        Kind::Embedder => {
            let token = token("").into_iter().filter(|part| !part.is_empty()).collect();
            (paths::program("example-embedder"), vec![address.to_owned(), leaky, "2".to_owned()], token)
        }
        Kind::Serve => {
            let component = paths::guest("test_http").display().to_string();
            let args = ["--listen", data, "--control", address, "--replicas", "2", &component];
            (paths::program("example-serve"), args.map(str::to_owned).to_vec(), token("--token-file"))
        }
        Kind::Python => {
            let python = paths::root().join("target/tools/python-host/bin/python");
            let script = paths::root().join("examples/python/host.py").display().to_string();
            let module = format!("leaky={leaky}");
            let args = [&script, "--listen", address, "--module", &module, "--replicas", "2"];
            (
                paths::existing(python, "make python-host"),
                args.map(str::to_owned).to_vec(),
                token("--token-file"),
            )
        }
    };
    args.extend(token);
    Process::start(&program, args, &dir.path().join("log"))
}

/// Keeps asking for 20 seconds, each answer a kibibyte more of memory; tells how many it has got.
async fn ask(address: String) -> u64 {
    let mut answers = 0;
    let stop = tokio::time::Instant::now() + Duration::from_secs(20);
    while tokio::time::Instant::now() < stop {
        let asked = client().get(format!("http://{address}/grow?bytes=1024")).send().await.unwrap();
        assert_eq!(asked.status(), 200, "{}", asked.text().await.unwrap());
        asked.bytes().await.unwrap();
        answers += 1;
    }
    answers
}

async fn keeps_the_protocol(kind: Kind, with_token: bool) {
    let host = Host::start(kind, with_token).await;
    let mut load = JoinSet::new();
    if kind == Kind::Serve {
        load.spawn(ask(host.data.clone()));
    }
    let token = with_token.then(|| Token::new(TOKEN).unwrap());
    ebb_conformance::check(&Options { token, ..Options::new(&host.address) }).await.assert_conforms();
    load.abort_all();
    while let Some(asked) = load.join_next().await {
        assert!(asked.is_ok() || asked.is_err_and(|error| error.is_cancelled()));
    }
}

#[tokio::test]
async fn the_runner_keeps_the_host_protocol() {
    let runner = Runner::start(&support::leaky(2)).await;
    ebb_conformance::check(&Options::new(&runner.address)).await.assert_conforms();
}

#[tokio::test]
async fn an_embedder_keeps_the_host_protocol() {
    keeps_the_protocol(Kind::Embedder, true).await;
}

#[tokio::test]
async fn a_server_on_proxy_handler_keeps_the_host_protocol() {
    keeps_the_protocol(Kind::Serve, false).await;
}

#[tokio::test]
async fn a_host_in_python_keeps_the_host_protocol() {
    keeps_the_protocol(Kind::Python, true).await;
}

#[tokio::test]
async fn what_traps_behind_proxy_handler_is_followed_by_another_instance() {
    let host = Host::start(Kind::Serve, false).await;
    for _ in 0..5 {
        let trapped = client().get(format!("http://{}/trap", host.data)).send().await.unwrap();
        assert_eq!(trapped.status(), 502);
        // Both instances are there again, or soon; a request waits for one.
        for _ in 0..3 {
            let asked = client().get(format!("http://{}/hello", host.data)).send().await.unwrap();
            assert_eq!((asked.status().as_u16(), asked.text().await.unwrap().as_str()), (200, "hello"));
        }
    }
    let url = format!("http://{}/metrics", host.address);
    let expected = "wasm_instance_restarts_total{module=\"test_http\",reason=\"crash\"} 5";
    wait::until("each trap was followed by a start", DEADLINE, async || {
        let text = client().get(&url).send().await.ok()?.text().await.ok()?;
        text.contains(expected).then_some(())
    })
    .await;
}

/// Restarts what holds more than 2 MiB.
async fn evaluator(host: &Host, store: &str) -> Evaluator {
    let config = support::evaluator(
        store,
        &[&host.address],
        "modules:\n  leaky: &small {policy: static, max_bytes: 2MiB, min_age: 1s}\n  test_http: *small\n",
    );
    Evaluator::start(&config).await
}

async fn restarted(evaluator: &Evaluator, at_least: usize) -> Vec<Value> {
    wait::until("instances were restarted, and their memory fell", DEADLINE * 2, async || {
        let decisions = evaluator.api("decisions?action=restarted&limit=1000").await;
        let decisions = decisions.as_array()?.clone();
        let fell = decisions.iter().filter(|decision| decision["effect"] == "memory_fell").count();
        (fell >= at_least).then_some(decisions)
    })
    .await
}

async fn is_restarted(kind: Kind) {
    let host = Host::start(kind, false).await;
    let prometheus = Prometheus::start(Major::Three, &[&host.address]).await;
    let mut load = JoinSet::new();
    if kind == Kind::Serve {
        for _ in 0..4 {
            load.spawn(ask(host.data.clone()));
        }
    }
    let evaluator = evaluator(&host, &support::prometheus_store(&prometheus.url)).await;
    restarted(&evaluator, 4).await;
    // Not one request has failed.
    while let Some(asked) = load.join_next().await {
        assert!(asked.unwrap() > 10);
    }
}

#[tokio::test]
async fn what_leaks_in_an_embedder_is_restarted() {
    is_restarted(Kind::Embedder).await;
}

#[tokio::test]
async fn what_leaks_in_a_server_on_proxy_handler_is_restarted_without_a_failed_request() {
    is_restarted(Kind::Serve).await;
}

#[tokio::test]
async fn what_leaks_in_a_host_in_python_is_restarted() {
    is_restarted(Kind::Python).await;
}

#[tokio::test]
async fn a_host_that_is_killed_in_the_middle_of_restarts_has_nothing_restarted_twice() {
    let mut host = Host::start(Kind::Python, false).await;
    let evaluator = evaluator(&host, &support::scrape_store(&[&host.address])).await;
    let mut done = 0;
    for kill in 0..5_u32 {
        // At another moment each time: once a decision is told, the next order may be anywhere on its way.
        done = restarted(&evaluator, done + 1).await.len();
        tokio::time::timeout(Duration::from_millis(u64::from(kill * 170)), std::future::pending::<()>())
            .await
            .unwrap_err();
        host.kill_and_start().await;
    }
    let decisions = restarted(&evaluator, done + 1).await;
    let mut restarted = HashSet::new();
    for decision in &decisions {
        let lifetime = (decision["replica"].clone(), decision["generation"].clone());
        assert!(restarted.insert(lifetime), "restarted twice: {decision:#}");
    }
}

/// Checks a host in this process, of one slot, whose starts after the first one fail. One that `goes_away` is gone before it has
/// answered the first order.
async fn checked(token: Option<Token>, goes_away: bool) -> Report {
    let instances = Arc::new(<Instances>::default());
    let version = Version { digest: Digest::of(b"leaky"), memory_limit: ByteCount::mib(64) };
    let module = instances.add(Module::new("leaky".parse().unwrap(), "command", version));
    let mut starts = 0;
    let (leave, mut left) = tokio::sync::watch::channel(false);
    let gone = leave.clone();
    let start = move |next: Next| {
        starts += 1;
        let (is_first, leave) = (starts == 1, leave.clone());
        async move {
            next.meter.set_bytes(ByteCount(65_536));
            if !is_first && goes_away {
                leave.send_replace(true);
                std::future::pending::<()>().await;
            }
            if is_first { Ok((next.ending, next.meter)) } else { Err("no room") }
        }
    };
    // Of its own, so that nothing of it is left when it goes away.
    let host = Runtime::new().unwrap();
    host.spawn(keeper::keep(Arc::clone(&module), module.add_slot(), BackoffPolicy::default(), start));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    host.spawn(
        async move { axum::serve(listener, control::router(instances, Access::ANYONE)).await.unwrap() },
    );
    let leaving = tokio::spawn(async move {
        left.wait_for(|left| *left).await.unwrap();
        host.shutdown_background();
    });
    let report = ebb_conformance::check(&Options { token, ..Options::new(&address) }).await;
    gone.send_replace(true);
    leaving.await.unwrap();
    report
}

#[tokio::test]
async fn a_host_that_cannot_be_checked_is_not_said_to_fail() {
    let token = || Some(Token::new(TOKEN).unwrap());
    for (token, goes_away, expected) in [
        (None, false, "the host cannot restart leaky/0: 503: "),
        (None, true, "error sending request"),
        (token(), false, "takes orders without one"),
    ] {
        let report = checked(token, goes_away).await;
        let problem = report.problem.as_deref().unwrap_or_default();
        assert!(problem.contains(expected), "{problem}");
        assert_eq!((report.verdict, report.failures().count()), (Verdict::NotRun, 0), "{report}");
    }
}

#[test]
fn opentelemetry_is_told_what_a_scrape_is() {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let instances = Arc::new(<Instances>::default());
    let version = Version { digest: Digest::of(b"leaky"), memory_limit: ByteCount::mib(64) };
    let module = instances.add(Module::new("leaky".parse().unwrap(), "command", version.clone()));
    let meter = Arc::new(Meter::default());
    meter.set_bytes(ByteCount(131_072));
    let live = Live { generation: Generation(1_763_848_000_123), version, meter, own: () };
    module.add_slot().set_live(Some(Arc::new(live)));
    otel::register(&instances, &provider.meter("ebb"));
    provider.force_flush().unwrap();
    let told = format!("{:?}", exporter.get_finished_metrics().unwrap());
    for expected in ["wasm.linear_memory", "value: 131072", "value: 1763848000.123", "value: 67108864"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}
