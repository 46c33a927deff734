//! Starts a runner in this process, asks it over HTTP, waits for conditions with a deadline.

use std::{
    fs,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use ebb_runner::{Listeners, RunError, config::Config};
use reqwest::{Client, Method, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const PAGE: u64 = 65_536;

/// Long enough for a loaded machine with one processor; conditions are met in milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Runner {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) reload: Arc<Notify>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
    client: Client,
    token: Option<String>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {}", self.text)).to_owned()
    }
}

/// A config folder: `guests` as files, and a config with `modules` (and `extra` top-level keys).
pub(crate) fn config_folder(guests: &[(&str, String)], modules: &str, extra: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (file, text) in guests {
        fs::write(folder.path().join(file), text).unwrap();
    }
    write_config(folder.path(), modules, extra);
    folder
}

pub(crate) fn write_config(folder: &Path, modules: &str, extra: &str) {
    // One cache for all tests, beside the build: the real thing, and faster.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    let engine = if extra.contains("engine:") {
        String::new()
    } else {
        format!("engine: {{compile_cache: {}}}\n", cache.display())
    };
    let control = if extra.contains("control:") { "" } else { "control: {listen: \"127.0.0.1:0\"}\n" };
    fs::write(folder.join("runner.yml"), format!("{control}{engine}{extra}\nmodules:\n{modules}\n")).unwrap();
}

/// One entry of `modules:`; `extra` are more keys in flow style, each with a comma in front.
pub(crate) fn module(name: &str, replicas: u32, extra: &str) -> String {
    format!("  - {{name: {name}, path: {name}.wat, kind: command, replicas: {replicas}{extra}}}\n")
}

impl Runner {
    /// Starts a runner, and waits until it is ready.
    pub(crate) async fn start(guests: &[(&str, String)], modules: &str) -> Self {
        Self::start_with(guests, modules, "").await
    }

    pub(crate) async fn start_with(guests: &[(&str, String)], modules: &str, extra: &str) -> Self {
        let runner = Self::launch(config_folder(guests, modules, extra)).await;
        eventually("the runner is ready", async || {
            (runner.get("/-/ready").await.status == 200).then_some(())
        })
        .await;
        runner
    }

    pub(crate) async fn launch(folder: TempDir) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
        let config = Config::load(&folder.path().join("runner.yml")).unwrap();
        let token = config.control.bearer_token_file.as_ref().map(|file| fs::read_to_string(file).unwrap());
        let listener = TcpListener::bind(config.control.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
        let http = match &config.http {
            Some(http) => Some(TcpListener::bind(http.listen).await.unwrap()),
            None => None,
        };
        let listeners = Listeners { control: listener, http };
        let task = tokio::spawn(ebb_runner::run(config, listeners, shutdown.clone(), Arc::clone(&reload)));
        Self { folder, address, reload, shutdown, task, client: Client::new(), token }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Waits for the runner to end by itself.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        self.task.await.unwrap()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body.to_owned()).send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = headers.to_vec();
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        self.send(Method::POST, path, &headers, body).await
    }

    pub(crate) async fn restart(&self, slot: &str, if_match: Option<&str>) -> Answer {
        let headers: Vec<_> = if_match.map(|value| ("if-match", value)).into_iter().collect();
        self.post(&format!("/api/v1/instances/{slot}/restart"), &headers, "").await
    }

    pub(crate) async fn instances(&self) -> Vec<Value> {
        self.get("/api/v1/instances").await.json().as_array().unwrap().clone()
    }

    /// The instance `module/replica`; null if there is none.
    pub(crate) async fn instance(&self, slot: &str) -> Value {
        let (module, replica) = slot.split_once('/').unwrap();
        let replica: u64 = replica.parse().unwrap();
        let found = self
            .instances()
            .await
            .into_iter()
            .find(|instance| instance["module"] == module && instance["replica"] == replica);
        found.unwrap_or(Value::Null)
    }

    pub(crate) async fn generation(&self, slot: &str) -> u64 {
        self.instance(slot).await["generation"].as_u64().expect("a live instance")
    }

    /// Waits until the instance has `state`, and returns it.
    pub(crate) async fn instance_in_state(&self, slot: &str, state: &str) -> Value {
        eventually(&format!("{slot} is {state}"), async || {
            let instance = self.instance(slot).await;
            (instance["state"] == state).then_some(instance)
        })
        .await
    }

    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.text
    }

    /// The value of the series whose text before the value is exactly `series`.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        value(&self.metrics().await, series)
    }
}

/// The value of `series` in an exposition.
pub(crate) fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series))?;
    line.rsplit_once(' ').unwrap().1.parse().ok()
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
