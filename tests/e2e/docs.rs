//! The documentation: every config in it is one that the programs read, every link leads somewhere, every key is told.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ebb_testbed::{paths, prometheus::promtool};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use tempfile::TempDir;

use crate::schemas;

/// Pages whose links are checked. Whatever else they link to is only read for its headings.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|page| paths::root().join(page)).into();
    let docs = fs::read_dir(paths::root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension() == Some("md".as_ref())));
    assert!(pages.len() >= 10, "{pages:?}");
    pages
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// A fenced block: what stands behind the fence, the line it begins in, what it contains.
struct Block {
    info: String,
    line: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (event, range) in parser(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let line = text[..range.start].lines().count() + 1;
                blocks.push(Block { info: info.to_string(), line, text: String::new() });
                inside = true;
            }
            Event::End(TagEnd::CodeBlock) => inside = false,
            Event::Text(piece) if inside => blocks.last_mut().unwrap().text.push_str(&piece),
            _ => {}
        }
    }
    blocks
}

/// What is wrong with a block of YAML, if anything is. `kind` is what stands behind `yaml`.
fn problem(kind: &str, text: &str) -> Option<String> {
    let file = Path::new("example.yml");
    let whole = |rest: &str| format!("{text}{rest}");
    let (program, text) = match kind {
        "runner" => ("ebb-runner", whole("")),
        "runner fragment" => ("ebb-runner", whole("modules: []\n")),
        "evaluator" => ("ebb-evaluator", whole("")),
        "evaluator fragment" => ("ebb-evaluator", whole("store: {scrape: {targets: [\"127.0.0.1:9742\"]}}\n")),
        "prometheus" => return refused_by_promtool(text),
        _ => return Some(
            "no kind: expected ```yaml runner, ```yaml evaluator (with `fragment` behind it if sections are left \
             out) or ```yaml prometheus"
                .to_owned(),
        ),
    };
    let complaints = || schemas::complaints(program, &text);
    schemas::parse(program, file, &text).err().or_else(|| complaints().into_iter().next())
}

fn refused_by_promtool(text: &str) -> Option<String> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("prometheus.yml");
    fs::write(&file, text).unwrap();
    let output = Command::new(promtool()).args(["check", "config"]).arg(&file).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_config_in_the_documentation_is_one_that_the_programs_read() {
    let mut seen = 0;
    for page in pages() {
        for Block { info, line, text } in blocks(&read(&page)) {
            let Some(kind) = info.strip_prefix("yaml").or_else(|| info.strip_prefix("yml")) else { continue };
            let problem = problem(kind.trim(), &text);
            assert_eq!(problem, None, "{}:{line}:\n{text}", page.display());
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen} configs");
}

#[test]
fn a_config_with_a_mistake_is_not_let_through() {
    let check = |kind: &str, text: &str, expected: &str| {
        let problem = problem(kind, text).unwrap_or_else(|| panic!("{text} is let through"));
        assert!(problem.contains(expected), "{problem}");
    };
    check("", "modules: []\n", "expected ```yaml runner");
    check("runner", "modules: [{name: a, path: a, kind: command, replcas: 2}]\n", "replcas");
    check("evaluator", "dry_run: true\n", "missing field `store`");
    check("evaluator fragment", "defaults: {policy: static}\n", "max_bytes");
    check("prometheus", "scrape_configs: {}\n", "unmarshal");
    assert_eq!(problem("evaluator fragment", "defaults: {policy: none}\n"), None);
}

/// The anchors of a page, as GitHub makes them out of headings.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors = Vec::new();
    let mut heading: Option<String> = None;
    let mut seen: HashMap<String, usize> = HashMap::new();
    for event in parser(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(piece) | Event::Code(piece) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&piece);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
                let slug: String = heading.take().unwrap().to_lowercase().chars().filter(kept).collect();
                let slug = slug.replace(' ', "-");
                let times = seen.entry(slug.clone()).or_default();
                anchors.push(if *times == 0 { slug } else { format!("{slug}-{times}") });
                *times += 1;
            }
            _ => {}
        }
    }
    anchors
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        let links = parser(&text).filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url.to_string())
            }
            _ => None,
        });
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}: there is no {}", page.display(), target.display());
            if let Some(anchor) = anchor {
                let anchors = anchors(&read(&target));
                let found = anchors.iter().any(|known| known == anchor);
                assert!(found, "{}: {link}: expected one of {anchors:?}", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen} links");
}

#[test]
fn anchors_are_those_of_github() {
    let text = "# `runner.yml`\n## How a decision is made\n## A, B & C\n## A, B & C\n";
    assert_eq!(anchors(text), ["runneryml", "how-a-decision-is-made", "a-b--c", "a-b--c-1"]);
}

#[test]
fn every_page_stands_in_the_index() {
    let index = read(&paths::root().join("docs/README.md"));
    for page in pages().iter().filter(|page| page.parent() == Some(&paths::root().join("docs"))) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "docs/README.md links {name}");
    }
}

#[test]
fn what_the_page_for_hosts_quotes_stands_in_the_examples() {
    let page = read(&paths::root().join("docs/your-own-host.md"));
    let examples =
        ["embedder", "serve"].map(|name| read(&paths::root().join(format!("examples/{name}/src/main.rs"))));
    let blocks: Vec<_> =
        page.split("```rust\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert!(blocks.len() >= 7, "{blocks:?}");
    for block in blocks {
        assert!(examples.iter().any(|example| example.contains(block)), "in no example: {block}");
    }
}

/// The rows of the tables of keys below the heading `heading`: key → what its column `default` says.
fn told_keys(text: &str, heading: &str) -> BTreeMap<String, String> {
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    let end = section.find("\n#").unwrap_or(section.len());
    let rows = section[..end].lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        assert_eq!(cells.len(), 5, "key, type, default, reload and meaning: {row}");
        (cells[0].trim_end_matches('`').to_owned(), cells[2].to_owned())
    })
    .collect()
}

#[track_caller]
fn same_keys(told: &BTreeMap<String, String>, known: &BTreeMap<String, Option<serde_json::Value>>) {
    let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(told.keys().collect()),
        names(known.keys().collect()),
        "docs/configuration.md, the schema"
    );
    for (key, default) in known {
        let default = match default {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) if !value.is_array() && !value.is_object() => value.to_string(),
            _ => continue,
        };
        assert!(told[key].contains(&format!("`{default}`")), "{key}: `{default}` is its default");
    }
}

#[test]
fn every_key_of_both_configs_is_told_with_its_default() {
    let text = read(&paths::root().join("docs/configuration.md"));
    same_keys(&told_keys(&text, "## `runner.yml`"), &schemas::keys("ebb-runner"));
    let mut known = schemas::keys("ebb-evaluator");
    // A map of module names to the keys of a rule.
    known.remove("modules").unwrap();
    let rule = known.split_off("defaults.");
    let after = rule.iter().filter(|(key, _)| !key.starts_with("defaults."));
    known.extend(after.map(|(key, default)| (key.clone(), default.clone())));
    same_keys(&told_keys(&text, "## `evaluator.yml`"), &known);
    let rule = rule
        .into_iter()
        .filter_map(|(key, default)| Some((key.strip_prefix("defaults.")?.to_owned(), default)));
    same_keys(&told_keys(&text, "### Keys of a rule"), &rule.collect());
}

#[test]
fn the_readme_tells_the_scores_of_the_labs_report() {
    let readme = read(&paths::root().join("README.md"));
    let scores = read(&paths::root().join("lab/report/scores.json"));
    let scores: serde_json::Value = serde_json::from_str(&scores).unwrap();
    let row = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        cells.collect::<Vec<_>>()
    };
    let mut table = readme.lines().skip_while(|line| !line.starts_with("| policy |"));
    let head = row(table.next().unwrap());
    let rows: Vec<_> = table.skip(1).take_while(|line| line.starts_with('|')).map(row).collect();
    assert!(rows.len() >= 3, "{rows:?}");
    for cells in rows {
        for (workload, told) in head.iter().zip(&cells).skip(1) {
            let score = scores[&cells[0]][workload]["score"].as_f64().unwrap();
            assert_eq!(*told, format!("{score:.2}"), "{} on {workload}", cells[0]);
        }
    }
}
