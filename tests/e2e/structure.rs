//! The rules of ARCHITECTURE.md that a compiler does not check.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ebb_testbed::paths;

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries
        .flat_map(|entry| sources(&entry.unwrap().path()))
        .filter(|path| path.extension() == Some("rs".as_ref()))
        .collect()
}

#[test]
fn the_pure_parts_know_no_io_and_no_clock() {
    let pure = [
        "evaluator/src/rule.rs",
        "evaluator/src/rule",
        "evaluator/src/history.rs",
        "evaluator/src/history",
        "evaluator/src/explain.rs",
        "evaluator/src/intake.rs",
        "evaluator/src/intake",
        "evaluator/src/live/findings.rs",
        "evaluator/src/store/labels.rs",
        "evaluator/src/backtest.rs",
        "evaluator/src/backtest",
        "evaluator/src/chart.rs",
        "evaluator/src/web/page.rs",
        "evaluator/src/web/page",
        "lab/src/trace.rs",
        "lab/src/workload.rs",
        "lab/src/optimum.rs",
        "lab/src/reference.rs",
        "lab/src/score.rs",
        "evaluator/src/evaluation/logged_once.rs",
        "evaluator/src/store/prometheus/query/answer.rs",
        "evaluator/src/store/prometheus/xor_chunk.rs",
        "service/src/quote.rs",
        "runner/src/http/pace.rs",
        "runner/src/http/routes.rs",
        "runner/src/lifecycle.rs",
    ];
    let forbidden = [
        "tokio",
        "reqwest",
        "wasmtime",
        "hyper",
        "axum",
        "std::fs",
        "std::net",
        "std::io",
        "SystemTime::now",
        "Instant::now",
    ];
    let files: Vec<_> = pure.iter().flat_map(|path| sources(&paths::root().join(path))).collect();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for word in forbidden {
            assert!(!text.contains(word), "{} is pure and must not mention {word}", file.display());
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_about() {
    let crates = ["service", "runner", "evaluator", "testbed", "demo", "lab"];
    for file in crates.iter().flat_map(|name| sources(&paths::root().join(name).join("src"))) {
        let text = fs::read_to_string(&file).unwrap();
        let is_tests_of_its_parent = file.file_name() == Some("tests.rs".as_ref());
        assert!(is_tests_of_its_parent || text.starts_with("//! "), "{} opens with //!", file.display());
    }
}
