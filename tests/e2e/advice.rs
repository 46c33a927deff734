//! What days of history tell: which kind of growth a module has, when memory runs out, and what to set. Days that nobody waited for: they
//! are written into Prometheus' database before it starts.

use std::{
    fmt::Write as _,
    fs,
    process::{Command, Output},
    time::SystemTime,
};

use ebb_testbed::{
    evaluator::Evaluator,
    http, paths,
    prometheus::{Major, Prometheus},
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{browser::Browser, support::DEADLINE};

const MIB: f64 = 1_048_576.0;
const DAYS: i64 = 3;

/// A module whose three replicas are restarted every so many hours, and hold so many MiB at an age in hours.
struct Module {
    name: &'static str,
    limit_mib: u64,
    restarted_hours: i64,
    mib: fn(f64) -> f64,
}

const MODULES: [Module; 3] = [
    // At a price of 1 GiB · 10 min it is restarted at 2 + 4 · 9.2 MiB.
    Module { name: "leaky", limit_mib: 256, restarted_hours: 8, mib: |age| 2.0 + 4.0 * age },
    // 256 MiB · 2 h is three times that price.
    Module {
        name: "cache",
        limit_mib: 512,
        restarted_hours: 24,
        mib: |age| 2.0 + 256.0 * (1.0 - (-age / 2.0).exp()),
    },
    // Never restarted: 74 MiB after three days, and eight hours to go.
    Module { name: "stuck", limit_mib: 82, restarted_hours: 24 * 365, mib: |age| 2.0 + age },
];

/// A sample each minute for three days, and for an hour from now on: what lies ahead is found as time goes on.
fn history() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let first = i64::try_from(now).unwrap() / 60 * 60 - DAYS * 86_400;
    let minutes = || (0..DAYS * 1440 + 60).map(|minute| (minute, first + minute * 60));
    let mut text = String::new();
    for gauge in ["wasm_linear_memory_bytes", "wasm_instance_start_time_seconds"] {
        let _ = writeln!(text, "# TYPE {gauge} gauge");
        for Module { name, restarted_hours, mib, .. } in &MODULES {
            for replica in 0..3 {
                for (minute, at) in minutes() {
                    let age = (minute + replica * 11) % (restarted_hours * 60);
                    let value = if gauge.ends_with("bytes") {
                        (mib(age as f64 / 60.0) * MIB).floor()
                    } else {
                        (at - age * 60) as f64
                    };
                    let _ = writeln!(
                        text,
                        "{gauge}{{job=\"ebb-runner\",instance=\"127.0.0.1:9\",module=\"{name}\",digest=\"d1\",replica=\"{replica}\"}} {value} {at}"
                    );
                }
            }
        }
    }
    text += "# TYPE wasm_linear_memory_limit_bytes gauge\n";
    for Module { name, limit_mib, .. } in &MODULES {
        for (_, at) in minutes() {
            let bytes = limit_mib << 20;
            let _ = writeln!(
                text,
                "wasm_linear_memory_limit_bytes{{job=\"ebb-runner\",instance=\"127.0.0.1:9\",module=\"{name}\"}} {bytes} {at}"
            );
        }
    }
    text + "# EOF\n"
}

/// An evaluator's config on that history. Orders reach nobody: there is no runner.
fn config(prometheus: &Prometheus) -> String {
    format!(
        "store: {{prometheus: {{url: \"{}\"}}}}\ninterval: 1s\nlookback: 4d\nrunners: {{allow: [\"127.0.0.1:9\"]}}\n\
         modules: {{stuck: {{policy: none}}}}\n",
        prometheus.url
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_history_tell_what_grows_when_it_runs_out_and_what_to_set() {
    let prometheus = Prometheus::start_with_history(Major::Three, &history()).await;
    let evaluator = Evaluator::start(&config(&prometheus)).await;
    let modules = wait::until("growth is known and limits are foreseen", DEADLINE, async || {
        let modules = evaluator.api("modules").await;
        let found = modules.to_string();
        (found.contains("stuck") && found.contains("first to reach its limit")).then_some(modules)
    })
    .await;
    let of = |name: &str| {
        let found = modules.as_array().unwrap().iter().find(|module| module["module"] == name);
        found.unwrap_or_else(|| panic!("{name}: {modules:#}"))
    };
    let findings = |name: &str| of(name)["findings"].to_string();
    for (name, kind) in [("leaky", "leak"), ("cache", "plateau"), ("stuck", "leak")] {
        assert_eq!(of(name)["growth"]["kind"], kind, "{modules:#}");
    }
    // Of the shipped rule: S · τ is 512 MiB hours, the price 171.
    assert!(
        findings("cache").contains("they are restarted for their warm-up again and again"),
        "{modules:#}"
    );
    assert!(
        findings("cache").contains("more than the restart_price 1GiB*10m (170.7 MiB hours)"),
        "{modules:#}"
    );
    let instances = evaluator.api("instances?module=stuck").await;
    let reached = &instances[0]["limit_reached"];
    let hours = |bound: &str| reached["without_restarts"][bound].as_f64().unwrap_or(f64::NAN) / 3_600_000.0;
    assert!((7.5..8.5).contains(&hours("median_millis")), "{instances:#}");
    assert!(hours("low_millis") > 7.0 && hours("high_millis") < 9.0, "{instances:#}");
    assert_eq!(reached["obstacle"], "no_threshold", "{instances:#}");

    let scrape = evaluator.scrape().await;
    let stuck = ["module=\"stuck\"", "restarts=\"on\"", "bound=\"median\""];
    let seconds = scrape.sum("ebb_evaluator_limit_reached_seconds", &stuck);
    assert!((7.5..8.5).contains(&(seconds / 3600.0)), "{seconds}");
    // What is restarted at 39 MiB never has 256.
    let leaky = |restarts: &str| {
        scrape.sum(
            "ebb_evaluator_limit_reached_seconds",
            &["module=\"leaky\"", &format!("restarts=\"{restarts}\"")],
        )
    };
    assert!(leaky("off") > 3600.0 && leaky("on") == 0.0, "{} {}", leaky("off"), leaky("on"));

    let program = |arguments: &[&str]| -> Output {
        let mut command = Command::new(paths::program("ebb-evaluator"));
        command.arg("--config").arg(evaluator.config_path()).args(arguments).output().unwrap()
    };
    let explained = String::from_utf8(program(&["explain", "stuck/0"]).stdout).unwrap();
    for words in
        ["it reaches its limit in ", "restarts do not help: there is no size", "growth with age: leak"]
    {
        assert!(explained.contains(words), "{explained}");
    }
    tokio::task::block_in_place(|| advised(&program));
    shown(&evaluator).await;
}

/// What `advise` tells of it.
fn advised(program: &impl Fn(&[&str]) -> Output) {
    let dir = TempDir::new().unwrap();
    let plot = dir.path().join("curve.svg").display().to_string();
    let output = program(&["advise", "--from", "2d", "--format", "json", "--plot", &plot]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let advice: Value = serde_json::from_slice(&output.stdout).unwrap();
    let points = advice["points"].as_array().unwrap();
    let figure = |point: &Value, name: &str| point[name].as_f64().unwrap();
    for pair in points.windows(2) {
        let [cheap, dear] = pair else { unreachable!() };
        assert!(figure(cheap, "restarts_per_day") >= figure(dear, "restarts_per_day"), "{advice:#}");
        assert!(figure(cheap, "mean_bytes") <= 1.02 * figure(dear, "mean_bytes"), "{advice:#}");
    }
    let configured = &points[usize::try_from(advice["configured"].as_u64().unwrap()).unwrap()];
    assert_eq!(configured["restart_price"], "1GiB*10m");
    assert_eq!(advice["slots"], 9);
    let limits = &configured["modules"]["leaky"];
    let peak = figure(limits, "peak_bytes") / MIB;
    assert!((30.0..60.0).contains(&peak), "{advice:#}");
    assert!(figure(limits, "max_bytes") > figure(limits, "peak_bytes"), "{advice:#}");
    assert!(figure(limits, "memory_limit") > figure(limits, "max_bytes"), "{advice:#}");
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.contains("<svg") && svg.contains("configured") && svg.contains("as it was"), "{svg}");

    let table = String::from_utf8(program(&["advise", "--from", "2d"]).stdout).unwrap();
    for words in [
        "RESTART PRICE",
        "configured",
        "as it was",
        "leaky: max_bytes",
        "cache: instances fill up",
        "are taken back",
    ] {
        assert!(table.contains(words), "{table}");
    }
    // What is to be pasted is a config: with a store, the programs take it.
    let asked = program(&["advise", "--from", "2d", "--restart-price", "2GiB*10m", "--format", "config"]);
    let fragment = String::from_utf8(asked.stdout).unwrap();
    assert!(fragment.contains("restart_price: 2GiB*10m"), "{fragment}");
    let (evaluator, runner) = fragment.split_once("# runner.yml\n").unwrap();
    let path = dir.path().join("evaluator.yml");
    fs::write(
        &path,
        format!("store: {{prometheus: {{url: \"http://p:9090\"}}}}\ndry_run: true\n{evaluator}"),
    )
    .unwrap();
    let mut check = Command::new(paths::program("ebb-evaluator"));
    let checked = check.arg("--config").arg(&path).arg("check").output().unwrap();
    assert!(checked.status.success(), "{fragment}{}", String::from_utf8_lossy(&checked.stderr));
    let runner: Value = serde_yaml::from_str(runner).unwrap();
    assert_eq!(runner["modules"].as_array().unwrap().len(), 3, "{fragment}");
}

/// The same on the page.
async fn shown(evaluator: &Evaluator) {
    let url = format!("http://{}/api/v1/advice", evaluator.address);
    let advice =
        wait::until("the evaluator has worked it out", DEADLINE, async || http::json(&url).await).await;
    assert_eq!(advice["slots"], 9, "{advice:#}");
    let browser = Browser::start((1200, 1600)).await;
    browser.driver.goto(format!("http://{}/advice", evaluator.address)).await.unwrap();
    browser.says("#advice-points", "configured").await;
    browser.says("#advice-fragment", "memory_limit").await;
    browser.screenshot("advice").await;
    browser.driver.goto(format!("http://{}/modules/stuck", evaluator.address)).await.unwrap();
    browser.says("[data-limit-reached]", "restarts do not help").await;
    browser.driver.goto(format!("http://{}/modules/cache", evaluator.address)).await.unwrap();
    browser.says("[data-warm-up]", "170.7 MiB hours").await;
    browser.screenshot("outlook").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}
