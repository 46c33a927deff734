//! PURE: what store and runners answered → findings, each with what to do about it.

use std::collections::{BTreeMap, BTreeSet};

use ebb_core::{
    decide::hold::{Hold, at_least, span},
    history::Contradiction,
};
use ebb_units::Elapsed;

use super::{
    finding::{Finding, Findings, Level},
    observed::{Observed, StoreAnswer, Token},
};
use crate::{config::Config, store::labels};

/// The findings, the store's first.
pub(super) fn of(config: &Config, observed: &Observed) -> Vec<Finding> {
    let mut findings = Findings::default();
    match &observed.store {
        Err(problem) => findings.add(Level::Problem, "store", problem.clone()),
        Ok(store) => {
            findings.store(config, store);
            findings.samples(config, observed);
            findings.modules(config, observed);
        }
    }
    findings.runners(config, observed);
    findings.0
}

/// What the store has of a module.
#[derive(Default)]
struct Module<'a> {
    slots: usize,
    series: usize,
    /// Target labels that are named like the runner's own.
    collided: BTreeSet<String>,
    /// Addresses that restarts may not be ordered from.
    foreign: BTreeSet<&'a str>,
}

impl Findings {
    fn store(&mut self, config: &Config, store: &StoreAnswer) {
        let skew = config.hold.clock_skew.as_elapsed();
        let StoreAnswer { fetched, about } = store;
        if let Some(server) = config.store.server() {
            let version =
                about.version.as_ref().map_or_else(String::new, |version| format!(", version {version}"));
            self.add(Level::Ok, "store", format!("{server} answers{version}"));
        }
        match &about.remote_read {
            Some(Ok(())) => {
                self.add(Level::Ok, "store", "speaks remote read, which a start uses to read the lookback");
            }
            Some(Err(why)) => self.add(
                Level::Warning,
                "store",
                format!("no remote read ({why}): a start reads the lookback by queries, which takes longer"),
            ),
            None => {}
        }
        match about.ahead {
            Some(ahead) if ahead.abs() > skew.abs() => self.add(
                Level::Problem,
                "store",
                format!(
                    "its clock is {} {} this one: all restarts are held while they differ by more than hold.clock_skew",
                    span(ahead),
                    if ahead > Elapsed::ZERO { "behind" } else { "ahead of" }
                ),
            ),
            Some(_) => self.add(Level::Ok, "store", "its clock and this one agree"),
            None => {}
        }
        if fetched.nameless_series > 0 {
            let examples = fetched.nameless.join("; ");
            self.add(
                Level::Problem,
                "store",
                format!(
                    "the labels of {} series do not identify an instance: {examples}",
                    fetched.nameless_series
                ),
            );
        }
    }

    /// How often samples come, and whether the config fits that.
    fn samples(&mut self, config: &Config, observed: &Observed) {
        let Some(newest) = observed.history.newest_sample() else {
            let advice = "are the runners scraped, and are store.prometheus.matchers correct?";
            return self.add(
                Level::Problem,
                "samples",
                format!("no instance within the last ten minutes: {advice}"),
            );
        };
        let age = observed.now.since(newest);
        let Some(spacing) = observed.history.spacing() else {
            return self.add(Level::Ok, "samples", format!("the newest is {} old", span(age)));
        };
        self.add(Level::Ok, "samples", format!("{} apart, the newest {} old", span(spacing), span(age)));
        let stale_after = config.stale_after(3 * spacing);
        if age > stale_after && config.hold.stale_after.is_none() {
            self.add(
                Level::Warning,
                "samples",
                format!(
                    "the newest is {} old: they come late or in batches. hold.stale_after adapts to this once it was seen, \
                     unless it is set",
                    span(age)
                ),
            );
        } else if age > stale_after {
            self.add(
                Level::Problem,
                "samples",
                format!(
                    "the newest is older than {}: all restarts are held. If samples usually arrive this late, set \
                     hold.stale_after to {} or more",
                    span(stale_after),
                    at_least(age + 3 * spacing)
                ),
            );
        } else if stale_after < 3 * spacing {
            self.add(
                Level::Warning,
                "samples",
                format!(
                    "hold.stale_after {} is short for that: set it to {} or more",
                    span(stale_after),
                    at_least(3 * spacing)
                ),
            );
        }
        let verify_within = config.runners.verify_within.as_elapsed();
        if verify_within < 3 * spacing {
            self.add(
                Level::Warning,
                "samples",
                format!(
                    "runners.verify_within {} is short for that: set it to {} or more",
                    span(verify_within),
                    at_least(3 * spacing)
                ),
            );
        }
    }

    fn modules(&mut self, config: &Config, observed: &Observed) {
        let mut modules: BTreeMap<&str, Module<'_>> = BTreeMap::new();
        for (slot, series) in observed.history.series_of_slots() {
            let module = modules.entry(&*slot.population.module).or_default();
            module.slots += 1;
            module.series += series.len();
            module.collided.extend(series.iter().flat_map(|series| labels::collided(series)));
            if !config.runners.allow.is_empty() && !config.runners.allow.allows(&slot.runner.address) {
                module.foreign.insert(&slot.runner.address);
            }
        }
        for (module, Module { slots, series, collided, foreign }) in modules {
            let about = format!("module {module}");
            let more = if series > slots {
                format!(", {series} series: one of each instance is used")
            } else {
                String::new()
            };
            self.add(Level::Ok, &about, format!("{}{more}", count(slots, "instance")));
            if !collided.is_empty() {
                let labels = collided.into_iter().collect::<Vec<_>>().join(", ");
                self.add(
                    Level::Warning,
                    &about,
                    format!(
                        "target labels are named like the runner's own ({labels}): exported_… is read instead"
                    ),
                );
            }
            if !foreign.is_empty() {
                let addresses = foreign.into_iter().collect::<Vec<_>>().join(", ");
                self.add(
                    Level::Problem,
                    &about,
                    format!(
                        "runners.allow does not allow {addresses}: nothing there is restarted. If that is no runner's \
                         address, set runners.address"
                    ),
                );
            }
        }
        let skew = config.hold.clock_skew.as_elapsed();
        let stale_after =
            observed.history.spacing().map_or(Elapsed::ZERO, |spacing| config.stale_after(3 * spacing));
        let mut held = BTreeSet::new();
        for (slot, contradiction) in observed.history.contradictions(observed.now, stale_after, skew) {
            // One of each module says enough.
            if !held.insert(&slot.population.module) {
                continue;
            }
            let labels = match contradiction {
                Contradiction::Between(one, other) => labels::differences(&one, &other),
                Contradiction::Within(_) => Vec::new(),
            };
            let hold = Hold::AmbiguousSeries { slot: slot.to_string(), labels };
            self.add(Level::Problem, format!("module {}", slot.population.module), hold.to_string());
        }
    }

    fn runners(&mut self, config: &Config, observed: &Observed) {
        let skew = config.hold.clock_skew.as_elapsed();
        let differs = |ahead: Elapsed| ahead.abs() > skew.abs();
        let clocks = || observed.runners.iter().filter_map(|(_, answer)| answer.as_ref().ok()?.ahead);
        // As a scrape judges it.
        let is_this_clock = config.store.targets().is_some()
            && clocks().filter(|ahead| differs(*ahead)).count()
                > clocks().filter(|ahead| !differs(*ahead)).count();
        let known: BTreeSet<&str> = observed.history.slots().map(|slot| &*slot.runner.address).collect();
        for (address, answer) in &observed.runners {
            let about = format!("runner {address}");
            let answer = match answer {
                Ok(answer) => answer,
                Err(problem) => {
                    self.add(Level::Problem, about, format!("does not answer as a runner does: {problem}"));
                    continue;
                }
            };
            let token = match (&answer.token, config.runners.bearer_token_file.is_some()) {
                (Token::Accepted, true) => (Level::Ok, "accepts the token".to_owned()),
                (Token::Accepted, false) => (Level::Ok, "takes orders without a token".to_owned()),
                (Token::Refused, true) => (
                    Level::Problem,
                    "refuses the token in runners.bearer_token_file: nothing there is restarted".to_owned(),
                ),
                (Token::Refused, false) => {
                    (Level::Problem, "requires a token: set runners.bearer_token_file".to_owned())
                }
                (Token::NotAllowed, _) => {
                    (Level::Problem, "runners.allow does not allow it: nothing there is restarted".to_owned())
                }
                (Token::Unusable(problem), _) => (Level::Problem, problem.clone()),
                (Token::Unexpected(status), _) => (
                    Level::Problem,
                    format!(
                        "answers an order for an instance that it does not have with status {status}, expected 404 or 412"
                    ),
                ),
            };
            self.add(token.0, &about, format!("{}; {}", count(answer.instances, "instance"), token.1));
            if observed.store.is_ok() && answer.instances > 0 && !known.contains(address.as_str()) {
                self.add(
                    Level::Warning,
                    &about,
                    "the store has no series of it: nothing there is restarted. Is it scraped, and do matchers and \
                     address fit?",
                );
            }
            if let Some(ahead) = answer.ahead.filter(|ahead| differs(*ahead)) {
                let (level, so) = if is_this_clock {
                    (Level::Problem, "the clocks of most runners do, so all restarts are held")
                } else {
                    (Level::Warning, "ages of its instances are counted from their first sample")
                };
                let direction = if ahead > Elapsed::ZERO { "behind" } else { "ahead of" };
                self.add(level, about, format!("its clock is {} {direction} this one: {so}", span(ahead)));
            }
        }
    }
}

/// A number and what it counts.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ebb_core::history::{History, Sample, Window};
    use ebb_units::{Generation, Millis, Population, SeriesId, SlotId};

    use super::*;
    use crate::{
        live::observed::RunnerAnswer,
        store::{About, Fetched},
    };

    const NOW: Millis = Millis(1_700_000_000_000);

    fn config(more: &str) -> Config {
        let text = format!("store: {{prometheus: {{url: \"http://p:9090\"}}}}\n{more}");
        Config::parse(Path::new("evaluator.yml"), &text, false).unwrap()
    }

    const ALLOWED: &str = "runners: {allow: [\"r:1\"]}";

    fn history(series: &[(&str, &str)], spacing: i64, age: i64) -> History {
        let mut history = History::default();
        for (replica, (runner, labels)) in (0..).zip(series) {
            let population = Population { module: "m".into(), digest: "d".into() };
            let slot = SlotId { population, runner: (*runner).into(), replica: replica / 2 };
            let id = SeriesId { slot, labels: (*labels).into() };
            let samples = (0..3).rev().map(|n| Sample {
                at: NOW.minus(Elapsed(age + n * spacing)),
                generation: Generation(1),
                bytes: 1,
            });
            history.observe(&id, Window::ending_at(NOW, Elapsed(600_000)), samples);
        }
        history.choose(NOW, Elapsed(600_000), None);
        history
    }

    fn observed(history: History) -> Observed {
        let store = StoreAnswer {
            fetched: Fetched::default(),
            about: About {
                version: Some("3.5.3".into()),
                remote_read: Some(Ok(())),
                ahead: Some(Elapsed(900)),
            },
        };
        Observed { now: NOW, history, store: Ok(store), runners: Vec::new() }
    }

    fn told(config: &Config, observed: &Observed, least: Level) -> String {
        let findings = of(config, observed).into_iter().filter(|finding| finding.level >= least);
        findings
            .map(|finding| format!("{}: {}", finding.about, finding.finding))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn what_is_as_it_should_be_is_told_as_well() {
        let observed = observed(history(&[("r:1", ""), ("r:1", "a=\"1\"")], 10_000, 4000));
        let all = told(&config(ALLOWED), &observed, Level::Ok);
        for words in [
            "http://p:9090 answers, version 3.5.3",
            "speaks remote read",
            "its clock and this one agree",
            "10s apart, the newest 4s old",
            "module m: 1 instance, 2 series",
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        assert_eq!(told(&config(ALLOWED), &observed, Level::Warning), "");
    }

    #[test]
    fn keys_that_do_not_fit_what_is_seen_are_named_with_what_to_set() {
        let seldom = observed(history(&[("r:1", "")], 60_000, 4000));
        let found = told(&config(&format!("{ALLOWED}\nhold: {{stale_after: 70s}}")), &seldom, Level::Warning);
        assert!(found.contains("hold.stale_after 1m 10s is short for that: set it to 3m or more"), "{found}");
        assert!(
            found.contains("runners.verify_within 1m is short for that: set it to 3m or more"),
            "{found}"
        );
        let late = observed(history(&[("r:1", "")], 10_000, 100_000));
        assert!(told(&config(ALLOWED), &late, Level::Warning).contains("they come late or in batches"));
        let set = config(&format!("{ALLOWED}\nhold: {{stale_after: 30s}}"));
        assert!(told(&set, &late, Level::Problem).contains("set hold.stale_after to 2m 10s or more"));
        let none = told(&config(ALLOWED), &observed(History::default()), Level::Problem);
        assert!(none.contains("are the runners scraped"), "{none}");
    }

    #[test]
    fn labels_and_addresses_that_lead_nowhere_are_named() {
        let series = [("r:2", "module=\"checkout\""), ("r:2", "replica=\"a\"")];
        let found = told(&config(ALLOWED), &observed(history(&series, 10_000, 0)), Level::Warning);
        assert!(found.contains("(module, replica): exported_… is read instead"), "{found}");
        assert!(found.contains("runners.allow does not allow r:2"), "{found}");
    }

    #[test]
    fn a_runner_that_takes_no_orders_says_why() {
        let with = |answer| Observed {
            runners: vec![("r:1".into(), answer)],
            ..observed(history(&[("r:1", "")], 1, 0))
        };
        let runner = |token| Ok(RunnerAnswer { instances: 3, ahead: Some(Elapsed(-3_600_000)), token });
        let found = |answer| {
            let all = told(&config(ALLOWED), &with(answer), Level::Warning);
            all.lines().filter(|line| line.starts_with("runner")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            found(runner(Token::Accepted)),
            "runner r:1: its clock is 1h ahead of this one: ages of its instances are counted from their first sample"
        );
        assert!(found(runner(Token::Refused)).contains("requires a token: set runners.bearer_token_file"));
        assert!(found(runner(Token::Unexpected(500))).contains("with status 500"));
        assert!(found(Err("refused".into())).contains("does not answer as a runner does: refused"));
    }
}
