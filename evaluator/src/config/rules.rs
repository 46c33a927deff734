//! `defaults:` and `modules:` → the [`Rule`] of each module.

use std::{collections::BTreeMap, fmt};

use ebb_core::policy::{
    Adapt, GuardRails, IntervalKind, Policy, Pooling, Pressure, Renewal, Rule, TInterval,
};
use ebb_service::config_file::Refusal;
use ebb_units::{ByteCount, ConfidenceLevel, Coverage, RestartPrice, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// Settings of a rule; what is not set is taken from `defaults:`, and there from the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// When an instance is restarted.
    pub policy: Option<PolicyName>,
    /// `t_interval`: what the interval is an interval of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalKind>,
    /// `t_interval`: level of the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_level: Option<ConfidenceLevel>,
    /// `t_interval` with `interval: tolerance`: the share of lifetimes that the interval contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// `t_interval`: how the level follows an instance's growth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapt: Option<Adapt>,
    /// `renewal`: what a restart is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_price: Option<RestartPrice>,
    /// `renewal`: how far a slot's average is drawn towards its module's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// `largest_first`, `oldest_first`: the host is short of memory when less than this is available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_below: Option<ByteCount>,
    /// `max_age`: the age at which an instance is restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// Younger instances are neither restarted nor counted.
    pub min_age: Option<Span>,
    /// `t_interval`: with fewer lifetimes there is no threshold.
    #[schemars(range(min = 2))]
    pub min_lifetimes: Option<u64>,
    /// Above this an instance is restarted whatever the policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteCount>,
    /// Where a restart would give back less, nothing is restarted.
    pub min_reclaim: Option<ByteCount>,
}

/// `modules:`, where a name that stands twice is a mistake: one of the two would be without effect.
pub(super) fn each_module_once<'de, D>(deserializer: D) -> Result<BTreeMap<String, RuleConfig>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = BTreeMap<String, RuleConfig>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping of module names to settings of a rule")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut modules = BTreeMap::new();
            while let Some((module, rule)) = map.next_entry::<String, RuleConfig>()? {
                if modules.contains_key(&module) {
                    return Err(de::Error::custom(format_args!("duplicate module {module}")));
                }
                modules.insert(module, rule);
            }
            Ok(modules)
        }
    }

    deserializer.deserialize_map(Visitor)
}

/// The settings that concern some policies only: which, and how one is taken out; `true` if it was set.
type KeyOfPolicies = (&'static str, &'static [PolicyName], fn(&mut RuleConfig) -> bool);

const KEYS_OF_POLICIES: &[KeyOfPolicies] = &[
    ("interval", &[PolicyName::TInterval], |config| config.interval.take().is_some()),
    ("confidence_level", &[PolicyName::TInterval], |config| config.confidence_level.take().is_some()),
    ("coverage", &[PolicyName::TInterval], |config| config.coverage.take().is_some()),
    ("adapt", &[PolicyName::TInterval], |config| config.adapt.take().is_some()),
    ("restart_price", &[PolicyName::Renewal], |config| config.restart_price.take().is_some()),
    ("pooling", &[PolicyName::Renewal], |config| config.pooling.take().is_some()),
    ("available_below", &[PolicyName::LargestFirst, PolicyName::OldestFirst], |config| {
        config.available_below.take().is_some()
    }),
    ("max_age", &[PolicyName::MaxAge], |config| config.max_age.take().is_some()),
];

/// A policy, as YAML names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// When it holds more than the upper end of an interval of the medians of all lifetimes.
    TInterval,
    /// When it holds more than its slot costs on average, restarts included.
    Renewal,
    /// When its host is short of memory and it is the largest. Needs `available_below`.
    LargestFirst,
    /// When its host is short of memory and it has run longest. Needs `available_below`.
    OldestFirst,
    /// When it holds more than `max_bytes`, which is then needed.
    Static,
    /// When it has run for `max_age`, which is then needed.
    MaxAge,
    /// Never, but for `max_bytes`.
    None,
}

impl PolicyName {
    /// The policy's name, as YAML tells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TInterval => "t_interval",
            Self::Renewal => "renewal",
            Self::LargestFirst => "largest_first",
            Self::OldestFirst => "oldest_first",
            Self::Static => "static",
            Self::MaxAge => "max_age",
            Self::None => "none",
        }
    }
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
        let built_in = RuleConfig::built_in();
        let policy_of = |config: &RuleConfig| config.policy.or(defaults.policy).or(built_in.policy);
        let in_use: Vec<_> =
            std::iter::once(&defaults).chain(modules.values()).filter_map(policy_of).collect();
        defaults.refuse_useless_keys("defaults", &in_use)?;
        for (module, config) in &modules {
            config.refuse_useless_keys(&format!("modules.{module}"), policy_of(config).as_slice())?;
        }
        let defaults = defaults.or(&built_in);
        let modules: BTreeMap<_, _> =
            modules.into_iter().map(|(module, config)| (module, config.or(&defaults))).collect();
        let rule = |(module, config): (&String, &RuleConfig)| {
            Ok((module.clone(), config.rule(&format!("modules.{module}"))?))
        };
        let module_rules = modules.iter().map(rule).collect::<Result<_, Refusal>>()?;
        let default_rule = defaults.rule("defaults")?;
        let of_its_policy = |config: RuleConfig| {
            let policy = config.policy;
            config.without_useless_keys(policy.as_slice())
        };
        Ok(Self {
            default_rule,
            module_rules,
            defaults: defaults.without_useless_keys(&in_use),
            modules: modules.into_iter().map(|(module, config)| (module, of_its_policy(config))).collect(),
        })
    }

    /// The same guard rails with another policy, whose settings are those of `policy`, else the built-in ones.
    ///
    /// # Errors
    /// [`Refusal`] when the policy lacks something that it needs.
    pub fn with_policy(&self, policy: &RuleConfig) -> Result<Self, Refusal> {
        let with = |config: &RuleConfig| policy.clone().or(&config.guard_rails());
        let modules = self.modules.iter().map(|(module, config)| (module.clone(), with(config))).collect();
        Self::new(with(&self.defaults), modules)
    }

    /// The rule of `module`.
    #[must_use]
    pub fn of(&self, module: &str) -> &Rule {
        self.module_rules.get(module).unwrap_or(&self.default_rule)
    }
}

/// The schema of `defaults:`, which tells the built-in settings. In a module, what is not set is that of `defaults:`.
pub(super) fn schema_of_defaults(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = RuleConfig::json_schema(generator);
    let built_in = serde_json::to_value(RuleConfig::built_in()).expect("settings are JSON");
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (key, property) in properties.expect("a struct has properties") {
        if let (Some(default), Some(property)) = (built_in.get(key), property.as_object_mut()) {
            property.insert("default".to_owned(), default.clone());
        }
    }
    schema
}

impl RuleConfig {
    /// What holds where neither a module nor `defaults:` says anything.
    fn built_in() -> Self {
        Self {
            policy: Some(PolicyName::Renewal),
            interval: Some(IntervalKind::Prediction),
            confidence_level: Some(0.99.try_into().expect("0.99 lies between 0 and 1")),
            coverage: Some(0.99.try_into().expect("0.99 lies between 0 and 1")),
            adapt: Some(Adapt::Off),
            restart_price: Some(
                RestartPrice::new(ByteCount::mib(1024), Span::secs(600)).expect("it is more than nothing"),
            ),
            pooling: Some(Pooling::Adaptive),
            available_below: None,
            max_age: None,
            min_age: Some(Span::secs(300)),
            min_lifetimes: Some(5),
            max_bytes: None,
            min_reclaim: Some(ByteCount::mib(1)),
        }
    }

    /// These settings, with `others` where they are not set.
    fn or(self, others: &Self) -> Self {
        Self {
            policy: self.policy.or(others.policy),
            interval: self.interval.or(others.interval),
            confidence_level: self.confidence_level.or(others.confidence_level),
            coverage: self.coverage.or(others.coverage),
            adapt: self.adapt.or(others.adapt),
            restart_price: self.restart_price.or(others.restart_price),
            pooling: self.pooling.or(others.pooling),
            available_below: self.available_below.or(others.available_below),
            max_age: self.max_age.or(others.max_age),
            min_age: self.min_age.or(others.min_age),
            min_lifetimes: self.min_lifetimes.or(others.min_lifetimes),
            max_bytes: self.max_bytes.or(others.max_bytes),
            min_reclaim: self.min_reclaim.or(others.min_reclaim),
        }
    }

    fn guard_rails(&self) -> Self {
        Self {
            min_age: self.min_age,
            min_lifetimes: self.min_lifetimes,
            max_bytes: self.max_bytes,
            min_reclaim: self.min_reclaim,
            ..Self::default()
        }
    }

    /// Takes out the settings that concern none of `policies`, and tells which were set, each with the policies that it
    /// concerns.
    fn take_useless(&mut self, policies: &[PolicyName]) -> Vec<(&'static str, &'static [PolicyName])> {
        let mut taken = Vec::new();
        for (key, owners, take) in KEYS_OF_POLICIES {
            if !owners.iter().any(|owner| policies.contains(owner)) && take(self) {
                taken.push((*key, *owners));
            }
        }
        taken
    }

    /// A setting that changes nothing is a mistake: the one who wrote it believes that it does.
    fn refuse_useless_keys(&self, section: &str, policies: &[PolicyName]) -> Result<(), Refusal> {
        let Some((key, owners)) = self.clone().take_useless(policies).into_iter().next() else {
            return Ok(());
        };
        let names = |policies: &[PolicyName]| {
            policies.iter().map(|policy| policy.name()).collect::<Vec<_>>().join(" or ")
        };
        let message = format!(
            "has no effect with policy {}: expected it with `policy: {}`",
            names(policies),
            names(owners)
        );
        Err(Refusal::new(format!("{section}.{key}"), message))
    }

    fn without_useless_keys(mut self, policies: &[PolicyName]) -> Self {
        self.take_useless(policies);
        self
    }

    /// The rule that complete settings make.
    fn rule(&self, section: &str) -> Result<Rule, Refusal> {
        if let Some(too_few) = self.min_lifetimes.filter(|lifetimes| *lifetimes < 2) {
            let message = format!("expected at least 2, got {too_few}: one value has no spread");
            return Err(Refusal::new(format!("{section}.min_lifetimes"), message));
        }
        let complete = "built-in settings leave out nothing but max_bytes, max_age and available_below";
        let policy = self.policy.expect(complete);
        let missing = |field: &str, what: &str| {
            Refusal::new(format!("{section}.{field}"), format!("the policy needs {what}"))
        };
        let pressure = || -> Result<Pressure, Refusal> {
            let what = "the available memory below which a host is short of it, such as 512MiB";
            let available_below = self.available_below.ok_or_else(|| missing("available_below", what))?;
            Ok(Pressure { available_below })
        };
        Ok(Rule {
            policy: match policy {
                PolicyName::TInterval => Policy::TInterval(TInterval {
                    interval: self.interval.expect(complete),
                    confidence_level: self.confidence_level.expect(complete),
                    coverage: self.coverage.expect(complete),
                    adapt: self.adapt.expect(complete),
                }),
                PolicyName::Renewal => Policy::Renewal(Renewal {
                    restart_price: self.restart_price.expect(complete),
                    pooling: self.pooling.expect(complete),
                }),
                PolicyName::LargestFirst => Policy::LargestFirst(pressure()?),
                PolicyName::OldestFirst => Policy::OldestFirst(pressure()?),
                PolicyName::Static => {
                    self.max_bytes.ok_or_else(|| {
                        missing("max_bytes", "the size above which to restart, such as 64MiB")
                    })?;
                    Policy::Static
                }
                PolicyName::MaxAge => Policy::MaxAge(
                    self.max_age
                        .ok_or_else(|| missing("max_age", "the age at which to restart, such as 1d"))?,
                ),
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
