//! The runner with its config, address and readiness.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{clock::Clock, free_address, http, metrics::Scrape, paths, process::Process, wait};

/// A running runner.
#[derive(Debug)]
pub struct Runner {
    /// The process.
    pub process: Process,
    /// Where its control API listens, `host:port`.
    pub address: String,
    /// Where it takes requests for modules of kind `http`, `host:port`.
    pub http_address: String,
    dir: TempDir,
    environment: Vec<(&'static str, OsString)>,
    descriptors: Option<(u64, u64)>,
}

/// Settings of the section `http`, unless a test has its own.
const ACCESS_LOG: &str = "access_log: true";

/// How long a runner may take to compile its modules and start their instances. CPython alone takes a runner that was
/// built without optimisation 40 s, and several times that beside other work.
const READY_WITHIN: Duration = Duration::from_secs(240);

impl Runner {
    /// Starts a runner with `modules`, the YAML list below `modules:`, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(modules: &str) -> Self {
        Self::start_with("", modules).await
    }

    /// As [`Runner::start`], with further lines of the `control:` section, indented by two.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with(control: &str, modules: &str) -> Self {
        Self::spawn(control, modules).ready().await
    }

    /// As [`Runner::start`], without an access log.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_quiet(modules: &str) -> Self {
        Self::spawn_serving("", modules, "access_log: false", Vec::new(), None).ready().await
    }

    /// As [`Runner::start`], with settings `http` of the section of that name.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with_http(http: &str, modules: &str) -> Self {
        Self::spawn_serving("", modules, http, Vec::new(), None).ready().await
    }

    /// As [`Runner::start`], with a soft and a hard limit of file descriptors.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_limited(descriptors: (u64, u64), modules: &str) -> Self {
        Self::spawn_limited(descriptors, modules).ready().await
    }

    /// As [`Runner::start_limited`], without waiting.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn_limited(descriptors: (u64, u64), modules: &str) -> Self {
        Self::spawn_serving("", modules, ACCESS_LOG, Vec::new(), Some(descriptors))
    }

    /// As [`Runner::start`], on a clock that a test sets.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_on(clock: &Clock, modules: &str) -> Self {
        Self::spawn_serving("", modules, ACCESS_LOG, clock.environment(), None).ready().await
    }

    /// Kills it (SIGKILL), starts it anew and waits until it is ready.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn kill_and_start(mut self) -> Self {
        self.process.kill();
        self.process = start(self.dir.path(), &self.environment, self.descriptors);
        self.ready().await
    }

    /// As [`Runner::start_with`], of one that `client` can ask by TLS and no other.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_secure(control: &str, modules: &str, client: &reqwest::Client) -> Self {
        Self::spawn(control, modules).ready_by(Some(client)).await
    }

    async fn ready(self) -> Self {
        self.ready_by(None).await
    }

    async fn ready_by(mut self, client: Option<&reqwest::Client>) -> Self {
        wait::until("the runner is ready", READY_WITHIN, async || {
            assert!(self.process.is_running(), "the runner has ended:\n{}", self.process.log());
            http::answers(client, &self.address, "/-/ready").await
        })
        .await;
        self
    }

    /// Starts a runner and does not wait.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(control: &str, modules: &str) -> Self {
        Self::spawn_serving(control, modules, ACCESS_LOG, Vec::new(), None)
    }

    fn spawn_serving(
        control: &str,
        modules: &str,
        http: &str,
        environment: Vec<(&'static str, OsString)>,
        descriptors: Option<(u64, u64)>,
    ) -> Self {
        let dir = TempDir::new().expect("a temporary folder can be made");
        // For modules that see a folder of the host.
        fs::create_dir(dir.path().join("volume")).expect("a folder can be made");
        let (address, http_address) = (free_address(), free_address());
        write_config(dir.path(), &address, &http_address, control, modules, http);
        let process = start(dir.path(), &environment, descriptors);
        Self { process, address, http_address, dir, environment, descriptors }
    }

    /// Writes another config, to be reloaded.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn rewrite_config(&self, control: &str, modules: &str) {
        write_config(self.dir.path(), &self.address, &self.http_address, control, modules, ACCESS_LOG);
    }

    /// A folder that lives as long as the runner.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// A scrape.
    ///
    /// # Panics
    /// When the runner does not answer.
    pub async fn scrape(&self) -> Scrape {
        Scrape::of(&self.address).await.expect("the runner answers a scrape")
    }

    /// `GET /api/v1/instances`.
    ///
    /// # Panics
    /// When the runner does not answer.
    pub async fn instances(&self) -> Vec<Value> {
        let answer = http::json(&format!("http://{}/api/v1/instances", self.address)).await;
        let answer = answer.expect("the runner lists its instances");
        answer.as_array().or_else(|| answer["instances"].as_array()).expect("a list").clone()
    }

    /// The instance that lives in a slot, as the API lists it.
    ///
    /// # Panics
    /// When there is no such slot.
    pub async fn instance(&self, module: &str, replica: u64) -> Value {
        let instances = self.instances().await;
        let found = instances.into_iter().find(|one| one["module"] == module && one["replica"] == replica);
        found.unwrap_or_else(|| panic!("the runner has no slot {module}/{replica}"))
    }

    /// `POST …/restart`, to be completed and sent.
    pub fn restart(&self, module: &str, replica: u64) -> reqwest::RequestBuilder {
        http::client().post(format!("http://{}/api/v1/instances/{module}/{replica}/restart", self.address))
    }
}

fn start(dir: &Path, environment: &[(&'static str, OsString)], descriptors: Option<(u64, u64)>) -> Process {
    let config = dir.join("runner.yml");
    let args = [Path::new("--config"), &config];
    let log = dir.join("runner.log");
    Process::start_in(&paths::program("ebb-runner"), args, &log, environment.to_vec(), descriptors)
}

fn write_config(dir: &Path, address: &str, http_address: &str, control: &str, modules: &str, http: &str) {
    // One cache for all runners of a test run: each guest is compiled once.
    let cache = paths::root().join("target/testbed-cache");
    let config = format!(
        "control:\n  listen: {address}\n{control}\nhttp: {{listen: {http_address}, {http}}}\nlog: {{format: text, level: info}}\n\
         engine: {{compile_cache: {}}}\nstate_dir: state\nmodules:\n{modules}\n",
        cache.display()
    );
    fs::write(dir.join("runner.yml"), config).expect("a config can be written");
}
