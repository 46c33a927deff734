//! A runner's address, made of labels.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::labels::{Labels, is_label_name, own_label};

/// A runner's address, made of labels: `{{host}}:9742`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(!try_from)]
pub(crate) struct AddressTemplate(#[schemars(regex(pattern = r"\{\{ *[A-Za-z_][A-Za-z0-9_]* *\}\}"))] String);

impl Default for AddressTemplate {
    fn default() -> Self {
        Self("{{instance}}".to_owned())
    }
}

impl AddressTemplate {
    /// Whether it is the address as Prometheus tells it.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn fill(&self, labels: &Labels<'_>) -> Result<String, String> {
        let mut address = String::new();
        let mut rest = self.0.as_str();
        while let Some((text, (label, behind))) = split(rest) {
            let value = labels.get(own_label(labels, label)).filter(|value| !value.is_empty());
            address += text;
            address += value.ok_or_else(|| format!("no label {label}, which the runner's address needs"))?;
            rest = behind;
        }
        Ok(address + rest)
    }
}

/// `text{{label}}behind` → its parts.
fn split(template: &str) -> Option<(&str, (&str, &str))> {
    let (text, rest) = template.split_once("{{")?;
    let (label, behind) = rest.split_once("}}")?;
    Some((text, (label.trim(), behind)))
}

/// Text that makes no address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} makes no address: expected HOST:PORT with labels in double braces, such as {{{{host}}}}:9742")]
pub(crate) struct AddressTemplateError(String);

impl FromStr for AddressTemplate {
    type Err = AddressTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || AddressTemplateError(text.to_owned());
        let mut rest = text;
        let mut labels = 0;
        while let Some((before, (label, behind))) = split(rest) {
            if !is_label_name(label) || before.contains(['{', '}']) {
                return Err(refused());
            }
            (rest, labels) = (behind, labels + 1);
        }
        if labels == 0 || rest.contains(['{', '}']) || !leads_to_address(text) {
            Err(refused())
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// Whether a template can make HOST:PORT of labels that fit.
fn leads_to_address(template: &str) -> bool {
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((before, (_, behind))) = split(rest) {
        filled += before;
        filled += "9";
        rest = behind;
    }
    filled += rest;
    let sane =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let port_fits = match filled.rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok(),
        // The label alone tells all of it, as `instance` does.
        None => filled == "9",
    };
    port_fits && filled.bytes().all(sane)
}

impl TryFrom<String> for AddressTemplate {
    type Error = AddressTemplateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AddressTemplate> for String {
    fn from(template: AddressTemplate) -> Self {
        template.0
    }
}
