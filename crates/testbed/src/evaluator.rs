//! The evaluator with its config, address and readiness.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{clock::Clock, free_address, http, metrics::Scrape, paths, process::Process, wait};

/// A running evaluator.
#[derive(Debug)]
pub struct Evaluator {
    /// The process.
    pub process: Process,
    /// Where its API listens, `host:port`.
    pub address: String,
    dir: TempDir,
    environment: Vec<(&'static str, OsString)>,
}

/// How long an evaluator may take until its first tick is done.
const READY_WITHIN: Duration = Duration::from_secs(30);

impl Evaluator {
    /// Starts an evaluator with `config`, all of its YAML but `listen`, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// As [`Evaluator::start`], with further flags.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start_with(config: &str, flags: &[&str]) -> Self {
        Self::spawn(free_address(), config, flags, Vec::new()).await
    }

    /// As [`Evaluator::start`], on a clock that a test sets.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start_on(clock: &Clock, config: &str) -> Self {
        Self::spawn(free_address(), config, &[], clock.environment()).await
    }

    /// As [`Evaluator::start`], listening on `address`.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start_at(address: &str, config: &str) -> Self {
        Self::spawn(address.to_owned(), config, &[], Vec::new()).await
    }

    /// As [`Evaluator::start`], of one that `client` can ask by TLS and no other.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn start_secure(config: &str, client: &reqwest::Client) -> Self {
        let mut evaluator = Self::begin(free_address(), config, &[], Vec::new());
        evaluator.listening(Some(client)).await;
        evaluator
    }

    async fn spawn(
        address: String,
        config: &str,
        flags: &[&str],
        environment: Vec<(&'static str, OsString)>,
    ) -> Self {
        let mut evaluator = Self::begin(address, config, flags, environment);
        evaluator.listening(None).await;
        evaluator
    }

    fn begin(
        address: String,
        config: &str,
        flags: &[&str],
        environment: Vec<(&'static str, OsString)>,
    ) -> Self {
        let dir = TempDir::new().expect("a temporary folder can be made");
        fs::write(dir.path().join("evaluator.yml"), format!("listen: {address}\n{config}"))
            .expect("a config can be written");
        let process = spawn(dir.path(), flags, &environment);
        Self { process, address, dir, environment }
    }

    /// Kills it (SIGKILL) and starts it anew.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn kill_and_start(&mut self) {
        self.process.kill();
        self.process = spawn(self.dir.path(), &[], &self.environment);
        self.listening(None).await;
    }

    /// Writes another config, to be reloaded.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn rewrite_config(&self, config: &str) {
        fs::write(self.dir.path().join("evaluator.yml"), format!("listen: {}\n{config}", self.address))
            .expect("a config can be written");
    }

    /// Its config file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("evaluator.yml")
    }

    /// A scrape.
    ///
    /// # Panics
    /// When the evaluator does not answer.
    pub async fn scrape(&self) -> Scrape {
        Scrape::of(&self.address).await.expect("the evaluator answers a scrape")
    }

    /// `GET /api/v1/PATH`.
    ///
    /// # Panics
    /// When the evaluator does not answer.
    pub async fn api(&self, path: &str) -> Value {
        let url = format!("http://{}/api/v1/{path}", self.address);
        http::json(&url).await.unwrap_or_else(|| panic!("the evaluator answers {url}"))
    }

    async fn listening(&mut self, client: Option<&reqwest::Client>) {
        wait::until("the evaluator listens", READY_WITHIN, async || {
            assert!(self.process.is_running(), "the evaluator has ended:\n{}", self.process.log());
            http::answers(client, &self.address, "/-/healthy").await
        })
        .await;
    }
}

fn spawn(dir: &Path, flags: &[&str], environment: &[(&'static str, OsString)]) -> Process {
    let config = dir.join("evaluator.yml");
    let args = [Path::new("--config"), &config].into_iter().chain(flags.iter().map(Path::new));
    Process::start_in(
        &paths::program("ebb-evaluator"),
        args,
        &dir.join("evaluator.log"),
        environment.to_vec(),
        None,
    )
}
