//! The fleets of the experiment, and the policies that are tried on them.

use ebb_core::policy::{
    GuardRails, IntervalKind, Policy, PopulationKind, Pressure, Renewal, Rule, TInterval,
};
use ebb_testbed::paths;
use ebb_units::{ByteCount, Span};

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
    /// What a restart is worth: it weighs restarts and memory against each other in every arm.
    pub restart_price: &'static str,
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
        /// Milliseconds between two, from and to.
        pause_ms: (u64, u64),
    },
    /// Grows to the memory that it needs and keeps it.
    Steady {
        /// What replica 0 needs, in bytes: all of its linear memory.
        required_bytes: u64,
        /// What each further replica needs in addition to the one before, in bytes.
        more_bytes: u64,
        /// Time for getting there.
        ramp_ms: u64,
    },
    /// Needs so many bytes for a moment, with this probability in each half second.
    Bursty {
        /// Bytes of a burst.
        bytes: u64,
        /// Probability of one in a step of 500 ms.
        probability: f64,
    },
}

/// How long instances are watched before a threshold is fixed.
const BASELINE: Span = Span::secs(30);

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
    fn environment(self, runner: u32) -> String {
        let seed = 7 + runner;
        match self {
            Self::Leaky { bytes, pause_ms } => format!(
                "LEAK_BYTES_MIN: \"{}\", LEAK_BYTES_MAX: \"{}\", LEAK_EVERY_MS_MIN: \"{}\", LEAK_EVERY_MS_MAX: \"{}\", SEED: \"{seed}\"",
                bytes.0, bytes.1, pause_ms.0, pause_ms.1
            ),
            Self::Steady { required_bytes, more_bytes, ramp_ms } => format!(
                "REQUIRED_BYTES: \"{required_bytes}\", MORE_BYTES_PER_REPLICA: \"{more_bytes}\", RAMP_MS: \"{ramp_ms}\""
            ),
            Self::Bursty { bytes, probability } => format!(
                "BURST_BYTES: \"{bytes}\", BURST_PROBABILITY: \"{probability}\", STEP_MS: \"500\", SEED: \"{seed}\""
            ),
        }
    }
}

impl Protocol {
    /// Every protocol.
    pub(crate) fn all() -> Vec<Self> {
        vec![Self::mixed(), Self::fifty()]
    }

    /// The paper's experiment.
    fn mixed() -> Self {
        let arm = |name, about, policy| Arm { name, about, policy };
        Self {
            name: "mixed",
            about: "the paper's experiment: 4 runners, each with 5 instances that leak random amounts, 3 that \
                    grow to a known need of 6, 8 and 10 MiB within 20 s, and 3 that rarely need a lot",
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
            restart_price: "16MiB*15s",
        }
    }

    /// The later report's: equal instances that grow at irregular times.
    fn fifty() -> Self {
        let arm = |name, about, policy| Arm { name, about, policy };
        Self {
            name: "fifty",
            about: "the later report's protocol, three times as fast: 50 equal instances that grow at irregular times, \
                    within two minutes to about 8000 KiB",
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
            restart_price: "4MiB*60s",
        }
    }

    /// The `modules:` of the `runner`-th runner.
    pub(crate) fn modules(&self, runner: u32) -> String {
        let module = |guests: &Guests| {
            let name = guests.kind.name();
            format!(
                "  - name: {name}\n    path: {}\n    kind: command\n    replicas: {}\n    memory_limit: 256MiB\n    env: {{{}}}\n",
                paths::guest(name).display(),
                guests.replicas,
                guests.kind.environment(runner)
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
        let policy = match arm.policy {
            ArmPolicy::Paper => "policy: t_interval, interval: confidence, confidence_level: 0.95".to_owned(),
            ArmPolicy::Unforced => {
                "policy: t_interval, interval: confidence, confidence_level: 0.95, population: unforced"
                    .to_owned()
            }
            ArmPolicy::Frozen => format!(
                "policy: t_interval, interval: confidence, confidence_level: 0.95, population: frozen, baseline: {BASELINE}"
            ),
            ArmPolicy::Prediction => {
                "policy: t_interval, interval: prediction, confidence_level: 0.95".to_owned()
            }
            ArmPolicy::LargestFirst => format!("policy: largest_first, available_below: {below}B"),
            ArmPolicy::OldestFirst => format!("policy: oldest_first, available_below: {below}B"),
            ArmPolicy::None => "policy: none".to_owned(),
            ArmPolicy::Renewal => format!("policy: renewal, restart_price: {}", self.restart_price),
        };
        format!(
            "interval: 1s\nlookback: 1h\nstore: {{prometheus: {{url: \"{prometheus}\", overlap: 3s}}}}\n\
             hold: {{stale_after: 5s, clock_skew: 5s}}\nrunners: {{allow: [{}]}}\n\
             budget: {{restarts_per_minute: 600, burst: 20, cooldown: 2s}}\n\
             defaults: {{{policy}, min_age: 3s, min_lifetimes: 5, min_reclaim: 256KiB}}\n",
            allow.join(", ")
        )
    }

    /// The same rule for the simulator, on a host of `host_bytes`.
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
                baseline: BASELINE,
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
                let restart_price = self.restart_price.parse().expect("a price");
                Policy::Renewal(Renewal { restart_price, ..Renewal::default() })
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
