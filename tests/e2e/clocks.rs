//! Clocks step and differ: nothing is lost by it, and nothing is restarted for it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use ebb_testbed::{
    clock::Clock,
    evaluator::Evaluator,
    http,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    identity::{learned, orders_done},
    support::{self, DEADLINE},
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

async fn restarted(evaluator: &Evaluator) -> f64 {
    evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""])
}

async fn held(evaluator: &Evaluator, reason: &str) -> f64 {
    evaluator.scrape().await.sum("ebb_evaluator_held_total", &[&format!("reason=\"{reason}\"")])
}

async fn until_restarted(evaluator: &Evaluator, count: f64) {
    wait::until("instances are restarted", DEADLINE, async || {
        (restarted(evaluator).await >= count).then_some(())
    })
    .await;
}

async fn until_held(evaluator: &Evaluator, reason: &str, count: f64) {
    wait::until(&format!("the evaluator holds: {reason}"), DEADLINE, async || {
        (held(evaluator, reason).await >= count).then_some(())
    })
    .await;
}

/// With other guard rails than the tests' usual ones.
fn with_rule(config: &str, rule: &str) -> String {
    let (before, _) = config.split_once("defaults:").unwrap();
    format!("{before}defaults: {{{rule}}}\n")
}

#[tokio::test]
async fn an_evaluator_that_is_killed_50_times_among_clock_steps_restarts_no_generation_twice_and_forgets_nothing()
 {
    let mut runner = Runner::start(&[support::leaky(5), support::steady(3)].concat()).await;
    let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    let config = support::evaluator(&support::prometheus_store(&prometheus.url), &[&runner.address], "");
    let clock = Clock::ahead_by(0);
    let mut evaluator = Evaluator::start_on(&clock, &config).await;
    until_restarted(&evaluator, 5.0).await;
    let steps = [0, 2 * HOUR, 0, -2 * HOUR, 0, 10 * DAY, -30, 0, 40, 0];
    for n in 0..50_usize {
        evaluator.kill_and_start().await;
        // Also while it runs.
        clock.set(steps[n % steps.len()]);
        wait::until("some ticks are done", DEADLINE, async || {
            (evaluator.scrape().await.one("ebb_evaluator_ticks_total", &[])? >= 2.0).then_some(())
        })
        .await;
    }
    clock.set(0);
    until_restarted(&evaluator, 3.0).await;
    let orders = orders_done(&evaluator.process.log());
    assert!(orders.len() >= 20, "{} restarts", orders.len());
    let once: HashSet<_> = orders.iter().collect();
    assert_eq!(once.len(), orders.len(), "a generation was restarted twice: {orders:?}");

    // This one saw steps while it ran; it knows what one that never saw any knows.
    for ahead in [2 * HOUR, -2 * HOUR, 10 * DAY] {
        let reason = if ahead > 0 { "clock_ahead" } else { "clock_behind" };
        let (before, restarts) = (held(&evaluator, reason).await, restarted(&evaluator).await);
        clock.set(ahead);
        until_held(&evaluator, reason, before + 3.0).await;
        assert!(restarted(&evaluator).await <= restarts + 5.0, "what was under way at most");
        clock.set(0);
        until_restarted(&evaluator, restarts + 1.0).await;
    }
    runner.process.kill();
    wait::until("no instance lives", DEADLINE, async || {
        (evaluator.api("status").await["instances"] == 0).then_some(())
    })
    .await;
    let anew = Evaluator::start(&config).await;
    let known = wait::until("the new evaluator has learned", DEADLINE, async || {
        Some(learned(&anew).await).filter(|learned| learned.len() == 2)
    })
    .await;
    assert_eq!(learned(&evaluator).await, known);
}

#[tokio::test]
async fn a_scraping_evaluator_whose_clock_is_ahead_for_a_moment_goes_on_when_it_is_back() {
    // On one machine: the runner's clock steps with the evaluator's, so nothing tells that it is wrong.
    for ahead in [HOUR, 10 * DAY] {
        let clock = Clock::ahead_by(0);
        let runner = Runner::start_on(&clock, &support::leaky(4)).await;
        let store = support::scrape_store(&[&runner.address]);
        let config = support::evaluator(&store, &[&runner.address], "");
        let evaluator = Evaluator::start_on(&clock, &config).await;
        until_restarted(&evaluator, 4.0).await;
        let lifetimes = evaluator.scrape().await.one("ebb_evaluator_lifetimes", &[]).unwrap();
        clock.set(ahead);
        until_held(&evaluator, "clock_ahead", 5.0).await;
        let restarts = restarted(&evaluator).await;
        clock.set(0);
        until_restarted(&evaluator, restarts + 4.0).await;
        let now = evaluator.scrape().await.one("ebb_evaluator_lifetimes", &[]).unwrap();
        assert!(now >= lifetimes + 4.0, "{now} lifetimes, {lifetimes} before: none is forgotten");
    }
}

#[tokio::test]
async fn a_runner_whose_clock_is_ahead_holds_nobody_and_is_restarted_all_the_same() {
    let clock = Clock::ahead_by(HOUR);
    let (ahead, right) =
        (Runner::start_on(&clock, &support::leaky(2)).await, Runner::start(&support::leaky(2)).await);
    let store = support::scrape_store(&[&ahead.address, &right.address]);
    let config = support::evaluator(&store, &[&ahead.address, &right.address], "");
    // Its instances start in an hour, and are as old as they were seen to be.
    let evaluator =
        Evaluator::start(&with_rule(&config, "policy: static, max_bytes: 16MiB, min_age: 4s")).await;
    for runner in [&ahead, &right] {
        wait::until("instances of each runner are restarted", DEADLINE, async || {
            let restarts =
                runner.scrape().await.sum("wasm_instance_restarts_total", &["reason=\"threshold\""]);
            (restarts >= 2.0).then_some(())
        })
        .await;
    }
    assert_eq!(evaluator.api("status").await["hold"], Value::Null);
    evaluator.process.says("the clock of a runner is wrong").await;
}

#[tokio::test]
async fn generations_increase_across_processes_though_the_clock_is_set_back() {
    let clock = Clock::ahead_by(2 * HOUR);
    let runner = Runner::start_on(&clock, &support::steady(2)).await;
    let generations = async |runner: &Runner| -> Vec<u64> {
        let instances = runner.instances().await;
        instances.iter().map(|one| one["generation"].as_u64().unwrap()).collect()
    };
    let before = generations(&runner).await;
    clock.set(0);
    let runner = runner.kill_and_start().await;
    let after = generations(&runner).await;
    assert!(after.iter().min() > before.iter().max(), "{before:?}, then {after:?}");
}

#[tokio::test]
async fn a_runner_tells_the_time_as_it_is_after_its_clock_was_set_back() {
    let clock = Clock::ahead_by(2 * HOUR);
    let runner = Runner::start_on(&clock, &support::http("test_http", 1, "max_restarting: 1", "")).await;
    let urls = [
        format!("http://{}/-/healthy", runner.address),
        format!("http://{}/metrics", runner.address),
        format!("http://{}/hello", runner.http_address),
        format!("http://{}/no/such/path", runner.address),
    ];
    let off_by = async |url: &str| {
        let response = http::client().get(url).send().await.unwrap();
        let date = httpdate::parse_http_date(response.headers()["date"].to_str().unwrap()).unwrap();
        let (ahead, behind) =
            (date.duration_since(SystemTime::now()), SystemTime::now().duration_since(date));
        ahead.or(behind).unwrap()
    };
    for url in &urls {
        assert!(off_by(url).await > Duration::from_secs(7000), "{url}");
    }
    clock.set(0);
    for url in &urls {
        assert!(off_by(url).await < Duration::from_secs(60), "{url}");
    }
}

#[tokio::test]
async fn an_evaluator_an_hour_ahead_restarts_nothing_that_is_too_young() {
    let runner = Runner::start(&support::leaky(4)).await;
    let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    let by_remote_read = support::prometheus_store(&prometheus.url);
    let by_queries = by_remote_read.replace("{url:", "{matchers: [\"job='ebb-runner'\"], url:");
    let scraped = support::scrape_store(&[&runner.address]);
    for store in [by_remote_read, by_queries, scraped] {
        let clock = Clock::ahead_by(HOUR);
        let config = support::evaluator(&store, &[&runner.address], "");
        let rule = "policy: static, max_bytes: 8MiB, min_age: 30m";
        let evaluator = Evaluator::start_on(&clock, &with_rule(&config, rule)).await;
        until_held(&evaluator, "clock_ahead", 4.0).await;
        assert_eq!(evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &[]), 0.0, "{store}");
        let hold = evaluator.api("status").await["hold"]["message"].to_string();
        assert!(hold.contains("Date") && hold.contains("1h behind this clock"), "{hold}");
    }
}

#[tokio::test]
async fn a_store_that_says_it_is_1970_is_asked_once_a_tick() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = connection.read(&mut request).await;
                let body = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/json\r\n\
                     Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        }
    });
    let store = support::prometheus_store(&url);
    let evaluator = Evaluator::start(&support::evaluator(&store, &["127.0.0.1:1"], "")).await;
    until_held(&evaluator, "clock_ahead", 4.0).await;
    let ticks = evaluator.scrape().await.one("ebb_evaluator_ticks_total", &[]).unwrap();
    // Remote read, which it does not speak, and one query.
    let per_tick = asked.load(Ordering::Relaxed) as f64 / ticks;
    assert!(per_tick <= 4.0, "{per_tick} requests a tick");
}

#[tokio::test]
async fn what_was_scraped_moves_with_a_clock_that_is_set_for_good() {
    let clock = Clock::ahead_by(0);
    let runner = Runner::start_on(&clock, &support::steady(3)).await;
    let config = support::evaluator(&support::scrape_store(&[&runner.address]), &[&runner.address], "");
    let rule = "policy: renewal, restart_price: 1GiB*1h, min_age: 30m";
    let evaluator = Evaluator::start_on(&clock, &with_rule(&config, rule)).await;
    let instances = async || evaluator.api("instances").await.as_array().unwrap().clone();
    wait::until("instances were seen for a while", DEADLINE, async || {
        let all = instances().await;
        (all.len() == 3 && all.iter().all(|one| one["age_millis"].as_i64() > Some(5000))).then_some(())
    })
    .await;
    clock.set(2 * HOUR);
    until_held(&evaluator, "clock_ahead", 3.0).await;
    // It is believed after a minute.
    let all = wait::until("the evaluator goes on", DEADLINE * 2, async || {
        let status = evaluator.api("status").await;
        let all = instances().await;
        (status["hold"].is_null() && all.len() == 3).then_some(all)
    })
    .await;
    for instance in all {
        // Nothing has run for hours.
        let age = instance["age_millis"].as_f64().unwrap() / 1000.0;
        let observed = instance["observed_seconds"].as_f64().unwrap();
        assert!(observed <= age && age < 600.0, "{instance:#}");
        assert_eq!(instance["verdict"], "too_young", "{instance:#}");
    }
}
