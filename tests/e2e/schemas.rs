//! The JSON schemas of both config files: what editors are told is what the programs do.

use std::{collections::BTreeMap, fs, path::Path};

use ebb_testbed::paths;
use serde_json::{Map, Value, json};

/// Each program with the schema that lies beside the example configs.
pub(crate) const SCHEMAS: [(&str, &str); 2] =
    [("ebb-runner", "config/runner.schema.json"), ("ebb-evaluator", "config/evaluator.schema.json")];

/// The schema that is committed for `program`.
pub(crate) fn schema(program: &str) -> Value {
    let (_, file) = SCHEMAS.into_iter().find(|(name, _)| *name == program).unwrap();
    let text = fs::read_to_string(paths::root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// What the schema of `program` has against `yaml`, each with its place.
pub(crate) fn complaints(program: &str, yaml: &str) -> Vec<String> {
    let value: Value = serde_yaml::from_str(yaml).unwrap();
    let validator = jsonschema::validator_for(&schema(program)).unwrap();
    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Every key that the schema of `program` knows, with its default if it tells one. `[]` stands for any item of a list.
pub(crate) fn keys(program: &str) -> BTreeMap<String, Option<Value>> {
    let root = schema(program);
    let mut keys = BTreeMap::new();
    collect(&root, &root, "", &mut keys);
    keys
}

fn collect(root: &Value, node: &Value, path: &str, keys: &mut BTreeMap<String, Option<Value>>) -> bool {
    let mut is_section = false;
    for node in alternatives(root, node) {
        let Some(properties) = node["properties"].as_object() else { continue };
        is_section = true;
        for (name, property) in properties {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let lists_sections = alternatives(root, property)
                .iter()
                .any(|list| collect(root, &list["items"], &format!("{key}[]"), keys));
            if lists_sections || !collect(root, property, &key, keys) {
                keys.insert(key, property.get("default").cloned());
            }
        }
    }
    is_section
}

/// What `node` comes down to, behind references and choices.
fn alternatives<'a>(root: &'a Value, node: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = node["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#'));
        return alternatives(root, target.unwrap_or_else(|| panic!("{reference} is in the schema")));
    }
    let choices = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|word| node[word].as_array()).flatten();
    std::iter::once(node).chain(choices.flat_map(|choice| alternatives(root, choice))).collect()
}

#[test]
fn the_committed_schemas_are_those_of_the_programs() {
    for (program, file) in SCHEMAS {
        let output = std::process::Command::new(paths::program(program)).arg("schema").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let committed = fs::read_to_string(paths::root().join(file)).unwrap_or_default();
        let now = String::from_utf8(output.stdout).unwrap();
        assert!(committed == now, "{file} is not what `{program} schema` prints: renew it by `make schemas`");
    }
}

#[test]
fn every_shipped_config_is_valid_and_names_its_schema() {
    let mut seen = 0;
    for folder in ["config", "deploy/compose"] {
        for entry in fs::read_dir(paths::root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let stem = ["runner", "evaluator"].into_iter().find(|stem| name.starts_with(stem));
            let Some(stem) = stem.filter(|_| name.ends_with(".yml")) else { continue };
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(complaints(&format!("ebb-{stem}"), &text), [""; 0], "{}", path.display());
            parse(&format!("ebb-{stem}"), &path, &text).unwrap_or_else(|error| panic!("{error}"));
            if folder == "config" {
                let first = format!("# yaml-language-server: $schema={stem}.schema.json");
                assert_eq!(text.lines().next(), Some(first.as_str()), "{}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}

/// Has `program` read a config; returns what it has against it.
pub(crate) fn parse(program: &str, file: &Path, yaml: &str) -> Result<(), String> {
    if program == "ebb-runner" {
        ebb_runner::config::Config::parse(file, yaml).map(drop).map_err(|error| error.to_string())
    } else {
        ebb_evaluator::config::Config::parse(file, yaml, false).map(drop).map_err(|error| error.to_string())
    }
}

/// A mistake that both the schema and the program see.
#[track_caller]
fn refused(program: &str, yaml: &str, place: &str) {
    let complaints = complaints(program, yaml);
    assert!(complaints.iter().any(|said| said.contains(place)), "{yaml}: {complaints:?} names {place}");
    let parsed = parse(program, Path::new("test.yml"), yaml);
    assert!(parsed.is_err(), "{yaml}: the program reads what its schema refuses");
}

#[test]
fn mistakes_in_a_runners_config_are_marked() {
    let bad = |yaml: &str, place: &str| refused("ebb-runner", yaml, place);
    let module = |extra: &str| format!("modules: [{{name: a, path: a.wasm, kind: command{extra}}}]");
    assert_eq!(complaints("ebb-runner", &module("")), [""; 0]);
    bad("{}", "modules");
    bad("modules: []\nshutdwn_timeout: 1s", "shutdwn_timeout");
    bad("modules: []\nshutdown_timeout: 10 parsecs", "/shutdown_timeout");
    bad("modules: []\nshutdown_timeout: 10", "/shutdown_timeout");
    bad("modules: []\ncontrol: {listen: \"localhost:9742\"}", "/control/listen");
    bad("modules: []\nlog: {level: loud}", "/log/level");
    bad("modules: []\nlog: {format: xml}", "/log/format");
    bad("modules: []\nhttp: {header_limit: 1024}", "/http/header_limit");
    bad("modules: []\nengine: {compile_cache: true}", "/engine/compile_cache");
    bad("modules: []\nhttp: {max_connections: 0}", "/http/max_connections");
    bad(&module(", replcas: 2"), "replcas");
    bad(&module(", replicas: many"), "/modules/0/replicas");
    bad(&module(", replicas: 1000001"), "/modules/0/replicas");
    bad(&module(", memory_limit: 64 parsecs"), "/modules/0/memory_limit");
    bad(&module(", memory_limit: 1024"), "/modules/0/memory_limit");
    bad(&module(", start_timeout: 0s"), "/modules/0/start_timeout");
    bad(&module(", env: {EBB_MODULE: x}"), "EBB_MODULE");
    bad(&module(", http: {}"), "/modules/0");
    bad("modules: [{name: 9a, path: a, kind: command}]", "/modules/0/name");
    bad("modules: [{name: a, path: a, kind: comand}]", "/modules/0/kind");
    bad("modules: [{name: a, path: a, kind: http, http: {routes: []}}]", "/http/routes");
    bad("modules: [{name: a, path: a, kind: http, http: {routes: [{host: \"a:80\"}]}}]", "/routes/0/host");
    bad("modules: [{name: a, path: a, kind: http, http: {routes: [{path: x}]}}]", "/routes/0/path");
    bad("modules: [{name: a, path: a, kind: http, http: {outgoing: [\"a:b\"]}}]", "/outgoing/0");
}

#[test]
fn mistakes_in_an_evaluators_config_are_marked() {
    let bad = |extra: &str, place: &str| {
        refused("ebb-evaluator", &format!("store: {{scrape: {{targets: [\"r:9742\"]}}}}\n{extra}"), place);
    };
    bad("intervall: 1s", "intervall");
    bad("interval: soon", "/interval");
    bad("lookback: 3", "/lookback");
    bad("dry_run: 7", "/dry_run");
    bad("hold: {series_drop: 1.5}", "/hold/series_drop");
    bad("budget: {burst: 0}", "/budget/burst");
    bad("runners: {allow: []}", "/runners/allow");
    bad("runners: {allow: [runner]}", "/runners/allow/0");
    bad("defaults: {policy: median}", "/defaults/policy");
    bad("defaults: {restart_price: 1GiB}", "/defaults/restart_price");
    bad("defaults: {restart_price: 0B*10m}", "/defaults/restart_price");
    bad("modules: {a: {policy: t_interval, confidence_level: 1}}", "/modules/a/confidence_level");
    bad("modules: {a: {policy: t_interval, min_lifetimes: 1}}", "/modules/a/min_lifetimes");
    bad("modules: {a: {max_bites: 1}}", "max_bites");
    let store = |store: &str, place: &str| refused("ebb-evaluator", store, place);
    store("store: {}", "/store");
    store("store: {scrape: {targets: []}}", "/store");
    let prometheus = "runners: {allow: [\"r:1\"]}\nstore:\n  prometheus:\n    url: http://p:9090\n";
    assert_eq!(complaints("ebb-evaluator", prometheus), [""; 0]);
    store(&prometheus.replace("http:", "ftp:"), "/store");
    store(&format!("{prometheus}    matchers: [job=ebb]"), "/store");
    store(&format!("{prometheus}    tls_config: {{cert_file: a}}"), "/store");
    store(
        &format!(
            "{prometheus}    basic_auth: {{username: u, password_file: f}}\n    authorization: {{credentials_file: f}}"
        ),
        "/store",
    );
}

/// Writes `value` at the place that `path` names, `[]` being the first item.
fn place(config: &mut Value, path: &str, value: Value) {
    let mut node = config;
    for part in path.split('.') {
        let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        node = &mut node[name];
        if is_list {
            if !node.is_array() {
                *node = json!([{}]);
            }
            node = &mut node[0];
        }
    }
    *node = value;
}

#[test]
fn a_runners_config_that_writes_out_all_defaults_means_the_same() {
    let short = json!({"http": {}, "modules": [{"name": "a", "path": "a", "kind": "http"}]});
    let mut long = short.clone();
    let mut defaults = 0;
    for (key, default) in keys("ebb-runner") {
        let Some(default) = default.filter(|_| key != "modules") else { continue };
        // A folder has no default; of the list of folders it is that there are none.
        if !key.starts_with("modules[].dirs[]") && !key.starts_with("modules[].http.routes") {
            place(&mut long, &key, default);
            defaults += 1;
        }
    }
    assert!(defaults >= 25, "{defaults}: {long}");
    let parse = |config: &Value| {
        ebb_runner::config::Config::parse(Path::new("runner.yml"), &config.to_string())
            .unwrap_or_else(|error| panic!("{error}: {config}"))
    };
    assert_eq!(parse(&long), parse(&short));
}

#[test]
fn an_evaluators_config_that_writes_out_all_defaults_means_the_same() {
    let short = json!({"store": {"scrape": {"targets": ["r:9742"]}}});
    let mut long = short.clone();
    let mut defaults = 0;
    // Of another policy than the default one.
    let useless = ["interval", "confidence_level", "coverage", "adapt", "population", "baseline"]
        .map(|key| format!("defaults.{key}"));
    for (key, default) in keys("ebb-evaluator") {
        let Some(default) = default.filter(|_| !useless.contains(&key)) else { continue };
        if !key.starts_with("store.prometheus") {
            place(&mut long, &key, default);
            defaults += 1;
        }
    }
    assert!(defaults >= 20, "{defaults}: {long}");
    let parse = |config: &Value| {
        ebb_evaluator::config::Config::parse(Path::new("evaluator.yml"), &config.to_string(), false)
            .unwrap_or_else(|error| panic!("{error}: {config}"))
    };
    assert_eq!(parse(&long), parse(&short));
    let with_prometheus = |store: Map<String, Value>| {
        let mut store = store;
        store.insert("url".to_owned(), json!("http://p:9090"));
        parse(&json!({"dry_run": true, "store": {"prometheus": store}}))
    };
    let mut written = json!({});
    for (key, default) in keys("ebb-evaluator") {
        if let (Some(key), Some(default)) = (key.strip_prefix("store.prometheus."), default)
            && !key.starts_with("authorization")
        {
            place(&mut written, key, default);
        }
    }
    assert_eq!(with_prometheus(written.as_object().unwrap().clone()), with_prometheus(Map::new()));
}
