//! `defaults:` and `modules:` → the [`Rule`] of each module.

use std::{collections::BTreeMap, fmt};

use ebb_core::policy::Rule;
use ebb_service::config_file::Refusal;
use serde::{Deserializer, Serialize, Serializer, de, ser::SerializeStruct};

use super::section::{RuleConfig, each_once};

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

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            each_once(map, |module| format!("duplicate module {module}"))
        }
    }

    deserializer.deserialize_map(Visitor)
}

/// The rule of each module. Serialized as the complete settings that make it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    defaults: Rule,
    modules: BTreeMap<String, Rule>,
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let settings = |(module, rule)| (module, RuleConfig::of_rule(rule));
        let modules: BTreeMap<_, _> = self.modules.iter().map(settings).collect();
        let mut rules = serializer.serialize_struct("Rules", 2)?;
        rules.serialize_field("defaults", &RuleConfig::of_rule(&self.defaults))?;
        rules.serialize_field("modules", &modules)?;
        rules.end()
    }
}

impl Rules {
    pub(super) fn new(
        defaults: &RuleConfig,
        modules: &BTreeMap<String, RuleConfig>,
    ) -> Result<Self, Refusal> {
        let built_in = within("defaults", defaults.policy())?.unwrap_or_default();
        let mut in_use = vec![built_in];
        for (module, config) in modules {
            let policy = within(&section(module), config.policy())?.unwrap_or(built_in);
            within(&section(module), config.check(&[policy]))?;
            in_use.push(policy);
        }
        within("defaults", defaults.check(&in_use))?;
        let rule = |(module, config): (&String, &RuleConfig)| {
            Ok((module.clone(), within(&section(module), config.or(defaults).rule())?))
        };
        Ok(Self {
            defaults: within("defaults", defaults.rule())?,
            modules: modules.iter().map(rule).collect::<Result<_, Refusal>>()?,
        })
    }

    /// The same guard rails with another policy, whose settings are those of `policy`, else the built-in ones.
    ///
    /// # Errors
    /// [`Refusal`] when the policy lacks something that it needs.
    pub(crate) fn with_policy(&self, policy: &RuleConfig) -> Result<Self, Refusal> {
        let with = |rule: &Rule| policy.or(&RuleConfig::of_guard_rails(rule.guard_rails)).rule();
        let of_module =
            |(module, rule): (&String, &Rule)| Ok((module.clone(), within(&section(module), with(rule))?));
        Ok(Self {
            defaults: within("defaults", with(&self.defaults))?,
            modules: self.modules.iter().map(of_module).collect::<Result<_, Refusal>>()?,
        })
    }

    /// The rule of modules that have none of their own.
    pub(crate) const fn defaults(&self) -> &Rule {
        &self.defaults
    }

    /// The rule of `module`.
    pub(crate) fn of(&self, module: &str) -> &Rule {
        self.modules.get(module).unwrap_or(&self.defaults)
    }
}

fn section(module: &str) -> String {
    format!("modules.{module}")
}

fn within<T>(section: &str, checked: Result<T, Refusal>) -> Result<T, Refusal> {
    checked.map_err(|Refusal { field, message }| Refusal::new(format!("{section}.{field}"), message))
}
