//! The gauge is what instances hold, and of one lifetime at a time.

use std::sync::Arc;

use crate::{
    guests,
    support::{PAGE, Runner, eventually, module},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_growth_and_a_restart_takes_it_back() {
    let runner = Runner::start(&[("holder.wat", guests::holder(9))], &module("holder", 2, "")).await;
    let digest = runner.instance("holder/1").await["digest"].as_str().unwrap().to_owned();
    let series = format!(r#"wasm_linear_memory_bytes{{module="holder",digest="{digest}",replica="1"}}"#);
    eventually("ten pages are held", async || {
        (runner.metric(&series).await == Some(10.0 * PAGE as f64)).then_some(())
    })
    .await;
    let answer = runner.restart("holder/1", None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // Ten pages at the end of the old one, one page at the start of the new one.
    assert_eq!(answer.json()["reclaimed_bytes"], 9 * PAGE);
    assert_eq!(
        runner.metric(r#"wasm_restart_reclaimed_bytes_total{module="holder"}"#).await,
        Some(9.0 * PAGE as f64)
    );
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_start_time_of_a_scrape_are_of_the_same_lifetime() {
    // Old lifetimes hold 10 pages a moment after their start, new ones 1: a scrape that mixed the two
    // would show 10 pages with a start time it has not seen before.
    let runner = Arc::new(
        Runner::start(
            &[(
                "slow.wat",
                guests::core(
                    r#"(memory (export "memory") 1)"#,
                    "(call $sleep (i64.const 30)) (drop (memory.grow (i32.const 9))) (call $sleep_for_ever)",
                ),
            )],
            &module("slow", 1, ""),
        )
        .await,
    );
    let digest = runner.instance("slow/0").await["digest"].as_str().unwrap().to_owned();
    let labels = format!(r#"{{module="slow",digest="{digest}",replica="0"}}"#);
    let scraper = tokio::spawn({
        let runner = Arc::clone(&runner);
        async move {
            let mut seen = std::collections::HashMap::new();
            // As often as the runner answers, over the restarts of eight lifetimes.
            while seen.len() < 9 {
                let text = runner.metrics().await;
                let start =
                    crate::support::value(&text, &format!("wasm_instance_start_time_seconds{labels}"));
                let bytes = crate::support::value(&text, &format!("wasm_linear_memory_bytes{labels}"));
                let (Some(start), Some(bytes)) = (start, bytes) else { continue };
                let first: &mut Vec<f64> = seen.entry(start.to_bits()).or_default();
                first.push(bytes);
            }
            seen
        }
    });
    while !scraper.is_finished() {
        eventually("the lifetime has grown", || async {
            let memory = runner.instance("slow/0").await["memory_bytes"].as_u64();
            (memory == Some(10 * PAGE)).then_some(())
        })
        .await;
        assert_eq!(runner.restart("slow/0", None).await.status, 200);
    }
    let seen = scraper.await.unwrap();
    for bytes in seen.values() {
        assert!(bytes.is_sorted(), "memory of one lifetime never falls: {bytes:?}");
    }
    Arc::into_inner(runner).unwrap().stop().await;
}
