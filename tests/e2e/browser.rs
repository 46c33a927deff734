//! A real Chromium, driven through its WebDriver.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use ebb_testbed::{free_address, http, paths, process::Process, wait};
use tempfile::TempDir;
use thirtyfour::{By, ChromeCapabilities, ChromiumLikeCapabilities as _, LoggingPrefsLogLevel, WebDriver};

use crate::support::DEADLINE;

/// How long the driver may take to start, and the browser with it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Switches that keep the browser off the network and let it run as root, where there is no sandbox.
const SWITCHES: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with a profile of its own. It ends with this value.
#[derive(Debug)]
pub(crate) struct Browser {
    /// The session.
    pub(crate) driver: WebDriver,
    // After the session, which it serves.
    _chromedriver: Process,
    devtools: String,
    dir: TempDir,
}

impl Browser {
    /// Starts a browser with a window of `size`, in pixels.
    pub(crate) async fn start(size: (u32, u32)) -> Self {
        assert!(
            ["chromedriver", "chromium"].into_iter().all(is_installed),
            "Chromium or its driver is missing: run `scripts/install-chromium.sh`"
        );
        let dir = TempDir::new().expect("a temporary folder can be made");
        let address = free_address();
        let port = address.rsplit_once(':').expect("an address has a port").1;
        let args = [format!("--port={port}")];
        let chromedriver =
            Process::start(Path::new("chromedriver"), args, &dir.path().join("chromedriver.log"));
        let status = format!("http://{address}/status");
        wait::until("chromedriver is ready", READY_WITHIN, async || http::json(&status).await).await;
        let capabilities = capabilities(dir.path(), size).expect("capabilities are JSON");
        let driver = WebDriver::new(format!("http://{address}"), capabilities).await;
        let driver = driver.unwrap_or_else(|error| {
            panic!("starting Chromium: {error}\n{}", chromedriver.log());
        });
        let devtools = format!("http://{address}/session/{}/goog/cdp/execute", driver.handle().session_id());
        Self { driver, _chromedriver: chromedriver, devtools, dir }
    }

    /// Gives a command of the Chrome DevTools protocol, such as `Emulation.setScriptExecutionDisabled`.
    pub(crate) async fn devtools(&self, command: &str, params: serde_json::Value) {
        let body = serde_json::json!({ "cmd": command, "params": params }).to_string();
        let request = http::client().post(&self.devtools).header("content-type", "application/json");
        let (status, answer) = http::answer(request.body(body)).await;
        assert_eq!(status, 200, "{command}: {answer}");
    }

    /// Gives the page a size of its own, in pixels: a window is never as narrow as a telephone.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size =
            serde_json::json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Whether scripts of pages are run from now on.
    pub(crate) async fn run_scripts(&self, run: bool) {
        let disabled = serde_json::json!({ "value": !run });
        self.devtools("Emulation.setScriptExecutionDisabled", disabled).await;
    }

    /// Where downloads go.
    pub(crate) fn downloads(&self) -> std::path::PathBuf {
        self.dir.path().join("downloads")
    }

    /// Errors and warnings on the console since the last call.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.driver.get_log("browser").await.expect("the browser keeps a log");
        let bad = log.into_iter().filter(|entry| ["SEVERE", "WARNING"].contains(&entry.level.as_str()));
        bad.map(|entry| entry.message).collect()
    }

    /// A picture of the window, to `target/screenshots/NAME.png`.
    pub(crate) async fn screenshot(&self, name: &str) {
        let folder = paths::root().join("target/screenshots");
        fs::create_dir_all(&folder).expect("target/ is a folder of this build");
        let taken = self.driver.screenshot(&folder.join(format!("{name}.png"))).await;
        taken.expect("the browser takes a picture");
    }

    /// Waits until an element is there whose text contains `words`.
    pub(crate) async fn says(&self, css: &str, words: &str) {
        wait::until(&format!("{css} says {words}"), DEADLINE, async || {
            let text = self.driver.find(By::Css(css)).await.ok()?.text().await.ok()?;
            text.contains(words).then_some(())
        })
        .await;
    }

    /// Ends the session.
    pub(crate) async fn quit(self) {
        self.driver.quit().await.expect("the browser ends when told to");
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn capabilities(
    dir: &Path,
    (width, height): (u32, u32),
) -> Result<ChromeCapabilities, thirtyfour::error::WebDriverError> {
    // The driver starts this in place of the browser, which then ends with the driver, however that ends.
    let binary = dir.join("chromium");
    let script = "#!/bin/sh\nexec setpriv --pdeathsig KILL -- chromium \"$@\"\n";
    fs::write(&binary, script).expect("a script can be written");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("a script can be made executable");
    fs::create_dir(dir.join("downloads")).expect("a folder can be made");

    let mut capabilities = ChromeCapabilities::new();
    capabilities.set_binary(&binary.to_string_lossy())?;
    for switch in SWITCHES {
        capabilities.add_arg(switch)?;
    }
    capabilities.add_arg(&format!("--user-data-dir={}", dir.join("profile").display()))?;
    capabilities.add_arg(&format!("--window-size={width},{height}"))?;
    let downloads = dir.join("downloads");
    capabilities.add_experimental_option(
        "prefs",
        serde_json::json!({
            "download.default_directory": downloads,
            "download.prompt_for_download": false,
        }),
    )?;
    capabilities.set_browser_log_level(LoggingPrefsLogLevel::All)?;
    Ok(capabilities)
}
