//! Real apps under a day's load → what each minute asks of an instance.
//!
//! Two instances of an app serve the same requests, a day's in a few minutes: one is started anew for each minute, the
//! other never. `recording` reads it again, for the simulator.

use std::path::Path;

use ebb_testbed::{http, paths, runner::Runner};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal, Poisson};

use crate::{
    recording::{App, MINUTES, PAGE},
    report::{ReportError, write},
};

impl App {
    /// Requests a minute at noon, the median of their bodies in bytes, and the deviation of its logarithm.
    const fn load(self) -> (f64, f64, f64) {
        match self {
            Self::Storage => (3.0, 200.0 * 1024.0, 1.5),
            Self::Python => (6.0, 4.0 * 1024.0, 1.0),
            Self::Axum => (10.0, 1024.0, 1.0),
        }
    }

    /// Two modules of it, by their hosts' names.
    fn modules(self) -> String {
        let (path, more) = match self {
            Self::Storage => (paths::guest("storage"), "\n    dirs: [{host: volume, guest: /volume}]"),
            Self::Python => (paths::foreign("python"), ""),
            Self::Axum => (paths::foreign("wstd-axum"), ""),
        };
        let module = |name: &str| {
            format!(
                "  - name: {name}\n    path: {}\n    kind: http\n    replicas: 1\n    memory_limit: 2GiB\n    \
                 start_timeout: 60s{more}\n    http: {{routes: [{{host: {name}}}]}}\n",
                path.display()
            )
        };
        ["fresh", "kept"].map(module).concat()
    }

    /// Records it, into a file of its name in `folder`.
    ///
    /// # Errors
    /// [`ReportError`].
    ///
    /// # Panics
    /// When the runner does not start, or does not answer.
    pub(crate) async fn record(self, folder: &Path) -> Result<(), ReportError> {
        let runner = Runner::start_quiet(&self.modules()).await;
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let (requests, median, deviation) = self.load();
        let sizes = LogNormal::new(median.ln(), deviation).expect("a deviation");
        let mut text = format!(
            "# Written by `ebb-lab record`: memory of {} in pages of 64 KiB, at its start and after each minute of a day; of an instance \
             that is started anew for each minute, and of one that never is.\n",
            self.name()
        );
        let row = async || format!("{},{}\n", pages(&runner, "fresh").await, pages(&runner, "kept").await);
        text += &row().await;
        for minute in 0..MINUTES {
            let turn = f64::from(minute) / f64::from(MINUTES) * std::f64::consts::TAU;
            let rate = requests * (0.525 - 0.475 * turn.cos());
            let count = Poisson::new(rate).expect("a positive rate").sample(&mut random) as u32;
            let (status, answer) = http::answer(runner.restart("fresh", 0)).await;
            assert_eq!(status, 200, "{answer}");
            for _ in 0..count {
                let size = sizes.sample(&mut random).min(32.0 * 1_048_576.0) as usize;
                for module in ["fresh", "kept"] {
                    self.ask(&runner, module, size).await;
                }
            }
            text += &row().await;
        }
        write(&folder.join(format!("{}.csv", self.name())), &text)
    }

    async fn ask(self, runner: &Runner, module: &str, size: usize) {
        let url = format!("http://{}/", runner.http_address);
        let request = match self {
            Self::Storage => http::client().put(url + module).body(vec![b'x'; size]),
            Self::Python => http::client().post(url).body(vec![b'x'; size]),
            Self::Axum => http::client().get(url),
        };
        let response = request.header("host", module).send().await.expect("the runner answers");
        assert!(response.status().is_success(), "{module}: {}", response.status());
        response.bytes().await.expect("the answer is whole");
    }
}

async fn pages(runner: &Runner, module: &str) -> i64 {
    let scrape = runner.scrape().await;
    let label = format!("module=\"{module}\"");
    scrape.one("wasm_linear_memory_bytes", &[&label]).expect("an instance is live") as i64 / PAGE
}
