//! How long restarts take, as whoever orders them sees it.

use std::time::Instant;

use ebb_testbed::runner::Runner;

/// Enough for the 99th percentile to be the tenth-worst.
const RESTARTS: usize = 1000;
const WARM_UP: usize = 50;

/// Microseconds from order sent to answer received, loopback HTTP included, of restarts of replica 0 of
/// `module`, one after another.
///
/// # Panics
/// When an order is not carried out.
pub(crate) async fn restart_latencies_us(runner: &Runner, module: &str) -> Vec<f64> {
    let mut latencies = Vec::with_capacity(RESTARTS);
    for n in 0..WARM_UP + RESTARTS {
        let order = runner.restart(module, 0);
        let started = Instant::now();
        let response = order.send().await.expect("the runner answers");
        let status = response.status();
        response.bytes().await.expect("the answer has a body");
        if n >= WARM_UP {
            latencies.push(started.elapsed().as_secs_f64() * 1e6);
        }
        assert_eq!(status, 200, "every order is carried out");
    }
    latencies
}
