//! A section of settings of a rule, as it is written: `defaults:`, or one module in `modules:`.
//!
//! Which settings there are, of which type and with which default, the types of the policies and of the guard rails say;
//! this file knows none of them by name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::LazyLock,
};

use ebb_core::policy::{GuardRails, Policy, Rule};
use ebb_service::config_file::Refusal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Error as _},
};
use serde_json::{Map, Value as Json, json};
use serde_yaml::{
    Mapping, Value,
    value::{Tag, TaggedValue},
};
use strum::{IntoEnumIterator, VariantNames};

/// Settings of a rule. Those that are not set are taken from `defaults:`, or else from the built-in defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct RuleConfig(Mapping);

/// The setting that names the policy.
const POLICY: &str = "policy";

impl RuleConfig {
    /// Reads YAML, of which nothing but the policy's own settings and guard rails may be set.
    ///
    /// # Errors
    /// Says which setting is wrong.
    pub(crate) fn of_one_policy(yaml: &str) -> Result<Self, String> {
        let config: Self = serde_yaml::from_str(yaml).map_err(|error| error.to_string())?;
        let checked = config.policy().and_then(|policy| config.check(&[policy.unwrap_or_default()]));
        checked.map_err(|Refusal { field, message }| format!("{field}: {message}"))?;
        Ok(config)
    }

    /// The settings that make `rule`: all of them.
    pub(super) fn of_rule(rule: &Rule) -> Self {
        let mut settings = Mapping::from_iter([(POLICY.into(), rule.policy.name().into())]);
        settings.extend(settings_of(rule.policy));
        settings.extend(Self::of_guard_rails(rule.guard_rails).0);
        Self(settings)
    }

    /// The settings that make `guard_rails`: all of them.
    pub(super) fn of_guard_rails(guard_rails: GuardRails) -> Self {
        Self(mapping(&guard_rails).into_iter().filter(|(_, value)| !value.is_null()).collect())
    }

    /// These settings, with those of `others` where they are not set.
    pub(super) fn or(&self, others: &Self) -> Self {
        let mut settings = others.0.clone();
        settings.extend(self.0.clone());
        Self(settings)
    }

    /// The policy, if one is set, with its settings as they are built in.
    ///
    /// # Errors
    /// [`Refusal`] when there is none of that name.
    pub(super) fn policy(&self) -> Result<Option<Policy>, Refusal> {
        let Some(name) = self.0.get(POLICY) else { return Ok(None) };
        let found = Policy::iter().find(|policy| name.as_str() == Some(policy.name()));
        found.map(Some).ok_or_else(|| {
            let name = name.as_str().unwrap_or("of another type");
            Refusal::new(
                POLICY,
                format!("unknown variant `{name}`, expected one of {}", quoted(Policy::VARIANTS)),
            )
        })
    }

    /// Checks each setting by itself. One that none of `policies` has changes nothing, and is a mistake: the one who wrote
    /// it believes that it does.
    ///
    /// # Errors
    /// [`Refusal`] of the first that is wrong.
    pub(super) fn check(&self, policies: &[Policy]) -> Result<(), Refusal> {
        for (key, value) in self.0.iter().filter(|(key, _)| *key != POLICY) {
            let refused = |message| Err(Refusal::new(key.as_str().unwrap_or_default(), message));
            let owners: Vec<_> = Policy::iter().filter(|policy| keys_of(*policy).contains_key(key)).collect();
            let alone = Self(Mapping::from_iter([(key.clone(), value.clone())]));
            if let Some(error) = owners.iter().find_map(|owner| alone.rule_with(*owner).err()) {
                return refused(error.to_string());
            }
            if !policies.iter().any(|policy| owners.iter().any(|owner| owner.name() == policy.name())) {
                let names = |policies: &[Policy]| {
                    policies
                        .iter()
                        .map(Policy::name)
                        .collect::<BTreeSet<_>>()
                        .into_iter()
                        .collect::<Vec<_>>()
                        .join(" or ")
                };
                return refused(format!(
                    "has no effect with policy {}: only allowed with `policy: {}`",
                    names(policies),
                    names(&owners)
                ));
            }
        }
        Ok(())
    }

    /// The rule that these settings make, where they set none with those built in.
    ///
    /// # Errors
    /// [`Refusal`] when the policy lacks something that it needs.
    pub(super) fn rule(&self) -> Result<Rule, Refusal> {
        let policy = self.policy()?.unwrap_or_default();
        if let Some((key, what)) = policy.needs()
            && !self.0.contains_key(key)
        {
            return Err(Refusal::new(key, format!("the policy needs {what}")));
        }
        self.rule_with(policy).map_err(|error| Refusal::new(POLICY, error.to_string()))
    }

    /// The rule of `policy` with those settings that it has.
    fn rule_with(&self, policy: Policy) -> Result<Rule, serde_yaml::Error> {
        let set = |mut settings: Mapping| {
            for (key, value) in &mut settings {
                if let Some(written) = self.0.get(key) {
                    value.clone_from(written);
                }
            }
            Value::Mapping(settings)
        };
        let settings = settings_of(policy);
        Ok(Rule {
            policy: if settings.is_empty() {
                policy
            } else {
                let tagged = TaggedValue { tag: Tag::new(policy.name()), value: set(settings) };
                serde_yaml::from_value(Value::Tagged(Box::new(tagged)))?
            },
            guard_rails: serde_yaml::from_value(set(mapping(&GuardRails::default())))?,
        })
    }
}

/// The settings of `policy`: all of them.
fn settings_of(policy: Policy) -> Mapping {
    let Ok(Value::Tagged(tagged)) = serde_yaml::to_value(policy) else { return Mapping::new() };
    match tagged.value {
        Value::Mapping(settings) => settings,
        // A policy of one setting is written as that.
        only => Mapping::from_iter([(policy.name().into(), only)]),
    }
}

/// What may be set with `policy`, with what is built in.
fn keys_of(policy: Policy) -> &'static Mapping {
    // Asked for at each key of each module.
    static KEYS: LazyLock<BTreeMap<&'static str, Mapping>> = LazyLock::new(|| {
        let keys = |policy| settings_of(policy).into_iter().chain(mapping(&GuardRails::default()));
        Policy::iter().map(|policy| (policy.name(), keys(policy).collect())).collect()
    });
    &KEYS[policy.name()]
}

fn mapping(settings: &impl Serialize) -> Mapping {
    let value = serde_yaml::to_value(settings).expect("settings are YAML");
    serde_yaml::from_value(value).expect("settings are a mapping")
}

fn quoted(names: &[impl fmt::Display]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A key that may stand in a section.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a setting")
            }

            // Within the visitor, so that the error has the place of the key.
            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
                if key == POLICY || Policy::iter().any(|policy| keys_of(policy).contains_key(key)) {
                    return Ok(Key(key.to_owned()));
                }
                let keys = Policy::iter().flat_map(|policy| keys_of(policy).keys());
                let known: BTreeSet<_> = keys.filter_map(Value::as_str).chain([POLICY]).collect();
                let known = quoted(&Vec::from_iter(known));
                Err(E::custom(format_args!("unknown field `{key}`, expected one of {known}")))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl<'de> Deserialize<'de> for RuleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RuleConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings of a rule")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RuleConfig, A::Error> {
                let settings: BTreeMap<Key, Value> =
                    each_once(map, |Key(key)| format!("duplicate field `{key}`"))?;
                let set = settings.into_iter().filter(|(_, value)| !value.is_null());
                Ok(RuleConfig(set.map(|(Key(key), value)| (key.into(), value)).collect()))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The entries of a mapping in which no key may stand twice: one of the two would be without effect.
pub(super) fn each_once<'de, K, V, A>(
    mut map: A,
    duplicate: impl Fn(&K) -> String,
) -> Result<BTreeMap<K, V>, A::Error>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
    A: de::MapAccess<'de>,
{
    let mut entries = BTreeMap::new();
    while let Some((key, value)) = map.next_entry::<K, V>()? {
        if entries.contains_key(&key) {
            return Err(A::Error::custom(duplicate(&key)));
        }
        entries.insert(key, value);
    }
    Ok(entries)
}

impl JsonSchema for RuleConfig {
    fn schema_name() -> Cow<'static, str> {
        "RuleConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = schema_of_defaults(generator);
        for property in schema.get_mut("properties").and_then(Json::as_object_mut).into_iter().flatten() {
            property.1.as_object_mut().map(|property| property.remove("default"));
        }
        schema
    }
}

/// The schema of `defaults:`, which tells what is built in. In a module, what is not set is that of `defaults:`.
pub(super) fn schema_of_defaults(generator: &mut SchemaGenerator) -> Schema {
    let mut properties = properties_of(&GuardRails::json_schema(generator).to_value());
    let variants = Policy::json_schema(generator).to_value();
    let mut names = Vec::new();
    for policy in Policy::iter() {
        let name = policy.name();
        let of_policy =
            |variant: &&Json| variant["const"] == name || variant["properties"].get(name).is_some();
        let variant =
            variants["oneOf"].as_array().into_iter().flatten().find(of_policy).unwrap_or(&Json::Null);
        names.push(json!({"const": name, "description": variant["description"], "type": "string"}));
        for (key, mut property) in properties_of(&variant["properties"][name]) {
            if policy.needs().is_some_and(|(needed, _)| needed == key) {
                property.as_object_mut().map(|property| property.remove("default"));
            }
            let description = property["description"].as_str().unwrap_or_default();
            // Some policies share a setting.
            let owners = match properties.get(&key).and_then(|known| known["description"].as_str()) {
                Some(known) => format!("{}, `{name}`", known.split(": ").next().unwrap_or_default()),
                None => format!("`{name}`"),
            };
            let (first, rest) = description.split_at(description.len().min(1));
            property["description"] = format!("{owners}: {}{rest}", first.to_lowercase()).into();
            properties.insert(key, property);
        }
    }
    properties.insert(
        POLICY.to_owned(),
        json!({
            "default": Policy::default().name(),
            "description": "When an instance is restarted.",
            "oneOf": names,
        }),
    );
    json_schema!({
        "description": "Settings of a rule. Those that are not set are taken from `defaults:`, or else from the built-in defaults.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn properties_of(schema: &Json) -> Map<String, Json> {
    schema["properties"].as_object().cloned().unwrap_or_default()
}
