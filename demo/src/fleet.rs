//! What the demo runs: real processes on free loopback ports.

use clap::ValueEnum;
use ebb_testbed::{
    evaluator::Evaluator,
    load::storage::Clients,
    paths,
    prometheus::{Major, Prometheus},
    runner::Runner,
};

/// Where the evaluator gets its samples from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// From the runners themselves.
    Scrape,
    /// From a real Prometheus.
    Prometheus,
}

/// The demo's processes. They end with this value.
pub(crate) struct Fleet {
    pub(crate) clients: Clients,
    pub(crate) evaluator: Evaluator,
    prometheus: Option<Prometheus>,
    runners: [Runner; 2],
}

impl Fleet {
    pub(crate) async fn start(store: StoreKind) -> Self {
        let modules = modules();
        let runners = [Runner::start_quiet(&modules).await, Runner::start_quiet(&modules).await];
        let targets: Vec<&str> = runners.iter().map(|runner| runner.address.as_str()).collect();
        let prometheus = match store {
            StoreKind::Scrape => None,
            StoreKind::Prometheus => Some(Prometheus::start(Major::Three, &targets).await),
        };
        let store = match &prometheus {
            None => format!("store: {{scrape: {{targets: [{}]}}}}", quoted(&targets)),
            Some(prometheus) => {
                format!("store: {{prometheus: {{url: \"{}\", overlap: 5s}}}}", prometheus.url)
            }
        };
        let evaluator = Evaluator::start(&evaluator_config(&store, &targets)).await;
        let clients = Clients::start(runners.iter().map(|runner| runner.http_address.as_str())).await;
        Self { clients, evaluator, prometheus, runners }
    }

    /// Where to look while the demo runs.
    pub(crate) fn addresses(&self) -> String {
        let mut lines = Vec::new();
        for runner in &self.runners {
            lines.push(format!("  runner      http://{}/metrics", runner.address));
            lines.push(format!("  storage     http://{}/", runner.http_address));
        }
        if let Some(prometheus) = &self.prometheus {
            lines.push(format!("  prometheus  {}", prometheus.url));
        }
        lines.push(format!("  evaluator   http://{}/", self.evaluator.address));
        lines.join("\n")
    }
}

/// One module that leaks, one that needs what it needs, one that rarely needs a lot; and the storage service,
/// which swells with the largest file that it was sent.
fn modules() -> String {
    let module = |name: &str, replicas: u32, env: &str| {
        format!(
            "  - name: {name}\n    path: {}\n    kind: command\n    replicas: {replicas}\n    memory_limit: 256MiB\n    \
             env: {{{env}}}\n",
            paths::guest(name).display()
        )
    };
    let leaks = "LEAK_BYTES_MIN: \"65536\", LEAK_BYTES_MAX: \"786432\", LEAK_EVERY_MS_MIN: \"200\", LEAK_EVERY_MS_MAX: \"1200\"";
    let bursts = "BURST_BYTES: \"16777216\", BURST_PROBABILITY: \"0.004\", STEP_MS: \"500\"";
    [
        module("leaky", 6, leaks),
        module("steady", 4, "REQUIRED_BYTES: \"6291456\""),
        module("bursty", 6, bursts),
        storage(),
    ]
    .concat()
}

fn storage() -> String {
    format!(
        "  - name: storage\n    path: {}\n    kind: http\n    replicas: 4\n    memory_limit: 256MiB\n    \
         dirs: [{{host: volume, guest: /volume}}]\n",
        paths::guest("storage").display()
    )
}

/// The shipped defaults on an accelerated clock: a tick a second instead of every ten, and a restart is worth what a leak
/// of half a MiB a second holds in excess within half a minute. A storage instance that took in a video is above its
/// ceiling, whatever the others took in.
fn evaluator_config(store: &str, runners: &[&str]) -> String {
    format!(
        "interval: 1s\nlookback: 1h\n{store}\nhold: {{stale_after: 5s}}\n\
         runners: {{allow: [{}]}}\n\
         budget: {{restarts_per_minute: 60, burst: 6, cooldown: 5s}}\n\
         defaults: {{restart_price: 16MiB*15s, min_age: 12s, min_reclaim: 1MiB}}\n\
         modules: {{storage: {{max_bytes: 16MiB}}}}\n",
        quoted(runners)
    )
}

fn quoted(addresses: &[&str]) -> String {
    addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
}
