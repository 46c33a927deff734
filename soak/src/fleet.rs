//! Two runners, Prometheus, an evaluator and clients, and what they say of themselves.

use std::time::Duration;

use ebb_testbed::{
    evaluator::Evaluator,
    load::{
        Load,
        ask::{Ask, Expected, Pattern},
        storage::Clients,
    },
    metrics::Scrape,
    paths,
    process::Process,
    prometheus::{Major, Prometheus},
    runner::Runner,
};
use ebb_units::Span;

use crate::{
    reading::Held,
    report::{Progress, Unread, Watched},
};

/// The host that requests for the module `echo` name.
const ECHO_HOST: &str = "echo.test";

/// Clients of `echo` at each runner, and how long each rests after an answer.
const ECHO_CLIENTS: usize = 4;
const ECHO_PAUSE: Duration = Duration::from_millis(50);

const RUNNER_1: Watched = Watched { name: "runner 1", is_judged: true, has_guests: true };
const RUNNER_2: Watched = Watched { name: "runner 2", ..RUNNER_1 };
const EVALUATOR: Watched = Watched { name: "evaluator", is_judged: true, has_guests: false };
const PROMETHEUS: Watched = Watched { name: "Prometheus", is_judged: false, has_guests: false };

/// The processes that are watched. Prometheus is not ours.
pub(crate) const WATCHED: [Watched; 4] = [RUNNER_1, RUNNER_2, EVALUATOR, PROMETHEUS];

/// All processes and their clients. They end with this value.
pub(crate) struct Fleet {
    storage: Clients,
    echo: Vec<Load>,
    evaluator: Evaluator,
    prometheus: Prometheus,
    runners: [Runner; 2],
}

impl Fleet {
    /// Starts all of it, to run for `length`.
    pub(crate) async fn start(length: Duration) -> Self {
        let modules = modules();
        let runners = [Runner::start_quiet(&modules).await, Runner::start_quiet(&modules).await];
        let targets: Vec<&str> = runners.iter().map(|runner| runner.address.as_str()).collect();
        let prometheus = Prometheus::start(Major::Three, &targets).await;
        let evaluator = Evaluator::start(&evaluator_config(&prometheus.url, &targets, length)).await;
        let storage = Clients::start(runners.iter().map(|runner| runner.http_address.as_str())).await;
        let echo = runners
            .iter()
            .map(|runner| Load::start_at_leisure(&runner.http_address, ECHO_CLIENTS, ECHO_PAUSE, echo))
            .collect();
        Self { storage, echo, evaluator, prometheus, runners }
    }

    /// What each process holds now, by name. What could not be read is noted.
    pub(crate) async fn read(&self, unread: &mut Unread) -> Vec<(&'static str, Held)> {
        let mut read = Vec::new();
        for (watched, runner) in [RUNNER_1, RUNNER_2].into_iter().zip(&self.runners) {
            let Some(scrape) = Scrape::of(&runner.address).await else {
                unread.note(|| format!("{}: its metrics could not be scraped", watched.name));
                continue;
            };
            let linear_bytes = scrape.sum("wasm_linear_memory_bytes", &[]);
            read.push((watched, Held::read(runner.process.id(), Some(linear_bytes))));
        }
        for (watched, process) in
            [(EVALUATOR, &self.evaluator.process), (PROMETHEUS, &self.prometheus.process)]
        {
            read.push((watched, Held::read(process.id(), None)));
        }
        let mut held = Vec::new();
        for (Watched { name, .. }, read) in read {
            match read {
                Ok(read) => held.push((name, read)),
                Err(error) => unread.note(|| format!("{name}: {error}")),
            }
        }
        held
    }

    /// The first process that has ended, and its log.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let [one, two] = &mut self.runners;
        let processes: [(&str, &mut Process); 4] = [
            (RUNNER_1.name, &mut one.process),
            (RUNNER_2.name, &mut two.process),
            (EVALUATOR.name, &mut self.evaluator.process),
            (PROMETHEUS.name, &mut self.prometheus.process),
        ];
        processes.into_iter().find_map(|(name, process)| {
            (!process.is_running()).then(|| format!("{name} has ended: {}", process.log()))
        })
    }

    /// What was done by now; the `last` known restarts if the evaluator does not answer.
    pub(crate) async fn progress(&self, last: Progress) -> Progress {
        let restarts =
            |scrape: Scrape| scrape.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""]) as u64;
        let scrape = Scrape::of(&self.evaluator.address).await;
        Progress {
            restarts: scrape.map_or(last.restarts, restarts),
            served: self.storage.served() + self.echo.iter().map(Load::served).sum::<u64>(),
            failed: self.storage.failed() + self.echo.iter().map(Load::failed).sum::<u64>(),
        }
    }

    /// The first requests that failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let echo = self.echo.iter().flat_map(Load::failures);
        self.storage.failures().into_iter().chain(echo).collect()
    }
}

/// A command that leaks; the storage service, which swells with the largest file that it was sent; and a service that echoes
/// and, by one request in 16, is told to keep 64 KiB.
fn modules() -> String {
    let leaks = "LEAK_BYTES_MIN: \"65536\", LEAK_BYTES_MAX: \"786432\", LEAK_EVERY_MS_MIN: \"200\", LEAK_EVERY_MS_MAX: \"1200\"";
    format!(
        "  - {{name: leaky, path: {}, kind: command, replicas: 6, memory_limit: 256MiB, env: {{{leaks}}}}}\n  \
           - {{name: storage, path: {}, kind: http, replicas: 4, memory_limit: 256MiB, dirs: [{{host: volume, guest: /volume}}]}}\n  \
           - {{name: echo, path: {}, kind: http, replicas: 4, memory_limit: 256MiB, http: {{routes: [{{host: {ECHO_HOST}}}]}}}}\n",
        paths::guest("leaky").display(),
        paths::guest("storage").display(),
        paths::guest("test_http").display()
    )
}

/// The shipped defaults on an accelerated clock, as in the demo. The lookback is short, so that the history is full before the
/// warm-up is over.
fn evaluator_config(prometheus: &str, runners: &[&str], length: Duration) -> String {
    let lookback = Span(Duration::from_secs(length.as_secs() / 8).max(Duration::from_secs(20)));
    let allow: Vec<_> = runners.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "interval: 1s\nlookback: {lookback}\nstore: {{prometheus: {{url: \"{prometheus}\", overlap: 5s}}}}\n\
         hold: {{stale_after: 10s}}\nrunners: {{allow: [{}]}}\n\
         budget: {{restarts_per_minute: 60, burst: 6, cooldown: 5s}}\n\
         defaults: {{restart_price: 16MiB*15s, min_age: 12s, min_reclaim: 1MiB}}\n\
         modules: {{storage: {{max_bytes: 16MiB}}}}\n",
        allow.join(", ")
    )
}

fn echo(n: u64) -> Ask {
    let ask = match n % 16 {
        15 => Ask::get("/grow?bytes=65536", Expected::Anything),
        _ => Ask::echo(Pattern { bytes: 1024 << (n % 8), seed: n }),
    };
    ask.of(ECHO_HOST)
}
