//! A recording and a config → what comes of each price, several at a time.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use ebb_core::{
    decide::{budget::BudgetConfig, tick::Settings},
    policy::{GuardRails, Policy, Renewal, Rule},
    replay::{
        Outcome, Plan, Recording,
        advice::{Advice, prices},
    },
};
use ebb_units::{Elapsed, Millis, RestartPrice, Span};

use crate::config::Config;

/// Slots that are looked at; the others are taken to be like them.
pub(crate) const SLOTS_MAX: usize = 500;

/// In less time, no leak is told from what fills up.
pub(crate) const SEEN_MIN: Elapsed = Elapsed::secs(24 * 3600);

/// Ticks that are simulated at each price.
const TICKS: i64 = 1500;

/// So many restarts are never wished for.
const UNLIMITED: u32 = 1_000_000;

/// The price that `config` sets where a module sets no other.
fn configured(config: &Config) -> Option<RestartPrice> {
    match config.rules.defaults().policy {
        Policy::Renewal(Renewal { restart_price, .. }) => Some(restart_price),
        _ => None,
    }
}

/// What to set, by `recording` up to `to`: what comes from `from` on, or later, counts. Also for the price that was `asked` for. Up to
/// `threads` prices are tried at the same time.
pub(crate) fn advise(
    recording: &Recording,
    config: &Config,
    (from, to): (Millis, Millis),
    spacing: Option<Elapsed>,
    asked: Option<RestartPrice>,
    threads: usize,
) -> Advice {
    let first = recording.first_at().unwrap_or(from);
    // Rules need a past to have learned from.
    let from = from.max(first.plus(Elapsed(to.since(first).0 / 4)));
    let replayed_from = first.max(from.minus(config.lookback.as_elapsed()));
    let every = Elapsed(to.since(replayed_from).0 / TICKS).max(config.interval.as_elapsed());
    let stale_after = config.stale_after(3 * spacing.unwrap_or_default()).max(3 * every);
    let plan = Plan {
        from,
        to,
        interval: Span::millis(every.0.unsigned_abs()),
        lookback: config.lookback,
        settings: Settings {
            // Ticks are further apart than the evaluator's, and slots may stand for others: a rate would mean something else.
            budget: BudgetConfig { restarts_per_minute: UNLIMITED, burst: UNLIMITED, ..config.budget },
            limits: config.hold.limits(stale_after),
            stale_after,
            verify_within: config.runners.verify_within.as_elapsed().max(3 * every),
            dry_run: false,
        },
        undoes_restarts: true,
    };
    let configured = configured(config);
    let prices = prices(configured.into_iter().chain(asked));
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(price) = prices.get(place) else { return };
                    let outcome = at_price(recording, config, &plan, *price);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(place, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcomes: Vec<_> = prices.into_iter().zip(outcomes.into_values()).collect();
    Advice::new(recording, &plan, &outcomes, configured)
}

/// What would have come of the shipped policy at `price`, in modules that have no policy or price of their own. `max_bytes` is left
/// out: it is what follows.
fn at_price(recording: &Recording, config: &Config, plan: &Plan, price: RestartPrice) -> Outcome {
    let defaults = config.rules.defaults();
    let renewal = match defaults.policy {
        Policy::Renewal(renewal) => renewal,
        _ => Renewal::default(),
    };
    let tried = Policy::Renewal(Renewal { restart_price: price, ..renewal });
    let rule = |module: &str| {
        let own = config.rules.of(module);
        let policy = if own.policy == defaults.policy { tried } else { own.policy };
        let max_bytes = own.guard_rails.max_bytes.filter(|_| policy == Policy::Static);
        Rule { policy, guard_rails: GuardRails { max_bytes, ..own.guard_rails } }
    };
    let rules: BTreeMap<_, _> = recording.modules().map(|module| (&**module, rule(module))).collect();
    let default = rule("");
    recording.replay(plan, |module| rules.get(module).unwrap_or(&default))
}
