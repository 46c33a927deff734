//! Prometheus with its config, address and readiness.

use std::{
    fmt, fs,
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{free_address, http, paths, process::Process, wait};

/// A major version that users run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Major {
    /// Prometheus 2.
    Two,
    /// Prometheus 3.
    Three,
}

impl Major {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Two, Self::Three];

    /// Its program.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn program(self) -> PathBuf {
        let path = paths::root().join(format!("target/prometheus/{self}/prometheus"));
        paths::existing(path, "scripts/install-prometheus.sh")
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Two => "2",
            Self::Three => "3",
        })
    }
}

/// `promtool`, which checks expositions and rules.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn promtool() -> PathBuf {
    paths::existing(paths::root().join("target/prometheus/2/promtool"), "scripts/install-prometheus.sh")
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// The process.
    pub process: Process,
    /// Where its API begins: `http://127.0.0.1:PORT`.
    pub url: String,
    major: Major,
    address: String,
    dir: TempDir,
}

/// How long Prometheus may take to open an empty or small database.
const READY_WITHIN: Duration = Duration::from_secs(60);

impl Prometheus {
    /// Starts a Prometheus that scrapes `targets` once a second, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(major: Major, targets: &[&str]) -> Self {
        let list: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n- job_name: ebb-runner\n  static_configs: [{{targets: [{}]}}]\n",
            list.join(", ")
        );
        Self::start_with(major, &config, &[]).await
    }

    /// Starts a Prometheus with a config file of its own and further flags.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with(major: Major, config: &str, flags: &[&str]) -> Self {
        Self::start_in(TempDir::new().expect("a temporary folder can be made"), major, config, flags).await
    }

    async fn start_in(dir: TempDir, major: Major, config: &str, flags: &[&str]) -> Self {
        fs::write(dir.path().join("prometheus.yml"), config).expect("a config can be written");
        let address = free_address();
        let process = spawn(major, &address, &dir, flags);
        let mut prometheus = Self { process, url: format!("http://{address}"), major, address, dir };
        prometheus.ready().await;
        prometheus
    }

    /// Starts a Prometheus that scrapes nothing and knows `history`: an exposition in OpenMetrics' text format with a time for each
    /// sample.
    ///
    /// # Panics
    /// When it does not become ready, or the history cannot be read.
    pub async fn start_with_history(major: Major, history: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder can be made");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("history.txt"), history).expect("a file can be written");
        let made = Command::new(promtool())
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([path("history.txt"), path("data")])
            .output()
            .expect("promtool runs");
        assert!(made.status.success(), "promtool: {}", String::from_utf8_lossy(&made.stderr));
        Self::start_in(dir, major, "scrape_configs: []\n", &[]).await
    }

    /// Kills it and starts it anew on the same database and address.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn start_again(&mut self) {
        self.process = spawn(self.major, &self.address, &self.dir, &[]);
        self.ready().await;
    }

    /// The values of `label` in what `selector` selects.
    ///
    /// # Panics
    /// When there is no answer.
    pub(crate) async fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let url = format!("{}/api/v1/label/{label}/values", self.url);
        let (_, answer) = http::answer(http::client().get(url).query(&[("match[]", selector)])).await;
        let values = answer["data"].as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    /// The series that `expr` gives now.
    ///
    /// # Errors
    /// The server's words, when it refuses.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn query(&self, expr: &str) -> Result<Vec<Value>, String> {
        self.ask("query", &[("query", expr.to_owned())]).await
    }

    /// The series that `expr` gave within the last `window`, once a second.
    ///
    /// # Errors
    /// The server's words, when it refuses.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn query_range(&self, expr: &str, window: Duration) -> Result<Vec<Value>, String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
        let parameters = [
            ("query", expr.to_owned()),
            ("start", now.saturating_sub(window).as_secs_f64().to_string()),
            ("end", now.as_secs_f64().to_string()),
            ("step", "1".to_owned()),
        ];
        self.ask("query_range", &parameters).await
    }

    async fn ask(&self, path: &str, parameters: &[(&str, String)]) -> Result<Vec<Value>, String> {
        let request = http::client().post(format!("{}/api/v1/{path}", self.url)).form(parameters);
        let (status, answer) = http::answer(request).await;
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(format!("{status}: {}", answer["error"])),
        }
    }

    async fn ready(&mut self) {
        let url = format!("{}/-/ready", self.url);
        wait::until("Prometheus is ready", READY_WITHIN, async || {
            assert!(self.process.is_running(), "Prometheus has ended:\n{}", self.process.log());
            http::text(&url).await
        })
        .await;
    }
}

fn spawn(major: Major, address: &str, dir: &TempDir, flags: &[&str]) -> Process {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut args = vec![
        format!("--config.file={}", path("prometheus.yml")),
        format!("--storage.tsdb.path={}", path("data")),
        format!("--web.listen-address={address}"),
    ];
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Process::start(&major.program(), args, &dir.path().join("prometheus.log"))
}
