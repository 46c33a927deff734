//! The rules of ARCHITECTURE.md that a compiler does not check.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
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

/// The crates that `name` is built of, of this workspace and others.
fn built_of(name: &str) -> Vec<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--package", name])
        .current_dir(paths::root())
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let lines = String::from_utf8(cargo.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// What these crates may name, Cargo says; what of the standard library they may call, their `clippy.toml`.
#[test]
fn the_pure_crates_are_built_of_nothing_that_does_io() {
    let outward = [
        "tokio",
        "mio",
        "hyper",
        "reqwest",
        "axum",
        "wasmtime",
        "rustix",
        "nix",
        "tracing-subscriber",
        "serde_yaml_ng",
        "prometheus-client",
        "clap",
        "ebb-service",
    ];
    for (name, least) in [("ebb-units", 5), ("ebb-core", 10)] {
        let crates = built_of(name);
        assert!(crates.len() >= least && crates.iter().any(|found| found == "serde"), "{name}: {crates:?}");
        let found: Vec<_> = crates.iter().filter(|found| outward.contains(&found.as_str())).collect();
        assert!(found.is_empty(), "{name} is built of {found:?}");
        let guards = paths::root().join("crates").join(name.trim_start_matches("ebb-")).join("clippy.toml");
        let guards = fs::read_to_string(guards).unwrap();
        for call in ["SystemTime::now", "Instant::now", "fs::read", "thread::sleep", "env::var"] {
            assert!(guards.contains(call), "{name} may call {call}");
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_about() {
    let crates = [
        "crates/units",
        "crates/core",
        "crates/service",
        "crates/testbed",
        "runner",
        "evaluator",
        "demo",
        "lab",
        "soak",
    ];
    for file in crates.iter().flat_map(|name| sources(&paths::root().join(name).join("src"))) {
        let text = fs::read_to_string(&file).unwrap();
        let is_tests_of_its_parent = file.file_name() == Some("tests.rs".as_ref());
        assert!(is_tests_of_its_parent || text.starts_with("//! "), "{} opens with //!", file.display());
    }
}
