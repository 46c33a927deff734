//! One guest, stuck or greedy, never harms another.

use ebb_testbed::{runner::Runner, wait};

use crate::support::{self, DEADLINE};

const QUICK_BACKOFF: &str = "    restart: {backoff_min: 50ms, backoff_max: 200ms}\n    memory_limit: 16MiB\n";

#[tokio::test]
async fn spinning_trapping_exiting_and_greedy_guests_leave_the_others_alone() {
    let mut modules = support::steady(3);
    for guest in ["spin", "trap-at-start", "trap", "exit", "greedy", "start-greedy"] {
        modules += &support::wat(guest, QUICK_BACKOFF);
    }
    let runner = Runner::start(&modules).await;
    let generation = async |replica| runner.instance("steady", replica).await["generation"].clone();
    wait::until("every bad guest has had its way", DEADLINE, async || {
        let scrape = runner.scrape().await;
        let restarts = |module: &str, reason: &str| {
            let labels = [format!("module=\"{module}\""), format!("reason=\"{reason}\"")];
            scrape.sum("wasm_instance_restarts_total", &[&labels[0], &labels[1]])
        };
        let denied = scrape.sum("wasm_linear_memory_grow_failures_total", &["module=\"greedy\""]);
        let bad = restarts("trap", "crash") >= 2.0 && restarts("exit", "exit") >= 2.0 && denied >= 1.0;
        let up = scrape.sum("wasm_instance_up", &["module=\"steady\""]);
        (bad && up == 3.0).then_some(())
    })
    .await;
    let scrape = runner.scrape().await;
    for guest in ["trap-at-start", "start-greedy"] {
        let labels = [format!("module=\"{guest}\"")];
        assert_eq!(scrape.sum("wasm_instance_up", &[&labels[0]]), 0.0, "{guest} cannot start");
        assert!(scrape.values("wasm_linear_memory_bytes", &[&labels[0]]).is_empty(), "{guest} has no memory");
        let said = runner.instance(guest, 0).await["last_end"].as_str().unwrap_or_default().to_owned();
        let expected = if guest == "trap-at-start" { "unreachable" } else { "memory" };
        assert!(said.contains(expected), "{guest}: {said:?} says {expected}");
    }
    // The limit of 16 MiB is what the greedy guest got, less than a page.
    let greedy = scrape.one("wasm_linear_memory_bytes", &["module=\"greedy\""]).unwrap();
    assert!((16.0 * 1_048_576.0 - greedy) < 65_536.0, "{greedy}");

    // A guest in an endless loop is restarted like any other, and the steady ones never were.
    let spinning = runner.instance("spin", 0).await["generation"].clone();
    assert_eq!(runner.restart("spin", 0).send().await.unwrap().status(), 200);
    assert_ne!(runner.instance("spin", 0).await["generation"], spinning);
    let scrape = runner.scrape().await;
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &["module=\"steady\""]), 0.0);
    for replica in 0..3 {
        assert!(generation(replica).await.is_u64());
    }
}

#[tokio::test]
async fn a_runner_full_of_spinning_guests_still_answers_and_stops_cleanly() {
    let spin = support::wat("spin", "").replace("replicas: 1", "replicas: 6");
    let mut runner = Runner::start(&[spin, support::steady(1)].concat()).await;
    let scrape = runner.scrape().await;
    assert_eq!(scrape.sum("wasm_instance_up", &[]), 7.0);
    assert_eq!(runner.restart("spin", 5).send().await.unwrap().status(), 200);
    let status = runner.process.terminate();
    assert_eq!(status.code(), Some(0), "{}", runner.process.log());
}
