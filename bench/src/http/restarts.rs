//! What clients see of many restarts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ebb_testbed::{
    load::{
        Load,
        ask::{Ask, Expected, Pattern},
    },
    paths,
    runner::Runner,
    wait,
};

const RESTARTS: u64 = 200;
const REPLICAS: u64 = 8;

/// Restarts of all replicas of a module, one after the other without a pause.
pub(crate) struct Restarting {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
    begun: Instant,
}

impl Restarting {
    pub(crate) fn begin(runner: &Runner, module: &str) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let replicas =
            u64::try_from(std::thread::available_parallelism().map_or(2, usize::from)).unwrap_or(2);
        let orders: Vec<_> = (0..replicas).map(|replica| runner.restart(module, replica)).collect();
        let handle = tokio::runtime::Handle::current();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut done = 0;
            for order in orders.iter().cycle().take_while(|_| !stopped.load(Ordering::Relaxed)) {
                let order = order.try_clone().expect("an order has no body that could be sent once only");
                let status =
                    handle.block_on(async { order.send().await.expect("the runner answers").status() });
                // Neither is an error: the last restart of this replica still finishes its requests.
                assert!([200, 202, 409, 429].contains(&status.as_u16()), "{status}");
                done += u64::from(status.is_success());
            }
            done
        });
        Self { stop, thread, begun: Instant::now() }
    }

    /// Restarts per second.
    pub(crate) fn end(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let done = self.thread.join().expect("every order is answered");
        done as f64 / self.begun.elapsed().as_secs_f64()
    }
}

/// Short requests, streams in both directions and slow ones of each, every byte of which is looked at, during
/// restarts. Returns the failed requests.
pub(crate) async fn mixed_load_with_restarts() -> u64 {
    let path = paths::guest("test_http");
    let module = format!(
        "  - name: test_http\n    path: {}\n    kind: http\n    replicas: {REPLICAS}\n    max_restarting: 2\n",
        path.display()
    );
    let runner = Runner::start_quiet(&module).await;
    let quick = Load::start(&runner.http_address, 12, quick);
    let slow = Load::start(&runner.http_address, 3, slow);
    for restart in 0..RESTARTS {
        wait::until("the restart is done", Duration::from_secs(60), async || {
            let order = runner.restart("test_http", restart % REPLICAS);
            order.send().await.expect("the runner answers").status().is_success().then_some(())
        })
        .await;
    }
    let (quick, slow) = (quick.stop().await, slow.stop().await);
    eprintln!("mixed load during {RESTARTS} restarts: {quick}; slow ones: {slow}");
    quick.failed + slow.failed
}

fn quick(n: u64) -> Ask {
    let pattern = Pattern { bytes: 1 + n * 7919 % 300_000, seed: n };
    match n % 3 {
        0 => Ask::get("/hello", Expected::Exactly("hello".into())),
        1 => Ask::echo(pattern),
        _ => {
            let path = format!("/pattern?bytes={}&seed={}", pattern.bytes, pattern.seed);
            Ask::get(path, Expected::Pattern(pattern))
        }
    }
}

fn slow(n: u64) -> Ask {
    Ask::echo(Pattern { bytes: 60_000 + n % 7 * 1000, seed: n }).slowly(2000, Duration::from_millis(40))
}
