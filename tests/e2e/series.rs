//! One slot, one truth: several series of one slot, whoever has written them and however they are labelled.

use ebb_testbed::{
    evaluator::Evaluator,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::{Value, json};

use crate::{
    programs::run,
    support::{self, DEADLINE},
};

/// A Prometheus that others write to.
async fn central() -> Prometheus {
    Prometheus::start_with(Major::Three, "scrape_configs: []\n", &["--web.enable-remote-write-receiver"])
        .await
}

/// A Prometheus that scrapes `target` once a second as `instance` and writes to `central`, with further labels.
async fn agent(target: &str, instance: &str, labels: &str, central: &Prometheus) -> Prometheus {
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{{labels}}}}}\n\
         scrape_configs:\n- job_name: ebb-runner\n  static_configs: [{{targets: [\"{target}\"]}}]\n  \
         relabel_configs: [{{target_label: instance, replacement: \"{instance}\"}}]\n\
         remote_write: [{{url: \"{}/api/v1/write\", queue_config: {{batch_send_deadline: 500ms}}}}]\n",
        central.url
    );
    Prometheus::start_with(Major::Three, &config, &[]).await
}

async fn count(evaluator: &Evaluator, metric: &str, label: &str) -> f64 {
    evaluator.scrape().await.sum(metric, &[label])
}

/// What was learned of each module.
async fn learned(evaluator: &Evaluator) -> Vec<Value> {
    let modules = evaluator.api("modules").await;
    let of = |one: &Value| {
        json!({
            "module": one["module"], "sample_size": one["sample_size"], "mean_bytes": one["mean_bytes"],
            "stddev_bytes": one["stddev_bytes"], "threshold": one["threshold"], "fresh_bytes": one["fresh_bytes"],
        })
    };
    modules.as_array().unwrap().iter().map(of).collect()
}

#[tokio::test]
async fn a_pair_of_servers_tells_what_one_of_them_alone_would() {
    let mut runner = Runner::start(&[support::leaky(6), support::steady(4)].concat()).await;
    let store = central().await;
    let address = runner.address.clone();
    let _pair = (
        agent(&address, &address, "prometheus_replica: a", &store).await,
        agent(&address, &address, "prometheus_replica: b", &store).await,
    );
    let config = |matchers: &str| {
        let store = support::prometheus_store(&store.url).replace("{url:", &format!("{{{matchers}url:"));
        support::evaluator(&store, &[&runner.address], "")
    };
    // It makes lifetimes.
    let through = Evaluator::start(&config("")).await;
    wait::until("instances were restarted", DEADLINE, async || {
        (count(&through, "ebb_evaluator_restarts_total", "outcome=\"restarted\"").await >= 20.0).then_some(())
    })
    .await;
    assert_eq!(through.api("status").await["instances"], 10, "ten slots, twenty series");
    assert_eq!(count(&through, "ebb_evaluator_held_total", "reason=\"ambiguous_series\"").await, 0.0);
    runner.process.kill();
    wait::until("no instance lives", DEADLINE, async || {
        (through.api("status").await["instances"] == 0).then_some(())
    })
    .await;
    // One of the two alone, and both by three evaluators at once, by remote read and by queries.
    let by_queries = "matchers: [\"job='ebb-runner'\"], ";
    let (one, other) =
        ("matchers: ['prometheus_replica=\"a\"'], ", "matchers: ['prometheus_replica=\"b\"'], ");
    let mut found = Vec::new();
    for matchers in [one, other, "", "", "", by_queries] {
        let evaluator = Evaluator::start(&config(matchers)).await;
        found.push(
            wait::until("the evaluator has learned", DEADLINE, async || {
                Some(learned(&evaluator).await).filter(|learned| !learned.is_empty())
            })
            .await,
        );
    }
    let (alone, together) = found.split_at(2);
    assert!(alone.contains(&together[0]), "alone {alone:#?}\ntogether {:#?}", together[0]);
    for other in &together[1..] {
        assert_eq!(*other, together[0]);
    }
    assert_eq!(learned(&through).await, together[0], "as the one that ran through");
}

#[tokio::test]
async fn two_runners_under_one_address_are_held_and_a_label_tells_them_apart() {
    // Both agents scrape their own localhost; the second runner's instances leak as good as nothing.
    let store = central().await;
    let app = support::leaky(2).replace("name: leaky", "name: app");
    let still = app.replace("\"50\"", "\"3600000\"").replace("\"150\"", "\"3600000\"");
    let (leaks, still) = (Runner::start(&app).await, Runner::start(&still).await);
    let host = |runner: &Runner| format!("host: \"{}\"", runner.address);
    let _agents = (
        agent(&leaks.address, &leaks.address, &host(&leaks), &store).await,
        agent(&still.address, &leaks.address, &host(&still), &store).await,
    );
    let config = |identity: &str, more: &str| {
        let store = support::prometheus_store(&store.url).replace("{url:", &format!("{{{identity}url:"));
        let all = support::evaluator(&store, &[&leaks.address, &still.address], "");
        let (before, _) = all.split_once("defaults:").unwrap();
        let before = before.replace("runners: {", &format!("runners: {{{more}"));
        format!("{before}defaults: {{policy: static, max_bytes: 20MiB, min_age: 2s}}\n")
    };

    let confused = Evaluator::start(&config("", "")).await;
    let hold = wait::until("the module is held", DEADLINE, async || {
        let modules = confused.api("modules").await;
        Some(modules[0]["hold"].clone()).filter(|hold| !hold.is_null())
    })
    .await;
    assert_eq!(hold["reason"], "ambiguous_series");
    // Until clocks that differ a little can be ruled out, nothing contradicts.
    let before = count(&confused, "ebb_evaluator_restarts_total", "outcome").await;
    let message = hold["message"].as_str().unwrap();
    for words in
        ["differ in host", &leaks.address, &still.address, "store.prometheus.identity", "runners.address"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    wait::until("an instance is too large and held", DEADLINE, async || {
        (count(&confused, "ebb_evaluator_actions_total", "action=\"held\"").await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(count(&confused, "ebb_evaluator_restarts_total", "outcome").await, before);
    assert_eq!(confused.scrape().await.one("ebb_evaluator_module_held", &["module=\"app\""]), Some(1.0));
    assert!(count(&confused, "ebb_evaluator_held_total", "reason=\"ambiguous_series\"").await >= 1.0);
    let page = ebb_testbed::http::text(&format!("http://{}/modules/app", confused.address)).await.unwrap();
    assert!(page.contains("No restart of this module is ordered: ambiguous series"), "{page}");
    let (_, said) = run("ebb-evaluator", &["explain", "app/0", "--evaluator", &confused.address]);
    assert!(said.contains("Restarts of app are held: ambiguous_series: "), "{said}");
    drop(confused);

    // A label is part of the identity: four instances. Orders still go to one address only.
    let apart = Evaluator::start(&config("identity: [host], ", "")).await;
    wait::until("all four are told apart", DEADLINE, async || {
        (apart.api("instances").await.as_array()?.len() == 4).then_some(())
    })
    .await;
    let identities = apart.api("instances").await;
    assert!(identities.as_array().unwrap().iter().all(|one| one["identity"].is_string()), "{identities:#}");
    drop(apart);

    // A label tells where they are: those that leak are restarted, and nobody else.
    let found = Evaluator::start(&config("", "address: \"{{host}}\", ")).await;
    wait::until("those that leak are restarted", DEADLINE, async || {
        (count(&found, "ebb_evaluator_restarts_total", "outcome=\"restarted\"").await >= 4.0).then_some(())
    })
    .await;
    for outcome in ["unknown_replica", "no_answer", "not_allowed", "unexpected"] {
        let failed = count(&found, "ebb_evaluator_restarts_total", &format!("outcome=\"{outcome}\"")).await;
        assert_eq!(failed, 0.0, "{outcome}: {}", found.process.log());
    }
    assert_eq!(still.scrape().await.sum("wasm_instance_restarts_total", &["reason=\"threshold\""]), 0.0);
    assert_eq!(count(&found, "ebb_evaluator_held_total", "reason=\"ambiguous_series\"").await, 0.0);
}

#[tokio::test]
async fn target_labels_named_like_the_runners_own_do_no_harm() {
    let runner = Runner::start(&support::leaky(4)).await;
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: ebb-runner\n  static_configs:\n  - targets: [\"{}\"]\n    \
         labels: {{module: checkout, replica: a, digest: prod}}\n",
        runner.address
    );
    let prometheus = Prometheus::start_with(Major::Two, &config, &[]).await;
    let store = support::prometheus_store(&prometheus.url);
    // By remote read, and by queries.
    for store in [store.clone(), store.replace("{url:", "{matchers: [\"job='ebb-runner'\"], url:")] {
        let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
        wait::until("instances are restarted", DEADLINE, async || {
            (count(&evaluator, "ebb_evaluator_restarts_total", "outcome=\"restarted\"").await >= 3.0)
                .then_some(())
        })
        .await;
        assert_eq!(evaluator.api("modules").await[0]["module"], "leaky");
        assert_eq!(
            count(&evaluator, "ebb_evaluator_restarts_total", "outcome=\"unknown_replica\"").await,
            0.0
        );
    }
}

#[tokio::test]
async fn series_that_name_nothing_are_counted_and_named_once() {
    let runner = Runner::start(&support::steady(2)).await;
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: ebb-runner\n  static_configs: [{{targets: [\"{}\"]}}]\n  \
         metric_relabel_configs: [{{source_labels: [replica], regex: \"1\", target_label: digest, replacement: \"v1.2\"}}]\n",
        runner.address
    );
    let prometheus = Prometheus::start_with(Major::Three, &config, &[]).await;
    let store = support::prometheus_store(&prometheus.url);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    wait::until("nameless series are counted", DEADLINE, async || {
        (evaluator.scrape().await.one("ebb_evaluator_nameless_series", &[]) == Some(2.0)).then_some(())
    })
    .await;
    wait::until("some more ticks are done", DEADLINE, async || {
        (evaluator.scrape().await.one("ebb_evaluator_ticks_total", &[])? >= 5.0).then_some(())
    })
    .await;
    assert_eq!(evaluator.api("status").await["instances"], 1);
    let log = evaluator.process.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("series ignored")).collect();
    assert_eq!(told.len(), 2, "one line for each gauge, once: {log}");
    assert!(told[0].contains("v1.2") && told[0].contains("hexadecimal"), "{}", told[0]);
}
