//! The alerts: valid, tested, and each with a section of the runbook.

use std::{fs, process::Command};

use ebb_testbed::{paths, prometheus::promtool};

fn read(path: &str) -> String {
    fs::read_to_string(paths::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Each alert's name and what `alerts.yml` says of it.
fn alerts(file: &str) -> Vec<(&str, &str)> {
    file.split("- alert: ").skip(1).map(|alert| alert.split_once('\n').unwrap()).collect()
}

fn passes(arguments: &[&str]) {
    let output = Command::new(promtool()).args(arguments).current_dir(paths::root()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("SUCCESS"), "promtool {arguments:?}: {said}");
}

#[test]
fn alerts_fire_when_they_should_and_not_when_they_should_not() {
    passes(&["check", "rules", "config/alerts.yml"]);
    passes(&["test", "rules", "config/alerts.test.yml"]);
}

#[test]
fn the_shipped_prometheus_config_loads_the_alerts() {
    assert!(read("config/prometheus.yml").contains("rule_files: [alerts.yml]"));
}

#[test]
fn every_alert_has_a_test_and_a_section_of_the_runbook_that_it_names() {
    let (file, tests, runbook) =
        (read("config/alerts.yml"), read("config/alerts.test.yml"), read("docs/runbook.md"));
    let alerts = alerts(&file);
    assert!(alerts.len() >= 7, "{alerts:?}");
    for (name, alert) in &alerts {
        // A heading's anchor is the heading in lower case.
        assert!(runbook.contains(&format!("\n## {name}\n")), "docs/runbook.md has no section {name}");
        let url = alert.lines().find_map(|line| line.trim().strip_prefix("runbook_url: https://"));
        let anchor = format!("/runbook.md#{}", name.to_lowercase());
        assert!(url.is_some_and(|url| url.ends_with(&anchor)), "{name}: {url:?} leads to no {anchor}");
        for key in ["severity: ", "summary: ", "description: "] {
            assert!(alert.contains(key), "{name} has no {key}");
        }
        let (fires, silent) = (format!("alertname: {name}\n"), format!("alertname: {name},"));
        assert!(tests.contains(&fires), "no test has {name} fire");
        assert!(tests.contains(&silent), "no test has {name} silent");
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## Ebb")).count();
    assert_eq!(sections, alerts.len(), "the runbook has a section for each alert, and for no other");
}
