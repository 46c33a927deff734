use std::{collections::BTreeSet, path::Path};

use ebb_core::{
    decide::{
        hold::Hold,
        judgement::Judgement,
        order::{Action, Outcome, Restarted},
        pending::Effect,
    },
    history::{History, Sample, Window},
    policy::{Bound, GuardRails, Learned, Policy, Pooling, Renewal, Rule, Threshold, Verdict},
};
use ebb_units::{ByteCount, Elapsed, Generation, Millis, Population, SlotId, Span};

use super::*;
use crate::{
    chart,
    config::Config,
    decisions::Journal,
    growth::{ModuleGrowth, Profile},
    snapshot::{PopulationSnapshot, Snapshot},
};

const NOW: Millis = Millis(1_795_521_600_000);
const HOSTILE: &str = "\"><script>alert(1)</script>";

fn config(more: &str) -> Config {
    let text =
        format!("store: {{prometheus: {{url: \"http://p:9090\", {more}}}}}\nrunners: {{allow: [\"r:1\"]}}\n");
    Config::parse(Path::new("evaluator.yml"), &text, false).unwrap()
}

fn population(module: &str) -> PopulationSnapshot {
    let mut learned = Learned::default();
    (learned.sample_size, learned.threshold) = (17, Threshold::Bytes(8e6));
    learned.fresh_bytes = Some(1_000_000);
    let renewal =
        Renewal { restart_price: "1GiB*10m".parse().unwrap(), pooling: Pooling::Off, ..Renewal::default() };
    PopulationSnapshot {
        population: Population { module: module.into(), digest: "0123456789ab".into() },
        rule: Rule {
            policy: Policy::Renewal(renewal),
            guard_rails: GuardRails {
                min_age: Span::secs(60),
                min_lifetimes: 5,
                max_bytes: None,
                min_reclaim: ByteCount::mib(1),
            },
        },
        learned,
        growth: None,
        comparison: None,
        instances: 1,
        memory_bytes: 9_000_000,
        reclaimable_bytes: 8_000_000,
        suspended_until: None,
        hold: None,
    }
}

fn judgement(module: &str, runner: &str, replica: u32) -> Judgement {
    let mut bound = Bound::default();
    (bound.threshold_bytes,) = (Some(8e6),);
    let population = Population { module: module.into(), digest: "0123456789ab".into() };
    Judgement {
        slot: SlotId { population, runner: runner.into(), replica },
        generation: Generation(NOW.0.unsigned_abs() - 3_600_000),
        age: Elapsed(3_600_000),
        starts_ahead: Elapsed::ZERO,
        memory_bytes: 9_000_000 + u64::from(replica),
        reclaimable_bytes: 8_000_000,
        bound,
        sample_size: 17,
        mean_bytes: None,
        stddev_bytes: None,
        verdict: if replica == 0 { Verdict::AboveThreshold } else { Verdict::Within },
    }
}

fn snapshot(module: &str, replicas: u32) -> Snapshot {
    Snapshot {
        at: NOW.minus(Elapsed(4000)),
        populations: vec![population(module)],
        instances: (0..replicas).map(|replica| judgement(module, "r:1", replica)).collect(),
        restarts_available: 7,
        ..Snapshot::default()
    }
}

const NOTHING: PageData<'_> = PageData { decisions: &[], extract: None, growth: None };

fn overview_of(snapshot: &Snapshot, config: &Config) -> String {
    overview(&PageContext { snapshot, config, now: NOW }, &PageQuery::default(), NOTHING).into_string()
}

fn module_of(snapshot: &Snapshot, name: &str, query: &PageQuery, data: PageData<'_>) -> String {
    let config = config("");
    let context = PageContext { snapshot, config: &config, now: NOW };
    module(&context, name, query, &Listing::new(snapshot, name, query), data).unwrap().into_string()
}

fn has(page: &str, expected: &[&str]) {
    for text in expected {
        assert!(page.contains(text), "{text}: {page}");
    }
}

fn has_not(page: &str, unwanted: &[&str]) {
    for text in unwanted {
        assert!(!page.contains(text), "{text}: {page}");
    }
}

fn count(page: &str, text: &str) -> usize {
    page.matches(text).count()
}

fn decided(journal: &Journal, judgement: Judgement, action: Action) {
    journal.record(judgement, "9.0 MiB > 8.0 MiB, because".to_owned(), action, NOW.minus(Elapsed(60_000)));
}

#[test]
fn the_page_of_a_module_tells_where_its_memory_grows() {
    let profile: Profile = serde_json::from_value(serde_json::json!({
        "digest": "0123456789ab", "lifetimes": 3, "initial_bytes": 3 << 20, "start_bytes": 0, "bytes": 100 << 20, "unknown_bytes": 0,
        "functions": [{"function": HOSTILE, "bytes": 70 << 20}, {"function": "cache", "bytes": 30 << 20}],
        "requests": [{"method": "PUT", "route": "/objects/*", "requests": 12, "bytes": 60 << 20},
            {"method": "GET", "route": "/", "requests": 5, "bytes": 0}],
        "stacks": [],
    }))
    .unwrap();
    let growth = ModuleGrowth {
        profiles: vec![profile],
        fault: Some("r:2 is not in runners.allow".into()),
        told: 1,
        runners: 2,
    };
    let data = PageData { growth: Some(&growth), ..NOTHING };
    let page = module_of(&snapshot("leaky", 2), "leaky", &PageQuery::default(), data);
    has(
        &page,
        &[
            "3 instances began with 3.0 MiB",
            "100.0 MiB",
            "70.0 %",
            "cache",
            "PUT /objects/*",
            "60.0 %",
            "Other requests",
            "Outside of requests",
            "40.0 %",
            "growth.svg?digest=0123456789ab",
            "Reported by 1 of 2 runners: r:2 is not in runners.allow",
        ],
    );
    has_not(&page, &[HOSTILE]);
}

#[test]
fn the_first_page_lists_modules_with_what_was_learned_of_them() {
    let page = overview_of(&snapshot("leaky", 2), &config(""));
    has(
        &page,
        &[
            "<a href=\"/modules/leaky\">leaky</a>",
            "renewal",
            "restart price 1GiB*10m",
            "8.6 MiB",
            "7.6 MiB",
            "17",
            "Newest tick",
            "4s ago",
            "<strong>7</strong> of 10 restarts available",
            "of one replica one in 1m",
        ],
    );
    has_not(&page, &["Dry run", "No restart is ordered", "late:", "suspended until"]);
}

#[test]
fn before_the_first_tick_the_page_says_so_and_shows_no_figures_of_it() {
    let page = overview_of(&Snapshot::default(), &config(""));
    has(&page, &["The first evaluation is under way.", "None since the evaluator was started."]);
    has_not(&page, &["Newest tick", "1970", "late:", "0 B"]);
}

#[test]
fn while_nothing_is_known_nothing_is_said_to_be_zero() {
    let snapshot = Snapshot { at: NOW, hold: Some(Hold::EmptyAnswer), ..Snapshot::default() };
    let page = overview_of(&snapshot, &config(""));
    has(&page, &["Nothing is known of any module yet.", "No restart is ordered: empty answer."]);
    has_not(&page, &["0 B", "Instances"]);
}

#[test]
fn a_hold_is_told_with_its_reason() {
    let hold = Hold::StoreFault { fault: "query_failed", message: format!("asking {HOSTILE}") };
    let page = overview_of(&Snapshot { hold: Some(hold), ..snapshot("leaky", 1) }, &config(""));
    has(&page, &["Holding", "No restart is ordered: query failed.", "&lt;script&gt;"]);
    has_not(&page, &["<script>"]);
}

#[test]
fn a_dry_run_is_told_on_every_page() {
    let mut config = config("");
    config.dry_run = true;
    let snapshot = snapshot("leaky", 1);
    let context = PageContext { snapshot: &snapshot, config: &config, now: NOW };
    let query = PageQuery::default();
    let listing = Listing::new(&snapshot, "leaky", &query);
    let pages = [
        overview(&context, &query, NOTHING),
        module(&context, "leaky", &query, &listing, NOTHING).unwrap(),
        instance(&context, ("leaky", 0), &query, &listing.instances, NOTHING).unwrap(),
        decisions(&context, &query, &[]),
        settings(&context),
    ];
    for page in pages {
        has(&page.into_string(), &["class=\"badge dry\"", "nothing is restarted"]);
    }
}

#[test]
fn a_tick_is_late_when_the_next_should_be_over_too() {
    let check = |seconds_ago: i64, late: bool| {
        let snapshot = Snapshot { at: NOW.minus(Elapsed(seconds_ago * 1000)), ..snapshot("leaky", 1) };
        assert_eq!(overview_of(&snapshot, &config("")).contains("late:"), late, "{seconds_ago}");
    };
    // Every 10 s.
    check(21, false);
    check(22, true);
}

#[test]
fn a_module_whose_restarts_are_suspended_says_until_when() {
    let mut snapshot = snapshot("leaky", 1);
    snapshot.populations[0].suspended_until = Some(Millis(NOW.0 + 60_000));
    has(&overview_of(&snapshot, &config("")), &["suspended until <time", "12:01:00"]);
}

#[test]
fn labels_from_outside_are_text_and_never_markup() {
    let snapshot = Snapshot {
        populations: vec![population(HOSTILE)],
        instances: vec![judgement(HOSTILE, HOSTILE, 0)],
        ..snapshot("leaky", 0)
    };
    let journal = Journal::default();
    decided(
        &journal,
        judgement(HOSTILE, HOSTILE, 0),
        Action::Ordered(Outcome::NoAnswer { message: HOSTILE.into() }),
    );
    let found = journal.newest(9, |_| true);
    let config = config("");
    let context = PageContext { snapshot: &snapshot, config: &config, now: NOW };
    let extract = history(HOSTILE, HOSTILE, 1)
        .extract(&[snapshot.instances[0].slot.clone()], NOW.minus(Elapsed(3_600_000)));
    let data = PageData { decisions: &found, extract: Some(&extract), growth: None };
    let query =
        PageQuery { module: Some(HOSTILE.into()), verdict: Some(HOSTILE.into()), ..PageQuery::default() };
    let all = PageQuery::default();
    let listing = Listing::new(&snapshot, HOSTILE, &all);
    let pages = [
        overview(&context, &all, data),
        module(&context, HOSTILE, &all, &listing, data).unwrap(),
        instance(&context, (HOSTILE, 0), &all, &listing.instances, data).unwrap(),
        decisions(&context, &query, &found),
        context.problem(HOSTILE, HOSTILE),
    ];
    for page in pages {
        let page = page.into_string();
        // The page's own script, and no other.
        assert_eq!(count(&page, "<script"), 1, "{page}");
        has(&page, &["&lt;script&gt;"]);
        // Nor does an attribute end early.
        has_not(&page, &["=\"\">", "href=\"\"", "style="]);
    }
}

#[test]
fn addresses_keep_what_they_name() {
    let query =
        PageQuery { instance: Some("[::1]:9742/é &x".into()), page: Some(3), ..PageQuery::default() };
    assert_eq!(query.at("/decisions"), "/decisions?instance=%5B%3A%3A1%5D%3A9742%2F%C3%A9%20%26x&page=3");
    assert_eq!(PageQuery { page: Some(1), ..PageQuery::default() }.at("/"), "/");
}

#[test]
fn a_decision_is_shown_with_its_reason_its_action_its_effect_and_all_inputs() {
    let journal = Journal::default();
    decided(&journal, judgement("leaky", "r:1", 0), Action::DryRun);
    decided(&journal, judgement("leaky", "r:1", 0), Action::DryRun);
    let restarted =
        Restarted { new_generation: Generation(5), reclaimed_bytes: 8_000_000, duration_seconds: 0.012 };
    let order = judgement("leaky", "r:1", 3);
    decided(&journal, order.clone(), Action::Ordered(Outcome::Restarted(restarted)));
    let effect = Effect::MemoryFell { memory_bytes_after: 1_000_000 };
    journal.observe_effect(&order.slot, order.generation, effect);
    let snapshot = snapshot("leaky", 4);
    let config = config("");
    let context = PageContext { snapshot: &snapshot, config: &config, now: NOW };
    let page = decisions(&context, &PageQuery::default(), &journal.newest(9, |_| true)).into_string();
    has(
        &page,
        &[
            "9.0 MiB &gt; 8.0 MiB, because",
            "restarted in 12 ms, 7.6 MiB given back",
            "memory fell to 976.6 KiB",
            "dry run: not restarted",
            "(decided 2 times, last at <time datetime=\"2026-11-24T11:59:00Z\">11:59:00</time>)",
            "<dt>threshold_bytes</dt><dd>8000000 <span class=\"faint\">(7.6 MiB)</span></dd>",
            "<dt>age_millis</dt><dd>3600000 <span class=\"faint\">(1h)</span></dd>",
            "href=\"/modules/leaky/3?instance=r%3A1\"",
        ],
    );
    let place = |id: &str| page.find(&format!("data-decision=\"{id}\"")).unwrap();
    assert!(place("2") < place("1"), "newest first");
}

#[test]
fn decisions_are_found_by_what_they_are_about() {
    let journal = Journal::default();
    decided(&journal, judgement("leaky", "r:1", 0), Action::DryRun);
    decided(&journal, judgement("leaky", "r:2", 0), Action::Held { hold: "timeout" });
    let check = |query: PageQuery, expected: &[u64]| {
        let found: Vec<_> = journal.newest(9, |one| wants(&query, one)).iter().map(|one| one.id).collect();
        assert_eq!(found, expected, "{query:?}");
    };
    check(PageQuery::default(), &[2, 1]);
    check(PageQuery { instance: Some("r:2".into()), ..PageQuery::default() }, &[2]);
    check(PageQuery { action: Some("dry_run".into()), ..PageQuery::default() }, &[1]);
    check(PageQuery { replica: Some(1), ..PageQuery::default() }, &[]);
    check(PageQuery { verdict: Some("above_threshold".into()), ..PageQuery::default() }, &[2, 1]);
}

#[test]
fn ten_thousand_instances_make_no_huge_page_and_the_rest_is_a_link_away() {
    let snapshot = snapshot("leaky", 10_000);
    let page = module_of(&snapshot, "leaky", &PageQuery::default(), NOTHING);
    assert!(page.len() < 200_000, "{}", page.len());
    assert_eq!(count(&page, "<tr data-replica="), 50);
    has(
        &page,
        &["1–50 of 10000 instances", "href=\"/modules/leaky?page=2\"", "href=\"/modules/leaky?page=200\""],
    );

    let last =
        module_of(&snapshot, "leaky", &PageQuery { page: Some(9999), ..PageQuery::default() }, NOTHING);
    has(&last, &["9951–10000 of 10000 instances", "data-replica=\"9999\""]);
    has_not(&last, &[">Next<"]);
}

#[test]
fn instances_are_ordered_and_chosen_as_asked() {
    let snapshot = snapshot("leaky", 100);
    let largest = PageQuery { sort: Some(query::Sort::Memory), ..PageQuery::default() };
    assert_eq!(Listing::new(&snapshot, "leaky", &largest).instances[0].slot.replica, 99);
    let above = PageQuery { verdict: Some("above_threshold".into()), ..PageQuery::default() };
    assert_eq!(Listing::new(&snapshot, "leaky", &above).instances.len(), 1);
    has(
        &module_of(&snapshot, "leaky", &largest, NOTHING),
        &["aria-sort=\"descending\"", "above threshold 1", "within 99", "verdict=within&amp;sort=memory"],
    );
}

/// Of each replica: an hour, in which it was restarted once.
fn history(module: &str, runner: &str, replicas: u32) -> History {
    let mut history = History::default();
    let window = Window::ending_at(NOW, Elapsed(86_400_000));
    for replica in 0..replicas {
        let slot = judgement(module, runner, replica).slot;
        let start = NOW.0 - 3_600_000;
        let samples = (0..60_i64).map(|minute| Sample {
            at: Millis(start + minute * 60_000),
            generation: Generation((start + minute / 30 * 1_800_000).unsigned_abs()),
            bytes: (1 + (minute % 30).unsigned_abs()) * 300_000,
        });
        history.observe(&slot.clone().into(), window, samples);
    }
    history
}

#[test]
fn a_module_page_has_one_chart_per_replica_up_to_a_limit() {
    let snapshot = snapshot("leaky", 30);
    let slots: Vec<_> = snapshot.instances.iter().map(|one| one.slot.clone()).collect();
    let extract = history("leaky", "r:1", 30).extract(&slots, NOW.minus(Elapsed(86_400_000)));
    let data = PageData { decisions: &[], extract: Some(&extract), growth: None };
    let page = module_of(&snapshot, "leaky", &PageQuery::default(), data);
    assert_eq!(count(&page, "<figure"), 12);
    has(&page, &["Of the first 12 instances listed below", "threshold 7.6 MiB, 1 restart", "role=\"img\""]);
    assert!(page.len() < 300_000, "{}", page.len());
}

#[test]
fn while_the_evaluation_is_busy_the_page_says_why_there_are_no_charts() {
    has(
        &module_of(&snapshot("leaky", 1), "leaky", &PageQuery::default(), NOTHING),
        &["The evaluator is busy"],
    );
}

#[test]
fn a_start_in_the_future_is_told_as_one() {
    let mut snapshot = snapshot("leaky", 1);
    (snapshot.instances[0].verdict, snapshot.instances[0].starts_ahead) =
        (Verdict::TooYoung, Elapsed(3_600_000));
    let page = module_of(&snapshot, "leaky", &PageQuery::default(), NOTHING);
    has(&page, &["its start is 1h in the future: its runner's clock is ahead, or this one is behind"]);
}

#[test]
fn an_unknown_module_has_no_page() {
    let (snapshot, config) = (snapshot("leaky", 1), config(""));
    let context = PageContext { snapshot: &snapshot, config: &config, now: NOW };
    let query = PageQuery::default();
    assert!(module(&context, "other", &query, &Listing::new(&snapshot, "other", &query), NOTHING).is_none());
    // Whose decisions are kept longer than its samples has one.
    let journal = Journal::default();
    decided(&journal, judgement("other", "r:1", 0), Action::DryRun);
    let decisions = journal.newest(1, |_| true);
    let page = module_of(
        &snapshot,
        "other",
        &query,
        PageData { decisions: &decisions, extract: None, growth: None },
    );
    has(&page, &["No instance of it was seen within", "dry run"]);
    assert!(instance(&context, ("other", 0), &query, &[], NOTHING).is_none());
}

#[test]
fn the_config_is_shown_without_secrets() {
    let config = config("headers: {X-Token: hunter2}, basic_auth: {username: u, password_file: secret}");
    let snapshot = snapshot("leaky", 1);
    let page = settings(&PageContext { snapshot: &snapshot, config: &config, now: NOW }).into_string();
    has(&page, &["X-Token: &lt;hidden&gt;", "password_file: secret", "restart_price", "interval: 10s"]);
    has_not(&page, &["hunter2"]);
}

#[test]
fn the_style_sheet_knows_every_colour_of_a_chart() {
    let style = include_str!("../assets/page.css");
    let svg = {
        let snapshot = snapshot("leaky", 1);
        let extract = history("leaky", "r:1", 1).extract(&[snapshot.instances[0].slot.clone()], Millis(0));
        module_of(
            &snapshot,
            "leaky",
            &PageQuery::default(),
            PageData { decisions: &[], extract: Some(&extract), growth: None },
        )
    };
    let figure = &svg[svg.find("<figure").unwrap()..svg.find("</figure>").unwrap()];
    let mut seen = BTreeSet::new();
    for attribute in ["stroke=\"#", "fill=\"#"] {
        for (at, _) in figure.match_indices(attribute) {
            let colour = &figure[at..at + attribute.len() + 7];
            // The colour of text is that of all text.
            let is_text = figure[..at].rfind('<').is_some_and(|tag| figure[tag..].starts_with("<text"));
            assert!(is_text || style.contains(&format!("[{colour}]")), "{colour}");
            seen.insert(&colour[attribute.len() - 1..]);
        }
    }
    let hex = |colour: chart::Colour| format!("#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2);
    let legend = svg.split_once("class=\"legend\"").unwrap().1.split_once("</p>").unwrap().0;
    for colour in [chart::MEMORY, chart::THRESHOLD, chart::RESTART].map(hex) {
        assert!(seen.contains(&*colour), "{colour}: {seen:?}");
        assert!(legend.contains(&colour), "{colour} in the legend");
    }
}
