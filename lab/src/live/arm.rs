//! The fleets of the experiment, and the policies that are tried on them.

use ebb_core::policy::{
    GuardRails, IntervalKind, Policy, PopulationKind, Pressure, Renewal, Rule, TInterval,
};
use ebb_testbed::paths;
use ebb_units::{ByteCount, RestartPrice, Span};

/// A fleet, and the arms that are tried on it.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Runner processes.
    pub runners: u32,
    /// What each of them hosts.
    pub guests: Vec<Guests>,
    /// The policies.
    pub arms: Vec<Arm>,
    /// Memory that all instances together may take before the host counts as short of it, in bytes.
    pub short_above_bytes: u64,
    /// What a restart is worth, in ticks of the clock: it weighs restarts and memory against each other in every arm.
    pub restart_price: (ByteCount, u64),
    /// Seconds between two scrapes, and between two ticks. All other times go by it.
    pub clock: u64,
}

/// One module of a runner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guests {
    /// The module and its guest.
    pub kind: Kind,
    /// Replicas on each runner.
    pub replicas: u32,
}

/// A guest with its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Leaks between the two sizes, after between the two pauses.
    Leaky {
        /// Bytes of one leak, from and to.
        bytes: (u64, u64),
        /// Milliseconds between two at a tick a second, from and to.
        pause_ms: (u64, u64),
    },
    /// Grows to the memory that it needs and keeps it.
    Steady {
        /// What replica 0 needs, in bytes: all of its linear memory.
        required_bytes: u64,
        /// What each further replica needs in addition to the one before, in bytes.
        more_bytes: u64,
        /// Time for getting there at a tick a second.
        ramp_ms: u64,
    },
    /// Needs so many bytes for a moment, with this probability in each half tick.
    Bursty {
        /// Bytes of a burst.
        bytes: u64,
        /// Probability of one in half a tick.
        probability: f64,
    },
}

/// For how many ticks instances are watched before a threshold is fixed.
const BASELINE: u64 = 30;

/// A policy that is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm {
    /// Its name, as in the simulator's tables.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it does.
    pub policy: ArmPolicy,
}

/// The policies of the arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArmPolicy {
    /// The paper's: the upper end of the confidence interval at level 0.95.
    Paper,
    /// The paper's, of lifetimes that no restart has ended.
    Unforced,
    /// The later report's: the paper's, learned once, without restarts.
    Frozen,
    /// The upper end of the prediction interval at level 0.95.
    Prediction,
    /// The largest first, when the host is short of memory.
    LargestFirst,
    /// The oldest first, when the host is short of memory.
    OldestFirst,
    /// No restarts.
    None,
    /// The shipped default.
    Renewal,
}

impl Kind {
    /// The module's name, which is its guest's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Leaky { .. } => "leaky",
            Self::Steady { .. } => "steady",
            Self::Bursty { .. } => "bursty",
        }
    }

    /// Settings of the guest; each runner has a seed of its own, so that replicas of one number differ between runners.
    fn environment(self, runner: u32, clock: u64) -> String {
        let seed = 7 + runner;
        match self {
            Self::Leaky { bytes, pause_ms } => format!(
                "LEAK_BYTES_MIN: \"{}\", LEAK_BYTES_MAX: \"{}\", LEAK_EVERY_MS_MIN: \"{}\", LEAK_EVERY_MS_MAX: \"{}\", SEED: \"{seed}\"",
                bytes.0,
                bytes.1,
                pause_ms.0 * clock,
                pause_ms.1 * clock
            ),
            Self::Steady { required_bytes, more_bytes, ramp_ms } => format!(
                "REQUIRED_BYTES: \"{required_bytes}\", MORE_BYTES_PER_REPLICA: \"{more_bytes}\", RAMP_MS: \"{}\"",
                ramp_ms * clock
            ),
            Self::Bursty { bytes, probability } => format!(
                "BURST_BYTES: \"{bytes}\", BURST_PROBABILITY: \"{probability}\", STEP_MS: \"{}\", SEED: \"{seed}\"",
                500 * clock
            ),
        }
    }
}

impl Protocol {
    /// Every protocol, at so many seconds a tick.
    pub(crate) fn all(clock: u64) -> Vec<Self> {
        vec![Self::mixed(clock), Self::fifty(clock)]
    }

    /// The paper's experiment.
    fn mixed(clock: u64) -> Self {
        let arm = |name, about, policy| Arm { name, about, policy };
        Self {
            name: "mixed",
            about: "the paper's experiment: 4 runners, each with 5 instances that leak random amounts, 3 that \
                    grow to a known need of 6, 8 and 10 MiB within 20 ticks, and 3 that rarely need a lot",
            runners: 4,
            guests: vec![
                Guests { kind: Kind::Leaky { bytes: (65_536, 524_288), pause_ms: (300, 1500) }, replicas: 5 },
                Guests {
                    kind: Kind::Steady { required_bytes: 6 << 20, more_bytes: 2 << 20, ramp_ms: 20_000 },
                    replicas: 3,
                },
                Guests { kind: Kind::Bursty { bytes: 16 << 20, probability: 0.01 }, replicas: 3 },
            ],
            arms: vec![
                arm("t_confidence", "the method of the paper, level 0.95", ArmPolicy::Paper),
                arm(
                    "t_confidence_unforced",
                    "the same, without lifetimes that a restart ended",
                    ArmPolicy::Unforced,
                ),
                arm("t_confidence_frozen", "the same, learned once and then fixed", ArmPolicy::Frozen),
                arm(
                    "largest_first",
                    "the largest, when the host is short of memory",
                    ArmPolicy::LargestFirst,
                ),
                arm("oldest_first", "the oldest, when the host is short of memory", ArmPolicy::OldestFirst),
                arm("none", "no restarts", ArmPolicy::None),
                arm("renewal", "the shipped default", ArmPolicy::Renewal),
            ],
            short_above_bytes: 500 << 20,
            restart_price: (ByteCount::mib(16), 15),
            clock,
        }
    }

    /// The later report's: equal instances that grow at irregular times.
    fn fifty(clock: u64) -> Self {
        let arm = |name, about, policy| Arm { name, about, policy };
        Self {
            name: "fifty",
            about: "the later report's protocol, three times as fast at a tick a second: 50 equal instances that grow at irregular \
                    times, within 120 ticks to about 8000 KiB",
            runners: 2,
            guests: vec![Guests {
                kind: Kind::Leaky { bytes: (65_536, 262_144), pause_ms: (700, 4700) },
                replicas: 25,
            }],
            arms: vec![
                arm("none", "no restarts", ArmPolicy::None),
                arm("t_confidence", "the method of the paper, level 0.95", ArmPolicy::Paper),
                arm(
                    "t_confidence_frozen",
                    "that of the later report: learned once and then fixed",
                    ArmPolicy::Frozen,
                ),
                arm("t_prediction", "prediction interval, level 0.95", ArmPolicy::Prediction),
                arm("renewal", "the shipped default", ArmPolicy::Renewal),
            ],
            short_above_bytes: u64::MAX,
            restart_price: (ByteCount::mib(4), 60),
            clock,
        }
    }

    /// What a restart is worth at so many seconds a tick.
    ///
    /// # Panics
    /// When a constant of this file is not what it must be.
    pub(crate) fn price(&self, clock: u64) -> RestartPrice {
        let (bytes, ticks) = self.restart_price;
        RestartPrice::new(bytes, Span::secs(ticks * clock)).expect("a price above nothing")
    }

    /// The `modules:` of the `runner`-th runner.
    pub(crate) fn modules(&self, runner: u32) -> String {
        let module = |guests: &Guests| {
            let name = guests.kind.name();
            format!(
                "  - name: {name}\n    path: {}\n    kind: command\n    replicas: {}\n    memory_limit: 256MiB\n    env: {{{}}}\n",
                paths::guest(name).display(),
                guests.replicas,
                guests.kind.environment(runner, self.clock)
            )
        };
        self.guests.iter().map(module).collect()
    }

    /// The evaluator's config, where so much memory would be `available` if no instance took any.
    pub(crate) fn evaluator_config(
        &self,
        arm: &Arm,
        prometheus: &str,
        runners: &[&str],
        available: u64,
    ) -> String {
        let allow: Vec<String> = runners.iter().map(|runner| format!("\"{runner}\"")).collect();
        let below = available.saturating_sub(self.short_above_bytes);
        let clock = self.clock;
        let policy = match arm.policy {
            ArmPolicy::Paper => "policy: t_interval, interval: confidence, confidence_level: 0.95".to_owned(),
            ArmPolicy::Unforced => {
                "policy: t_interval, interval: confidence, confidence_level: 0.95, population: unforced"
                    .to_owned()
            }
            ArmPolicy::Frozen => format!(
                "policy: t_interval, interval: confidence, confidence_level: 0.95, population: frozen, baseline: {}s",
                BASELINE * clock
            ),
            ArmPolicy::Prediction => {
                "policy: t_interval, interval: prediction, confidence_level: 0.95".to_owned()
            }
            ArmPolicy::LargestFirst => format!("policy: largest_first, available_below: {below}B"),
            ArmPolicy::OldestFirst => format!("policy: oldest_first, available_below: {below}B"),
            ArmPolicy::None => "policy: none".to_owned(),
            ArmPolicy::Renewal => format!("policy: renewal, restart_price: {}", self.price(clock)),
        };
        format!(
            "interval: {clock}s\nlookback: {clock}h\nstore: {{prometheus: {{url: \"{prometheus}\", overlap: {}s}}}}\n\
             hold: {{stale_after: {}s, clock_skew: 5s}}\nrunners: {{allow: [{}]}}\n\
             budget: {{restarts_per_minute: {}, burst: 20, cooldown: {}s}}\n\
             defaults: {{{policy}, min_age: {}s, min_lifetimes: 5, min_reclaim: 256KiB}}\n",
            3 * clock,
            5 * clock,
            allow.join(", "),
            600 / clock,
            2 * clock,
            3 * clock
        )
    }

    /// The same rule for the simulator at a tick a second, on a host of `host_bytes`.
    ///
    /// # Panics
    /// When a constant of this file is not what it must be.
    pub(crate) fn rule(&self, arm: &Arm, host_bytes: u64) -> Rule {
        let pressure =
            Pressure { available_below: ByteCount(host_bytes.saturating_sub(self.short_above_bytes)) };
        let interval = |interval, population| {
            Policy::TInterval(TInterval {
                interval,
                confidence_level: 0.95.try_into().expect("a level"),
                population,
                baseline: Span::secs(BASELINE),
                ..TInterval::default()
            })
        };
        let policy = match arm.policy {
            ArmPolicy::Paper => interval(IntervalKind::Confidence, PopulationKind::All),
            ArmPolicy::Unforced => interval(IntervalKind::Confidence, PopulationKind::Unforced),
            ArmPolicy::Frozen => interval(IntervalKind::Confidence, PopulationKind::Frozen),
            ArmPolicy::Prediction => interval(IntervalKind::Prediction, PopulationKind::All),
            ArmPolicy::LargestFirst => Policy::LargestFirst(pressure),
            ArmPolicy::OldestFirst => Policy::OldestFirst(pressure),
            ArmPolicy::None => Policy::None,
            ArmPolicy::Renewal => {
                Policy::Renewal(Renewal { restart_price: self.price(1), ..Renewal::default() })
            }
        };
        let guard_rails = GuardRails {
            min_age: Span::secs(3),
            min_lifetimes: 5,
            max_bytes: None,
            min_reclaim: ByteCount(256 << 10),
        };
        Rule { policy, guard_rails }
    }
}
