//! `defaults:` and `modules:` → the [`Rule`] of each module.

use std::collections::BTreeMap;

use ebb_service::{
    config_file::Refusal,
    units::{ByteCount, Span},
};
use serde::{Deserialize, Serialize};

use crate::{
    rule::policy::{GuardRails, IntervalKind, Policy, Rule, TInterval},
    units::ConfidenceLevel,
};

/// Settings of a rule; what is not set is taken from `defaults:`, and there from the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// Above which size an instance is restarted.
    pub policy: Option<PolicyName>,
    /// `t_interval`: what the interval is an interval of.
    pub interval: Option<IntervalKind>,
    /// `t_interval`: level of the interval.
    pub confidence_level: Option<ConfidenceLevel>,
    /// Younger instances are neither restarted nor counted.
    pub min_age: Option<Span>,
    /// With fewer lifetimes nothing is restarted.
    pub min_lifetimes: Option<u64>,
    /// Above this an instance is restarted whatever the policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteCount>,
    /// Where a restart would give back less, nothing is restarted.
    pub min_reclaim: Option<ByteCount>,
}

/// A policy, as YAML names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// [`Policy::TInterval`].
    TInterval,
    /// [`Policy::None`].
    None,
}

/// The rule of each module. Serialized as the complete settings that make it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rules {
    defaults: RuleConfig,
    modules: BTreeMap<String, RuleConfig>,
    #[serde(skip)]
    default_rule: Rule,
    #[serde(skip)]
    module_rules: BTreeMap<String, Rule>,
}

impl Rules {
    pub(super) fn new(defaults: RuleConfig, modules: BTreeMap<String, RuleConfig>) -> Result<Self, Refusal> {
        let built_in = RuleConfig {
            policy: Some(PolicyName::TInterval),
            interval: Some(IntervalKind::Prediction),
            confidence_level: Some(0.99.try_into().expect("0.99 lies between 0 and 1")),
            min_age: Some(Span::secs(300)),
            min_lifetimes: Some(5),
            max_bytes: None,
            min_reclaim: Some(ByteCount::mib(1)),
        };
        let defaults = defaults.or(&built_in);
        let modules: BTreeMap<_, _> =
            modules.into_iter().map(|(module, config)| (module, config.or(&defaults))).collect();
        let rule = |(module, config): (&String, &RuleConfig)| {
            Ok((module.clone(), config.rule(&format!("modules.{module}"))?))
        };
        let module_rules = modules.iter().map(rule).collect::<Result<_, Refusal>>()?;
        Ok(Self { default_rule: defaults.rule("defaults")?, module_rules, defaults, modules })
    }

    /// The rule of `module`.
    #[must_use]
    pub fn of(&self, module: &str) -> &Rule {
        self.module_rules.get(module).unwrap_or(&self.default_rule)
    }
}

impl RuleConfig {
    /// These settings, with `others` where they are not set.
    fn or(self, others: &Self) -> Self {
        Self {
            policy: self.policy.or(others.policy),
            interval: self.interval.or(others.interval),
            confidence_level: self.confidence_level.or(others.confidence_level),
            min_age: self.min_age.or(others.min_age),
            min_lifetimes: self.min_lifetimes.or(others.min_lifetimes),
            max_bytes: self.max_bytes.or(others.max_bytes),
            min_reclaim: self.min_reclaim.or(others.min_reclaim),
        }
    }

    /// The rule that complete settings make.
    fn rule(&self, section: &str) -> Result<Rule, Refusal> {
        if let Some(too_few) = self.min_lifetimes.filter(|lifetimes| *lifetimes < 2) {
            let message = format!("expected at least 2, got {too_few}: one value has no spread");
            return Err(Refusal::new(format!("{section}.min_lifetimes"), message));
        }
        let complete = "built-in settings leave out nothing but max_bytes";
        Ok(Rule {
            policy: match self.policy.expect(complete) {
                PolicyName::TInterval => Policy::TInterval(TInterval {
                    interval: self.interval.expect(complete),
                    confidence_level: self.confidence_level.expect(complete),
                }),
                PolicyName::None => Policy::None,
            },
            guard_rails: GuardRails {
                min_age: self.min_age.expect(complete),
                min_lifetimes: self.min_lifetimes.expect(complete),
                max_bytes: self.max_bytes,
                min_reclaim: self.min_reclaim.expect(complete),
            },
        })
    }
}
