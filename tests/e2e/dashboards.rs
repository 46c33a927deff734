//! Grafana's dashboards: well-formed, and every query of theirs has data when a fleet is at work.

use std::{
    collections::{BTreeSet, HashSet},
    process::Command,
    time::Duration,
};

use ebb_testbed::{
    evaluator::Evaluator,
    grafana::{Dashboard, Piece, Query, pieces},
    load::{
        Connection, Load,
        ask::{Ask, Expected, Pattern},
    },
    paths,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::{Value, json};

use crate::support::{self, DEADLINE};

/// Each dashboard's panels that show something.
fn shown(dashboard: &Dashboard) -> impl Iterator<Item = &Value> {
    dashboard.panels().filter(|panel| panel["type"] != "row")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Every text in `value`, wherever it stands.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(entries) => entries.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Every value in `value` that stands under `key`.
fn under<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    match value {
        Value::Array(values) => values.iter().flat_map(|value| under(value, key)).collect(),
        Value::Object(entries) => {
            let below = entries.values().flat_map(|value| under(value, key));
            entries.get(key).into_iter().chain(below).collect()
        }
        _ => Vec::new(),
    }
}

/// The variables that `text` mentions, but for Grafana's own.
fn mentioned(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Variable(name) if !name.starts_with("__") => Some(name),
        _ => None,
    })
}

fn declared(dashboard: &Dashboard) -> BTreeSet<&str> {
    dashboard.variables().iter().map(|variable| text(&variable["name"])).collect()
}

#[test]
fn there_are_three_dashboards_that_keep_their_uids() {
    let all = Dashboard::all();
    let names: Vec<_> = all.iter().map(|dashboard| dashboard.name.as_str()).collect();
    assert_eq!(names, ["evaluator", "fleet", "module"]);
    for dashboard in &all {
        assert_eq!(dashboard.json["uid"], format!("ebb-{}", dashboard.name));
        assert_eq!(dashboard.json["tags"], json!(["ebb"]));
        // An id, and what is asked for at an import, belong to one Grafana.
        for key in ["id", "__inputs", "__requires", "__elements"] {
            assert!(dashboard.json[key].is_null(), "{}: {key}", dashboard.name);
        }
    }
}

#[test]
fn the_data_source_is_a_variable_wherever_one_is_named() {
    for dashboard in Dashboard::all() {
        let sources = under(&dashboard.json, "datasource");
        assert!(sources.len() > 30, "{}", dashboard.name);
        for source in sources {
            assert_eq!(*source, json!({"type": "prometheus", "uid": "${datasource}"}), "{}", dashboard.name);
        }
        let named_so: Vec<_> =
            dashboard.variables().iter().filter(|variable| variable["name"] == "datasource").collect();
        assert_eq!(named_so.len(), 1, "{}", dashboard.name);
        assert_eq!(named_so[0]["type"], "datasource");
        assert_eq!(named_so[0]["query"], "prometheus");
    }
}

#[test]
fn panels_stand_on_the_grid_side_by_side_and_have_ids_of_their_own() {
    for dashboard in Dashboard::all() {
        let mut ids = HashSet::new();
        let mut taken = HashSet::new();
        for panel in dashboard.panels() {
            let whose = format!("{}: {}", dashboard.name, panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{whose}: its id is another's");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w >= 1 && h >= 1 && x + w <= 24, "{whose}: outside of 24 columns");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{whose}: {cell:?} is another's");
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    for dashboard in Dashboard::all() {
        for panel in shown(&dashboard) {
            let whose = format!("{}: {}", dashboard.name, panel["title"]);
            assert!(!text(&panel["title"]).is_empty());
            let description = text(&panel["description"]);
            assert!(description.len() > 10 && description.ends_with('.'), "{whose}: {description}");
            assert!(!text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{whose}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{whose}");
        }
        for variable in dashboard.variables() {
            assert!(text(&variable["description"]).ends_with('.'), "{}: {variable}", dashboard.name);
        }
    }
}

#[test]
fn every_variable_that_is_used_is_declared_and_the_other_way_round() {
    for dashboard in Dashboard::all() {
        let repeated = shown(&dashboard).filter_map(|panel| panel["repeat"].as_str());
        let used: BTreeSet<_> =
            texts(&dashboard.json).into_iter().flat_map(mentioned).chain(repeated).collect();
        assert_eq!(used, declared(&dashboard), "{}", dashboard.name);
    }
}

#[test]
fn dashboards_lead_to_each_other_and_keep_time_and_variables() {
    let all = Dashboard::all();
    for dashboard in &all {
        let links = dashboard.json["links"].as_array().unwrap();
        let to_all = links.iter().find(|link| link["type"] == "dashboards" && link["tags"] == json!(["ebb"]));
        let to_all = to_all.unwrap_or_else(|| panic!("{}: no link to the others", dashboard.name));
        assert!(to_all["keepTime"] == true && to_all["includeVars"] == true, "{to_all}");

        for url in under(&dashboard.json, "url").into_iter().map(text).filter(|url| !url.is_empty()) {
            let (uid, parameters) = url.strip_prefix("/d/").unwrap().split_once('?').unwrap();
            let target = all.iter().find(|other| other.json["uid"] == uid);
            let target = target.unwrap_or_else(|| panic!("{}: no dashboard {uid}", dashboard.name));
            assert!(parameters.contains("${__url_time_range}"), "{url}");
            let by_name = parameters.split('&').filter_map(|parameter| parameter.strip_prefix("var-"));
            let by_name = by_name.map(|parameter| parameter.split_once('=').unwrap().0);
            for name in mentioned(parameters).chain(by_name) {
                assert!(declared(target).contains(name), "{uid} has no variable {name}: {url}");
            }
        }
    }
}

#[test]
fn the_docs_list_every_metric_that_dashboards_and_alerts_ask_for() {
    let docs = std::fs::read_to_string(paths::root().join("docs/metrics.md")).unwrap();
    let alerts = std::fs::read_to_string(paths::root().join("config/alerts.yml")).unwrap();
    let all = Dashboard::all();
    let expressions = all.iter().flat_map(Dashboard::queries).map(|query| query.expr);
    let mut asked_for = 0;
    for expression in expressions.chain([alerts]) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("wasm_") || word.starts_with("ebb_")) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            let name = family.unwrap_or(word);
            assert!(
                docs.contains(&format!("`{name}`")),
                "{name} is in no table of docs/metrics.md: {expression}"
            );
            asked_for += 1;
        }
    }
    assert!(asked_for > 100, "{asked_for}");
}

#[test]
fn grafana_knows_every_key_value_and_unit() {
    let python = paths::existing(
        paths::root().join("target/tools/grafana/bin/python"),
        "scripts/install-dashboard-tools.sh",
    );
    let output =
        Command::new(python).arg(paths::root().join("scripts/check-dashboards.py")).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

/// Instances on both runners together.
const INSTANCES: usize = 12;

/// What a query looks back on.
const WINDOW: Duration = Duration::from_secs(300);

/// A fleet that has work for every panel: a module that leaks, and one that serves and swells; a Prometheus that scrapes
/// runners and evaluator, and watches over them by the alerts.
struct Fleet {
    prometheus: Prometheus,
    evaluator: Evaluator,
    runners: [Runner; 2],
}

impl Fleet {
    async fn start(major: Major) -> Self {
        let modules = [support::leaky(3), support::storage(3, "256MiB", "")].concat();
        let runners = [Runner::start(&modules).await, Runner::start(&modules).await];
        let targets = [runners[0].address.as_str(), runners[1].address.as_str()];
        // Prometheus needs the evaluator's address in its config, and the evaluator that of Prometheus.
        let evaluator_address = ebb_testbed::free_address();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n\
             - job_name: ebb-runner\n  static_configs: [{{targets: [\"{}\", \"{}\"]}}]\n\
             - job_name: ebb-evaluator\n  static_configs: [{{targets: [\"{evaluator_address}\"]}}]\n",
            paths::root().join("config/alerts.yml").display(),
            targets[0],
            targets[1],
        );
        let prometheus = Prometheus::start_with(major, &config, &[]).await;
        let store = support::prometheus_store(&prometheus.url)
            .replace("{url:", "{matchers: ['job=\"ebb-runner\"'], url:");
        // What took in a large file is above this.
        let swollen = "modules: {storage: {max_bytes: 4MiB}}\n";
        let config = support::evaluator(&store, &targets, swollen);
        let evaluator = Evaluator::start_at(&evaluator_address, &config).await;
        Self { prometheus, evaluator, runners }
    }

    /// Waits until the evaluator has seen every instance as it started.
    async fn is_known(&self) {
        wait::until("the evaluator knows every instance", DEADLINE, async || {
            (self.evaluator.api("status").await["instances"] == INSTANCES).then_some(())
        })
        .await;
    }

    /// Clients of both runners that store small files and look at them.
    fn clients(&self) -> [Load; 2] {
        self.runners.each_ref().map(|runner| {
            Load::start_at_leisure(&runner.http_address, 2, Duration::from_millis(50), |n| {
                let path = format!("/file-{}", n % 5);
                match n % 2 {
                    0 => Ask::put(path, Pattern { bytes: 10_000, seed: n }),
                    // It may not be there yet.
                    _ => Ask { status: &[200, 404], ..Ask::get(path, Expected::Anything) },
                }
            })
        })
    }

    /// Has an instance of each runner take in a large file, once: its successor holds less.
    async fn swell(&self) {
        for runner in &self.runners {
            let mut connection = Connection::open(&runner.http_address).await.unwrap();
            connection.ask(&Ask::put("/large", Pattern { bytes: 8_000_000, seed: 0 })).await.unwrap();
        }
    }
}

/// Whether nothing is what a query shows of a fleet that is well: there are no holds and no alerts; and node-exporter
/// does not run here.
fn may_be_empty(query: &Query) -> bool {
    let is_mark = |name: &str| query.of.ends_with(&format!("annotation \"{name}\""));
    is_mark("Holds") || is_mark("Alerts") || query.expr.contains("node_")
}

fn has_a_number(series: &[Value]) -> bool {
    let samples = series.iter().flat_map(|one| {
        let range = one["values"].as_array().into_iter().flatten();
        range.chain(one.get("value"))
    });
    samples.into_iter().any(|sample| sample[1].as_str().is_some_and(|value| value != "NaN"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_data_of_a_fleet_at_work_and_no_alert_fires_on_prometheus_2() {
    every_query_has_data(Major::Two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_data_of_a_fleet_at_work_and_no_alert_fires_on_prometheus_3() {
    every_query_has_data(Major::Three).await;
}

async fn every_query_has_data(major: Major) {
    let fleet = Fleet::start(major).await;
    fleet.is_known().await;
    let clients = fleet.clients();
    fleet.swell().await;
    for module in ["leaky", "storage"] {
        let label = format!("module=\"{module}\"");
        wait::until(&format!("the memory of {module} fell after a restart"), DEADLINE, async || {
            let scrape = fleet.evaluator.scrape().await;
            let fell = scrape.sum("ebb_evaluator_effects_total", &[&label, "effect=\"memory_fell\""]);
            let is_learned = scrape.sum("ebb_evaluator_threshold_bytes", &[&label]) > 0.0;
            (fell >= 1.0 && is_learned).then_some(())
        })
        .await;
    }

    for dashboard in Dashboard::all() {
        let values = dashboard.values(&fleet.prometheus, &[("module", "storage")]).await;
        for query in dashboard.queries() {
            let expr = values.put_into(&query.expr);
            wait::until(&format!("{} has data: {expr}", query.of), DEADLINE, async || {
                let series = if query.is_instant {
                    fleet.prometheus.query(&expr).await
                } else {
                    fleet.prometheus.query_range(&expr, WINDOW).await
                };
                let series = series.unwrap_or_else(|error| panic!("{}: {expr}: {error}", query.of));
                (has_a_number(&series) || may_be_empty(&query)).then_some(())
            })
            .await;
        }
    }

    let rules = format!("{}/api/v1/rules", fleet.prometheus.url);
    wait::until("every alert was evaluated", DEADLINE, async || {
        let answer = ebb_testbed::http::json(&rules).await?;
        let alerts = answer["data"]["groups"][0]["rules"].as_array()?.clone();
        assert!(alerts.len() >= 7, "{answer:#}");
        for alert in &alerts {
            assert_ne!(alert["health"], "err", "{alert:#}");
            assert_ne!(alert["state"], "firing", "{alert:#}");
        }
        alerts.iter().all(|alert| alert["health"] == "ok").then_some(())
    })
    .await;
    for client in clients {
        let summary = client.stop().await;
        assert_eq!(summary.failed, 0, "{summary}");
    }
}
