//! What a large body costs the runner while it passes through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ebb_testbed::{
    load::{
        Connection,
        ask::{Ask, Expected, Pattern},
    },
    paths,
    runner::Runner,
};

use crate::cpu::resident_bytes;

const BODY_BYTES: u64 = 500_000_000;

/// Between two looks at the runner's memory.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Growth of the runner's memory at most, linear memories not counted, over the body.
pub(crate) async fn growth_over_body() -> f64 {
    let path = paths::guest("test_http");
    let module = format!("  - name: test_http\n    path: {}\n    kind: http\n", path.display());
    let runner = Runner::start_quiet(&module).await;
    let linear = async || runner.scrape().await.one("wasm_linear_memory_bytes", &[]).unwrap_or(0.0);
    let upload = |bytes| {
        let body = Some(Pattern { bytes, seed: 1 });
        Ask { method: "POST", body, ..Ask::get("/sum", Expected::Anything) }
    };
    let mut connection = Connection::open(&runner.http_address).await.expect("the runner listens");
    // What the first requests cost once is not the body's.
    connection.ask(&upload(10_000_000)).await.expect("the guest answers");
    let (before, linear_before) = (resident_bytes(runner.process.id()), linear().await);

    let stop: Arc<AtomicBool> = Arc::default();
    let watch = std::thread::spawn({
        let (stop, id) = (Arc::clone(&stop), runner.process.id());
        move || {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(resident_bytes(id));
                std::thread::sleep(LOOK_EVERY);
            }
            most
        }
    });
    connection.ask(&upload(BODY_BYTES)).await.expect("the guest answers");
    stop.store(true, Ordering::Relaxed);
    let most = watch.join().expect("a process that runs can be looked at");
    let grown = most as f64 - before as f64 - (linear().await - linear_before);
    grown.max(0.0) / BODY_BYTES as f64
}
