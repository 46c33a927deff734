//! Data that comes seldom, late or in batches is waited for, and explains itself.

use ebb_testbed::{
    evaluator::Evaluator,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};

use crate::{
    identity::learned,
    programs::run,
    support::{self, DEADLINE},
};

/// An evaluator's config without limits of its own for late data.
fn config(store: &str, runner: &Runner, more: &str) -> String {
    format!(
        "interval: 1s\nlookback: 1h\n{store}runners: {{allow: [\"{}\"], verify_within: 40s}}\n\
         budget: {{restarts_per_minute: 600, burst: 20, cooldown: 2s, max_ineffective: 100}}\n\
         defaults: {{policy: static, max_bytes: 24MiB, min_age: 2s, min_reclaim: 64KiB}}\n{more}",
        runner.address
    )
}

async fn counter(evaluator: &Evaluator, name: &str) -> f64 {
    evaluator.scrape().await.sum(name, &[])
}

#[tokio::test]
async fn scrapes_that_are_seldom_are_waited_for_and_no_hold() {
    let runner = Runner::start(&support::leaky(2)).await;
    let scrape = format!(
        "global: {{scrape_interval: 8s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: ebb-runner\n  static_configs: [{{targets: [\"{}\"]}}]\n",
        runner.address
    );
    let prometheus = Prometheus::start_with(Major::Three, &scrape, &[]).await;
    let store = format!("store: {{prometheus: {{url: \"{}\"}}}}\n", prometheus.url);
    wait::until("three scrapes are stored", DEADLINE, async || {
        let counted = prometheus.query("min(count_over_time(wasm_linear_memory_bytes[5m]))").await.ok()?;
        let count: f64 = counted.first()?["value"][1].as_str()?.parse().ok()?;
        (count >= 3.0).then_some(())
    })
    .await;
    // By the interval alone, a sample would tell nothing after 3 s, and most ticks would hold.
    let evaluator = Evaluator::start(&config(&store, &runner, "")).await;
    wait::until("instances are restarted over several scrapes", DEADLINE, async || {
        let restarts =
            evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""]);
        (restarts >= 4.0).then_some(())
    })
    .await;
    assert_eq!(counter(&evaluator, "ebb_evaluator_held_total").await, 0.0);

    // With a limit that does not fit, the hold says what was seen and what to set.
    let tight = Evaluator::start(&config(&store, &runner, "hold: {stale_after: 2s}\n")).await;
    let message = wait::until("a tick holds", DEADLINE, async || {
        let hold = tight.api("status").await["hold"]["message"].as_str().map(str::to_owned);
        hold.filter(|message| message.contains("apart"))
    })
    .await;
    // A scrape is some milliseconds early or late.
    let told = ["Samples came 7s 900ms apart", "Samples came 8s apart", "Samples came 8s 100ms apart"];
    assert!(told.iter().any(|told| message.contains(told)), "{message}");
    assert!(message.contains(": set hold.stale_after to 2"), "{message}");
}

/// How many samples of both gauges a server has: a batch may end between the two.
async fn stored(prometheus: &Prometheus) -> Option<String> {
    let of = |gauge: &str| format!("sum(count_over_time({gauge}[1h]))");
    let both = [of("wasm_linear_memory_bytes"), of("wasm_instance_start_time_seconds")].join(" + ");
    let counted = prometheus.query(&both).await.ok()?;
    counted.first()?["value"][1].as_str().map(str::to_owned)
}

#[tokio::test]
async fn what_is_written_in_batches_is_taken_whole_and_counted_as_late() {
    let mut runner = Runner::start(&support::leaky(3)).await;
    let flags = ["--web.enable-remote-write-receiver"];
    let store = Prometheus::start_with(Major::Three, "scrape_configs: []\n", &flags).await;
    let agent = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: ebb-runner\n  static_configs: [{{targets: [\"{}\"]}}]\n\
         remote_write: [{{url: \"{}/api/v1/write\", \
         queue_config: {{batch_send_deadline: 12s, max_samples_per_send: 100000, capacity: 200000}}}}]\n",
        runner.address, store.url
    );
    let agent = Prometheus::start_with(Major::Three, &agent, &[]).await;
    // So short that by itself it would miss most of each batch.
    let section = format!("store: {{prometheus: {{url: \"{}\", overlap: 1s}}}}\n", store.url);
    let evaluator = Evaluator::start(&config(&section, &runner, "")).await;
    wait::until("some batches have come", DEADLINE * 2, async || {
        (counter(&evaluator, "ebb_evaluator_late_samples_total").await >= 60.0).then_some(())
    })
    .await;
    runner.process.kill();
    let modules = async |evaluator: &Evaluator| learned(evaluator).await;
    wait::until("the last batch has come, and no instance lives", DEADLINE, async || {
        let all = (stored(&agent).await?, stored(&store).await?);
        (all.0 == all.1 && evaluator.api("status").await["instances"] == 0).then_some(())
    })
    .await;
    let anew = Evaluator::start(&config(&section, &runner, "")).await;
    let known = wait::until("the new evaluator has learned", DEADLINE, async || {
        Some(modules(&anew).await).filter(|learned| !learned.is_empty())
    })
    .await;
    // What came last and was followed by nothing is found by the look that is taken once a minute.
    wait::until(&format!("it knows all that was written: {known:#?}"), DEADLINE, async || {
        (modules(&evaluator).await == known).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_without_an_allow_list_orders_nothing_and_says_so() {
    let runner = Runner::start(&support::leaky(2)).await;
    let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    let config = format!(
        "interval: 1s\nlookback: 1h\ndry_run: true\nstore: {{prometheus: {{url: \"{}\"}}}}\n\
         defaults: {{policy: static, max_bytes: 16MiB, min_age: 2s}}\n",
        prometheus.url
    );
    let evaluator = Evaluator::start(&config).await;
    wait::until("restarts would have been ordered", DEADLINE, async || {
        let dry = evaluator.scrape().await.sum("ebb_evaluator_actions_total", &["action=\"dry_run\""]);
        (dry >= 3.0).then_some(())
    })
    .await;
    assert_eq!(counter(&evaluator, "ebb_evaluator_restarts_total").await, 0.0);
}

#[tokio::test]
async fn check_live_finds_what_would_hold_or_refuse_restarts() {
    let secured = Runner::start(&support::steady(2)).await;
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: ebb-runner\n  static_configs: [{{targets: [\"{}\"], labels: {{module: shop}}}}]\n",
        secured.address
    );
    let prometheus = Prometheus::start_with(Major::Two, &scrape, &[]).await;
    wait::until("two scrapes are stored", DEADLINE, async || {
        let counted = prometheus.query("min(count_over_time(wasm_linear_memory_bytes[1m]))").await.ok()?;
        let count: f64 = counted.first()?["value"][1].as_str()?.parse().ok()?;
        (count >= 2.0).then_some(())
    })
    .await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("evaluator.yml");
    let check = |config: &str, more: &[&str]| {
        std::fs::write(&file, config).unwrap();
        run("ebb-evaluator", &[&["--config", file.to_str().unwrap(), "check", "--live"], more].concat())
    };
    let store = format!("store: {{prometheus: {{url: \"{}\"}}}}\n", prometheus.url);
    let good = format!("{store}runners: {{allow: [\"{}\"]}}\n", secured.address);
    let (code, said) = check(&good, &[]);
    assert_eq!(code, Some(0), "{said}");
    for words in
        ["version 2.", "speaks remote read", "1s apart", "2 instances; takes orders", "(module): exported_"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let before = secured.instances().await;
    let nobody = ebb_testbed::free_address();
    let bad = format!("{store}runners: {{allow: [\"{nobody}\"]}}\n");
    let (code, said) = check(&bad, &["--format", "json"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not allow") && said.contains("does not answer as a runner does"), "{said}");
    let gone = format!("store: {{prometheus: {{url: \"http://{nobody}\"}}}}\ndry_run: true\n");
    assert_eq!(check(&gone, &[]).0, Some(1));
    let scraped = format!("store: {{scrape: {{targets: [\"{}\"]}}}}\n", secured.address);
    assert_eq!(check(&scraped, &[]).0, Some(0));
    assert_eq!(secured.instances().await, before, "nothing is restarted");
}
