//! What a scrape shows, in both formats.

use std::collections::{HashMap, HashSet};

use reqwest::Method;

use crate::{
    guests,
    support::{Runner, eventually, module},
};

/// Every family of DESIGN section 3 that concerns command modules, with its type in text 0.0.4.
const FAMILIES: [(&str, &str); 18] = [
    ("wasm_linear_memory_bytes", "gauge"),
    ("wasm_instance_start_time_seconds", "gauge"),
    ("wasm_linear_memory_limit_bytes", "gauge"),
    ("wasm_linear_memory_grow_failures_total", "counter"),
    ("wasm_instance_up", "gauge"),
    ("wasm_instance_ends_total", "counter"),
    ("wasm_instance_restarts_total", "counter"),
    ("wasm_restart_duration_seconds", "histogram"),
    ("wasm_restart_reclaimed_bytes_total", "counter"),
    ("wasm_handles", "gauge"),
    ("wasm_handles_limit", "gauge"),
    ("wasm_module_info", "gauge"),
    ("ebb_runner_build_info", "gauge"),
    ("ebb_runner_host_memory_total_bytes", "gauge"),
    ("ebb_runner_host_memory_available_bytes", "gauge"),
    ("ebb_runner_config_last_reload_successful", "gauge"),
    ("ebb_runner_config_last_reload_success_timestamp_seconds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
];

/// Families by name → type, after checking that every sample belongs to the family above it.
fn families(text: &str) -> HashMap<String, String> {
    let (mut families, mut current, mut series) = (HashMap::new(), String::new(), HashSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_owned();
            assert!(families.insert(current.clone(), kind.to_owned()).is_none(), "{name} twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&current), "{line} below {current}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name.to_owned()), "{name} twice");
            assert!(!name.contains("instance=\""), "{line}");
        }
    }
    families
}

async fn scrape(runner: &Runner, accept: &str) -> (String, String) {
    let answer = runner.send(Method::GET, "/metrics", &[("accept", accept)], "").await;
    assert_eq!(answer.status, 200);
    (answer.headers["content-type"].to_str().unwrap().to_owned(), answer.text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_family_is_there_in_both_formats() {
    let runner = Runner::start(&[("a.wat", guests::sleeper())], &module("a", 2, "")).await;

    let (content_type, text) = scrape(&runner, "*/*").await;
    assert!(content_type.starts_with("text/plain; version=0.0.4"));
    let found = families(&text);
    for (name, kind) in FAMILIES {
        assert_eq!(found.get(name).map(String::as_str), Some(kind), "{name}\n{text}");
    }

    let (content_type, text) = scrape(&runner, "application/openmetrics-text; version=1.0.0").await;
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(text.ends_with("# EOF\n"));
    let found = families(&text);
    for (name, _) in FAMILIES {
        let name = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
        assert!(found.contains_key(name), "{name}\n{text}");
    }
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_values_are_as_documented() {
    let runner =
        Runner::start(&[("a.wat", guests::sleeper())], &module("a", 1, ", memory_limit: 2MiB")).await;
    let instance = runner.instance_in_state("a/0", "running").await;
    let digest = instance["digest"].as_str().unwrap();
    assert!(digest.len() == 12 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    let seconds = instance["generation"].as_u64().unwrap() as f64 / 1000.0;
    let lifetime = format!(r#"{{module="a",digest="{digest}",replica="0"}}"#);
    let slot = r#"{module="a",replica="0"}"#;
    let metrics = runner.metrics().await;
    let mut expected = vec![
        format!("wasm_linear_memory_bytes{lifetime} 65536"),
        format!("wasm_instance_start_time_seconds{lifetime} {seconds}"),
        r#"wasm_linear_memory_limit_bytes{module="a"} 2097152"#.to_owned(),
        r#"wasm_linear_memory_grow_failures_total{module="a"} 0"#.to_owned(),
        format!("wasm_instance_up{slot} 1"),
        format!("wasm_instance_ends_total{slot} 0"),
        format!(r#"wasm_module_info{{module="a",digest="{digest}",kind="command"}} 1"#),
        r#"wasm_restart_reclaimed_bytes_total{module="a"} 0"#.to_owned(),
    ];
    for reason in ["threshold", "pressure", "operator", "crash", "exit", "reload"] {
        expected.push(format!(r#"wasm_instance_restarts_total{{module="a",reason="{reason}"}} 0"#));
    }
    let of_this_replica = metrics.lines().filter(|line| line.contains(r#"replica="0""#)).count();
    assert_eq!(of_this_replica, 4, "series per instance\n{metrics}");
    for line in expected {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    assert!(instance["started_at"].as_str().unwrap().ends_with('Z'), "{instance}");
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runner_is_healthy_before_it_is_ready() {
    let folder = crate::support::config_folder(
        &[("slow.wat", guests::start_spinner())],
        &module("slow", 1, ", start_timeout: 1s"),
        "",
    );
    let runner = Runner::launch(folder).await;
    let ready = eventually("it answers", async || Some(runner.get("/-/ready").await)).await;
    assert_eq!(ready.status, 503);
    assert!(ready.error().contains("not ready"));
    assert_eq!(runner.get("/-/healthy").await.status, 200);
    eventually("it is ready", async || (runner.get("/-/ready").await.status == 200).then_some(())).await;
    runner.stop().await;
}
