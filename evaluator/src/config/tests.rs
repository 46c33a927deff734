use ebb_core::policy::{Policy, Pooling};
use ebb_units::ByteCount;

use super::*;

fn read(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("evaluator.yml"), text, false).map_err(|error| error.to_string())
}

const SMALLEST: &str = "store: {scrape: {targets: [\"127.0.0.1:9742\"]}}\n";

#[track_caller]
fn refused(text: &str, place: &str, expected: &str) {
    let error = read(text).unwrap_err();
    assert!(error.starts_with(place), "{error}\nstarts with {place}");
    assert!(error.contains(expected), "{error}\ncontains {expected}");
}

#[test]
fn the_smallest_config_has_safe_defaults() {
    let config = read(SMALLEST).unwrap();
    assert_eq!(config.interval, Span::secs(10));
    assert_eq!(config.stale_after(Elapsed::ZERO), Elapsed(30_000));
    assert!(config.runners.allow.allows("127.0.0.1:9742"));
    let rule = config.rules.of("any");
    assert!(matches!(rule.policy, Policy::Renewal(renewal) if renewal.pooling == Pooling::Adaptive));
    assert_eq!(rule.guard_rails.min_age, Span::secs(300));
}

#[test]
fn a_module_takes_what_it_does_not_set_from_the_defaults() {
    let config = read(&format!(
        "{SMALLEST}defaults: {{policy: t_interval, confidence_level: 0.9, max_bytes: 64MiB}}\nmodules: {{leaky: {{confidence_level: 0.999}}}}\n"
    ))
    .unwrap();
    assert_eq!(config.rules.of("leaky").policy.confidence_level(), Some(0.999));
    assert_eq!(config.rules.of("other").policy.confidence_level(), Some(0.9));
    assert_eq!(config.rules.of("leaky").guard_rails.max_bytes, Some(ByteCount::mib(64)));
}

#[test]
fn a_setting_that_changes_nothing_is_refused() {
    let beside =
        |text: &str, place: &str, expected: &str| refused(&format!("{SMALLEST}{text}\n"), place, expected);
    beside(
        "defaults: {confidence_level: 0.9}",
        "evaluator.yml:2:",
        "defaults.confidence_level: has no effect with policy renewal: only allowed with `policy: t_interval`",
    );
    beside(
        "modules: {a: {policy: none, available_below: 1GiB}}",
        "evaluator.yml:2:",
        "has no effect with policy none: only allowed with `policy: largest_first or oldest_first`",
    );
    // One module uses it.
    let text = "defaults: {confidence_level: 0.9}\nmodules: {a: {policy: t_interval}}";
    assert!(read(&format!("{SMALLEST}{text}\n")).is_ok());
}

#[test]
fn every_policy_can_be_chosen_and_asks_for_what_it_needs() {
    for settings in [
        "policy: t_interval, interval: tolerance, coverage: 0.9, confidence_level: 0.95, adapt: intent",
        "policy: t_interval, interval: confidence, adapt: literal",
        "policy: renewal, restart_price: 64MiB*1h, pooling: off",
        "policy: largest_first, available_below: 1GiB",
        "policy: oldest_first, available_below: 1GiB",
        "policy: static, max_bytes: 64MiB",
        "policy: max_age, max_age: 1d",
        "policy: none",
    ] {
        let text = format!("{SMALLEST}defaults: {{{settings}}}\n");
        let config = read(&text).unwrap_or_else(|error| panic!("{settings}: {error}"));
        // What `check` prints means the same.
        let printed = serde_yaml::to_string(&config).unwrap();
        let again = read(&printed).unwrap_or_else(|error| panic!("{printed}\n{error}"));
        assert_eq!(again.rules.of("any"), config.rules.of("any"), "{printed}");
    }
    for (policy, field) in [
        ("largest_first", "available_below"),
        ("oldest_first", "available_below"),
        ("static", "max_bytes"),
        ("max_age", "max_age"),
    ] {
        let text = format!("{SMALLEST}defaults: {{policy: {policy}}}\n");
        refused(&text, "evaluator.yml:2:", &format!("defaults.{field}: the policy needs"));
    }
}

#[test]
fn what_check_prints_is_complete_and_no_more_than_its_policy_has() {
    let config = read(&format!("{SMALLEST}modules: {{a: {{policy: max_age, max_age: 1d}}}}\n")).unwrap();
    let printed: serde_yaml::Value = serde_yaml::to_value(&config.rules).unwrap();
    let keys = |rule: &serde_yaml::Value| -> Vec<String> {
        rule.as_mapping().unwrap().keys().map(|key| key.as_str().unwrap().to_owned()).collect()
    };
    let rails = ["min_age", "min_lifetimes", "min_reclaim"];
    assert_eq!(
        keys(&printed["defaults"]),
        [&["policy", "restart_price", "pooling", "rhythm"], &rails[..]].concat()
    );
    assert_eq!(keys(&printed["modules"]["a"]), [&["policy", "max_age"], &rails[..]].concat());
}

#[test]
fn a_wrong_value_is_refused_in_its_section_and_at_its_own_place() {
    let beside =
        |text: &str, place: &str, expected: &str| refused(&format!("{SMALLEST}{text}\n"), place, expected);
    beside(
        "defaults:\n  policy: t_interval\n  coverage: 2",
        "evaluator.yml:4:13: defaults.coverage: ",
        "strictly between 0 and 1",
    );
    beside(
        "defaults:\n  min_age: 1s\nmodules:\n  a:\n    min_age: soon",
        "evaluator.yml:6:14: modules.a.min_age: ",
        "expected for example 250ms",
    );
    beside(
        "modules:\n  a: {}\n  b:\n    policy: []",
        "evaluator.yml:5:13: modules.b.policy: ",
        "expected one of `t_interval`",
    );
    beside("defaults:\n  pooling: 1\n", "evaluator.yml:3:12: defaults.pooling: ", "");
    beside("defaults: {pooling: off, pooling: off}", "evaluator.yml:2:", "duplicate field `pooling`");
    // Set to nothing is not set.
    assert_eq!(read(&format!("{SMALLEST}defaults: {{pooling: null}}\n")).unwrap(), read(SMALLEST).unwrap());
}

#[test]
fn an_unknown_key_is_refused_where_it_stands() {
    refused(&format!("{SMALLEST}intervall: 10s\n"), "evaluator.yml:2:1: ", "unknown field `intervall`");
    refused(
        &format!("{SMALLEST}modules:\n  leaky:\n    level: 0.9\n"),
        "evaluator.yml:4:5: modules.leaky: ",
        "unknown field `level`",
    );
    refused(
        "store: {prometheus: {url: \"http://p\", user: x}}\n",
        "evaluator.yml:1:",
        "unknown field `user`",
    );
}

#[test]
fn a_module_that_stands_twice_is_refused() {
    let twice = "modules:\n  app: {policy: none}\n  app: {policy: renewal}";
    refused(&format!("{SMALLEST}{twice}\n"), "evaluator.yml:", "duplicate module app");
}

#[test]
fn a_wrong_value_is_refused_where_it_stands() {
    refused(
        &format!("{SMALLEST}lookback: 101y\n"),
        "evaluator.yml:2:11: lookback: ",
        "longer than 100 years",
    );
    refused(&format!("{SMALLEST}interval: 10\n"), "evaluator.yml:2:11: interval: ", "a duration such as");
    refused(
        &format!("{SMALLEST}defaults:\n  confidence_level: 95\n"),
        "evaluator.yml:3:",
        "strictly between 0 and 1",
    );
    refused(
        &format!("{SMALLEST}defaults:\n  policy: magic\n"),
        "evaluator.yml:3:",
        "unknown variant `magic`",
    );
    refused(
        &format!("{SMALLEST}hold: {{series_drop: 2}}\n"),
        "evaluator.yml:2:",
        "expected a number from 0 to 1",
    );
    refused(&format!("{SMALLEST}runners: {{allow: [runner]}}\n"), "evaluator.yml:2:", "expected HOST:PORT");
}

#[test]
fn settings_that_do_not_go_together_are_refused_where_they_stand() {
    let beside =
        |text: &str, place: &str, expected: &str| refused(&format!("{SMALLEST}{text}\n"), place, expected);
    beside("interval: 1ms", "evaluator.yml:2:11: ", "interval: expected at least 100ms");
    beside("lookback: 1s", "evaluator.yml:2:11: ", "lookback: expected at least the interval");
    beside("defaults: {min_lifetimes: 1}", "evaluator.yml:2:", "defaults.min_lifetimes: expected at least 2");
    beside("modules:\n  m:\n    min_lifetimes: 0", "evaluator.yml:4:20: ", "modules.m.min_lifetimes");
    beside("runners: {allow: []}", "evaluator.yml:2:", "expected at least one address");
    beside("log: {level: warning}", "evaluator.yml:2:14: log.level: ", "a log level such as info");
    beside("budget: {burst: 0}", "evaluator.yml:2:", "budget.burst: expected at least 1");
    beside("listen: 0.0.0.0:9743", "evaluator.yml", "bearer_token_file: needed to listen on");
    refused(
        "store: {scrape: {targets: []}}\n",
        "evaluator.yml:1:",
        "store.scrape.targets: expected at least one",
    );
    refused("store: {}\n", "evaluator.yml:1:", "exactly one of `prometheus` and `scrape`");
}

#[test]
fn a_prometheus_that_cannot_be_asked_is_refused() {
    let check = |settings: &str, expected: &str| {
        refused(&format!("store:\n  prometheus:\n    url: {settings}\n"), "evaluator.yml:", expected);
    };
    check("http://p:9090", "runners.allow: expected the addresses");
    check("p:9090", "store.prometheus.url: expected an address such as");
    check("http://p:9090/api/v1/", "store.prometheus.url: expected the address in front of /api/v1");
    check("http://u:p@p:9090", "store.prometheus.url: expected an address without user and password");
    check("http://p\n    matchers: [job=ebb]", "store.prometheus.matchers: expected matchers such as");
    check(
        "http://p\n    headers: {\"a b\": c}",
        "store.prometheus.headers: expected names and values of HTTP headers",
    );
    check(
        "http://p\n    tls_config: {cert_file: a}",
        "store.prometheus.tls_config: expected cert_file and key_file",
    );
    check(
        "http://p\n    basic_auth: {username: u, password_file: f}\n    authorization: {credentials_file: f}",
        "expected at most one of basic_auth and authorization",
    );
}

#[test]
fn a_forced_dry_run_needs_no_allow_list() {
    let text = "store: {prometheus: {url: \"http://p:9090\"}}\n";
    assert!(Config::parse(Path::new("evaluator.yml"), text, true).unwrap().dry_run);
}

#[test]
fn without_a_store_the_config_is_refused() {
    refused("interval: 10s\n", "evaluator.yml", "missing field `store`");
}

#[test]
fn files_are_found_from_the_configs_folder() {
    let mut config = read(
        "store: {prometheus: {url: \"http://p\", basic_auth: {username: u, password_file: pw}}}\n\
         runners: {allow: [\"r:1\"], bearer_token_file: /run/token}\n",
    )
    .unwrap();
    config.resolve_paths(Path::new("/etc/ebb/evaluator.yml"));
    let crate::store::StoreConfig::Prometheus(store) = &config.store else { panic!("a prometheus store") };
    assert_eq!(store.basic_auth.as_ref().unwrap().password_file, Path::new("/etc/ebb/pw"));
    assert_eq!(config.runners.bearer_token_file.as_deref(), Some(Path::new("/run/token")));
}
