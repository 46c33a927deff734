//! The rules of ARCHITECTURE.md that a compiler does not check.

// The helpers of tests are tests, too.
#![expect(clippy::unwrap_used)]

mod cycles;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ebb_testbed::paths;

use self::cycles::Crate;

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

/// Which crates `name` is built of.
fn built_of(name: &str) -> BTreeSet<String> {
    let crates = cargo_tree(&["--package", name, "--edges", "normal"]);
    crates.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The lines of `cargo tree`, one per crate.
fn cargo_tree(args: &[&str]) -> BTreeSet<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(args)
        .current_dir(paths::root())
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let lines = String::from_utf8(cargo.stdout).unwrap();
    lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
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
        assert!(crates.len() >= least && crates.contains("serde"), "{name}: {crates:?}");
        let found: Vec<_> = outward.into_iter().filter(|outward| crates.contains(*outward)).collect();
        assert!(found.is_empty(), "{name} is built of {found:?}");
        let guards = paths::root().join("crates").join(name.trim_start_matches("ebb-")).join("clippy.toml");
        let guards = fs::read_to_string(guards).unwrap();
        for call in ["SystemTime::now", "Instant::now", "fs::read", "thread::sleep", "env::var"] {
            assert!(guards.contains(call), "{name} may call {call}");
        }
    }
}

/// A host has its own compiler, WASI, config and logs.
#[test]
fn the_library_for_hosts_brings_no_compiler_config_or_logs() {
    let crates = built_of("ebb-host");
    assert!(crates.contains("wasmtime") && crates.contains("axum"), "{crates:?}");
    for foreign in [
        "cranelift-codegen",
        "wasmtime-wasi",
        "ebb-runner",
        "ebb-core",
        "serde_yaml_ng",
        "clap",
        "tracing-subscriber",
        "tikv-jemallocator",
    ] {
        assert!(!crates.contains(foreign), "{foreign}");
    }
}

/// Cargo compiles a crate once for each set of features: with one set, who has seen the demo has Wasmtime for the tests.
#[test]
fn tests_bring_no_features_that_the_programs_are_built_without() {
    let format = ["--workspace", "--format", "{p} {f}", "--edges"];
    let [programs, tests] =
        ["normal,build", "normal,build,dev"].map(|edges| cargo_tree(&[&format[..], &[edges]].concat()));
    let differ: Vec<_> = programs.difference(&tests).collect();
    assert!(!programs.is_empty() && differ.is_empty(), "in tests with other features: {differ:#?}");
}

/// The folders of sources of all crates, of the guests' workspace, too.
fn crates() -> Vec<PathBuf> {
    let root = paths::root();
    let parents = [root.clone(), root.join("crates"), root.join("guests")];
    let folders = parents.iter().flat_map(|parent| fs::read_dir(parent).unwrap());
    // What a `fuzz` target needs of the runner is a copy of its tree.
    let folders = folders.map(|entry| entry.unwrap().path()).filter(|folder| !folder.ends_with("fuzz"));
    let sources =
        folders.filter(|folder| folder.join("Cargo.toml").is_file()).map(|folder| folder.join("src"));
    sources.filter(|folder| folder.is_dir()).collect()
}

#[test]
fn every_source_file_says_what_it_is_about() {
    let files: Vec<_> = crates().iter().flat_map(|folder| sources(folder)).collect();
    assert!(files.contains(&paths::root().join("runner/src/lib.rs")), "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let is_tests_of_its_parent = file.file_name() == Some("tests.rs".as_ref());
        assert!(is_tests_of_its_parent || text.starts_with("//! "), "{} opens with //!", file.display());
    }
}

/// The circles of imports among the files of `folder`, each once, with paths from `base` on.
fn cycles(folder: &Path, base: &Path) -> Vec<String> {
    let programs = fs::read_dir(folder.join("bin")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let programs = programs.flat_map(|path| [path.join("main.rs"), path]);
    let roots = [folder.join("lib.rs"), folder.join("main.rs")].into_iter().chain(programs);
    let prefix = format!("{}/", base.display());
    let cycles = roots.filter(|root| root.is_file()).flat_map(|root| Crate::read(&root).cycles());
    cycles.map(|cycle| cycle.replace(&prefix, "")).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let found: Vec<_> = crates().iter().flat_map(|folder| cycles(folder, &paths::root())).collect();
    assert!(found.is_empty(), "{} circles of imports:\n{}", found.len(), found.join("\n"));
}

/// Writes a crate of these files and asserts which circles it has, each with the lines that make it.
#[track_caller]
fn check_cycles(files: &[(&str, &str)], expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    assert_eq!(cycles(folder.path(), folder.path()), expected);
}

#[test]
fn a_circle_is_seen_however_the_names_are_written() {
    let circle = "a.rs → b.rs → a.rs\n    a.rs:1: ";
    let check = |a: &str, named: &str| {
        let files = [("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", "use super::a::A;")];
        check_cycles(&files, &[&format!("{circle}{named}\n    b.rs:1: super::a::A")]);
    };
    check("use crate::b::B;", "crate::b::B");
    check("use crate::{b::{self, B as C}, other};", "crate::b::B");
    check("use super::b::*;", "super::b::*");
    check("use super::b; fn f() { b::g::<u8>() }", "b::g");
    check("fn f() { println!(\"{}\", crate::b::B) }", "crate::b::B");
    check("#[serde(with = \"crate::b::B\")] struct A;", "crate::b::B");
    check("mod inner { impl super::super::b::B {} }", "super::super::b::B");
}

#[test]
fn circles_lead_over_several_files_and_parents() {
    check_cycles(
        &[
            ("main.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "\nuse crate::a::A;"),
        ],
        &[
            "a.rs → b.rs → c.rs → a.rs\n    a.rs:1: crate::b::B\n    b.rs:1: crate::c::C\n    c.rs:2: crate::a::A",
        ],
    );
    // What the parent hands on is the parent's.
    check_cycles(
        &[
            ("bin/x/main.rs", "mod a;"),
            ("bin/x/a/mod.rs", "mod one; mod two; pub use self::two::Two;"),
            ("bin/x/a/one.rs", "use super::Two;"),
            ("bin/x/a/two.rs", "use super::one::One;"),
        ],
        &[
            "bin/x/a/mod.rs → bin/x/a/two.rs → bin/x/a/one.rs → bin/x/a/mod.rs\n    bin/x/a/mod.rs:1: self::two::Two\n    \
             bin/x/a/two.rs:1: super::one::One\n    bin/x/a/one.rs:1: super::Two",
        ],
    );
}

#[test]
fn tests_modules_and_other_crates_make_no_circle() {
    let check = |a: &str| {
        let files = [("lib.rs", "pub mod a; pub mod b;"), ("a.rs", a), ("b.rs", "use crate::a::A;")];
        check_cycles(&files, &[]);
    };
    check("use crate::b;");
    check("pub(in crate::b) struct A;");
    check("#[cfg(test)] mod tests { use crate::b::B; }");
    check("#[cfg(test)] mod absent; struct A;");
    check("use ::b::B; use other::b::C; fn f() -> impl Copy + use<> { ::b::g(); Vec::<A>::b() }");
    check("/// [`crate::b::B`]\nstruct A;");
}
