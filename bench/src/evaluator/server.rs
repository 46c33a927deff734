//! The programs that are measured: a Prometheus with a day of history, and an evaluator that reads it.

use std::{path::Path, time::Duration};

use ebb_testbed::{free_address, http, process::Process, prometheus::Major, wait};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    block,
    feed::{Feed, now_millis},
    fleet::{Fleet, MEMORY_METRIC, SCRAPE_INTERVAL_MILLIS, START_TIME_METRIC, scraped_at},
};
use crate::cpu::CpuClock;

/// Length of history in Prometheus' blocks and head, in hours: as a server has it that has long been
/// running, of which the evaluator's first look reads 24 to 25 hours.
const BLOCK_HOURS: [i64; 2] = [18, 6];
const HEAD_HOURS: i64 = 2;
const SCRAPES_PER_HOUR: i64 = 3_600_000 / SCRAPE_INTERVAL_MILLIS;

/// Same fleet in every run.
const SEED: u64 = 20_260_723;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// What Prometheus still does behind an answer (collecting garbage) belongs to it.
const SETTLE: Duration = Duration::from_millis(500);

/// A Prometheus with history.
pub(crate) struct Prometheus {
    process: Process,
    pub(crate) cpu: CpuClock,
    pub(crate) url: String,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts a Prometheus that knows `instances` instances for 26 hours up to now, and its feed.
    pub(crate) async fn with_history(instances: usize) -> (Self, Feed) {
        let dir = TempDir::new().expect("a temporary folder can be made");
        let now = now_millis().div_euclid(SCRAPE_INTERVAL_MILLIS);
        let hours = HEAD_HOURS + BLOCK_HOURS.iter().sum::<i64>();
        let mut scrape = now - hours * SCRAPES_PER_HOUR;
        let mut fleet = Fleet::new(instances, scraped_at(scrape, 0), SEED);
        for (number, hours) in (1..).zip(BLOCK_HOURS) {
            let end = scrape + hours * SCRAPES_PER_HOUR;
            block::write(&dir.path().join("data"), number, scrape..end, &mut fleet);
            scrape = end;
        }
        std::fs::write(dir.path().join("prometheus.yml"), "{}\n").expect("a config can be written");
        let address = free_address();
        let process = start(dir.path(), &address);
        let cpu = CpuClock::of(process.id());
        let mut prometheus = Self { process, cpu, url: format!("http://{address}"), _dir: dir };
        prometheus.ready().await;
        let mut feed = Feed::new(&prometheus.url, fleet, scrape);
        feed.catch_up().await;
        prometheus.check_history(instances).await;
        (prometheus, feed)
    }

    /// CPU-seconds that Prometheus spends until `work` is done and its traces are cleared away.
    pub(crate) async fn cpu_of<T>(&self, work: impl Future<Output = T>) -> (f64, T) {
        let before = self.cpu.seconds();
        let done = work.await;
        tokio::time::sleep(SETTLE).await;
        (self.cpu.seconds() - before, done)
    }

    /// The values of an instant query's answer.
    pub(crate) async fn query(&self, query: &str) -> Vec<f64> {
        let request = http::client().post(format!("{}/api/v1/query", self.url)).form(&[("query", query)]);
        let (status, answer) = http::answer(request.timeout(Duration::from_secs(600))).await;
        assert_eq!(status, 200, "{query}: {answer}");
        let result = answer["data"]["result"].as_array().expect("an answer has a result");
        let value = |series: &Value| series["value"][1].as_str()?.parse().ok();
        result.iter().map(|series| value(series).expect("a vector has numbers in quotes")).collect()
    }

    async fn ready(&mut self) {
        let url = format!("{}/-/ready", self.url);
        wait::until("Prometheus is ready", READY_WITHIN, async || {
            assert!(self.process.is_running(), "Prometheus has ended:\n{}", self.process.log());
            http::text(&url).await
        })
        .await;
    }

    /// A history with holes would make both sides look cheap.
    async fn check_history(&self, instances: usize) {
        for name in [MEMORY_METRIC, START_TIME_METRIC] {
            let counted = self.query(&format!("sum(count_over_time({name}[24h] offset 10s))")).await;
            let expected = (instances as i64 * 24 * SCRAPES_PER_HOUR) as f64;
            assert_eq!(counted, [expected], "samples of {name}; Prometheus' log:\n{}", self.process.log());
        }
    }
}

fn start(dir: &Path, address: &str) -> Process {
    let path = |name: &str| dir.join(name).display().to_string();
    let args = [
        format!("--config.file={}", path("prometheus.yml")),
        format!("--storage.tsdb.path={}", path("data")),
        format!("--web.listen-address={address}"),
        "--web.enable-remote-write-receiver".to_owned(),
        // The peer's query over all of 10,000 series reads more than the 50 million samples that
        // Prometheus allows by default; a user would have to raise the limit too.
        "--query.max-samples=500000000".to_owned(),
        "--query.timeout=10m".to_owned(),
        // Blocks stay as they are: merging them would be measured along.
        "--storage.tsdb.min-block-duration=2h".to_owned(),
        "--storage.tsdb.max-block-duration=2h".to_owned(),
    ];
    Process::start(&Major::Three.program(), args, &dir.join("prometheus.log"))
}
