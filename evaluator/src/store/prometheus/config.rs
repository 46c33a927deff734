//! The `store.prometheus:` section of the config.

use std::{collections::BTreeMap, path::PathBuf};

use ebb_service::config_file::Refusal;
use ebb_units::Span;
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    client::{BasicAuth, TlsConfig},
    store::labels::is_label_name,
};

/// The `store.prometheus:` section of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"required": ["basic_auth", "authorization"]}))]
pub(crate) struct PrometheusConfig {
    /// Where the server's API begins: `http://prometheus:9090`, or with a path in front of `/api/v1`.
    #[schemars(regex(pattern = r"^https?://[^@]+$"), extend("examples" = ["http://prometheus:9090"]))]
    pub url: String,
    /// Further label matchers of the series to read, such as `job="ebb-runner"`.
    #[serde(default)]
    #[schemars(inner(regex(pattern = MATCHER_FORM)))]
    pub matchers: Vec<String>,
    /// Additional labels that distinguish runners, such as `host`, if `instance` alone does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")))]
    pub identity: Vec<String>,
    /// Longest wait for the answer of a tick's query.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Longest wait for a whole bootstrap.
    #[serde(default = "default_bootstrap_timeout")]
    pub bootstrap_timeout: Span,
    /// How far a tick's query reaches back before the previous one. Default: 20s, or twice the scrape interval,
    /// or the longest delay of a sample. It always reaches back to the newest sample of each series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Span>,
    /// Ask for compressed answers. It saves bytes and costs the server more CPU than the query itself.
    #[serde(default)]
    pub gzip: bool,
    /// User name and password (RFC 7617).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// An `Authorization` header of another kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Further headers, such as `X-Scope-OrgID`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Certificates.
    #[serde(default)]
    pub tls_config: TlsConfig,
}

impl PrometheusConfig {
    pub(crate) fn files(&mut self) -> Vec<&mut PathBuf> {
        let certificates = self.tls_config.files();
        let passwords = self.basic_auth.as_mut().map(|auth| &mut auth.password_file);
        let credentials = self.authorization.as_mut().map(|auth| &mut auth.credentials_file);
        certificates.chain(passwords).chain(credentials).collect()
    }

    /// Passwords and tokens stand in files of their own; headers may be as secret.
    pub(crate) fn hide_secrets(&mut self) {
        for value in self.headers.values_mut() {
            "<hidden>".clone_into(value);
        }
    }

    /// Checks what concerns more than one field, or more than a field's type.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        let refused =
            |field: &str, message: &str| Err(Refusal::new(format!("store.prometheus.{field}"), message));
        match reqwest::Url::parse(&self.url) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => {}
            _ => return refused("url", "expected an address such as http://prometheus:9090"),
        }
        if self.url.trim_end_matches('/').ends_with("/api/v1") {
            return refused("url", "expected the address in front of /api/v1");
        }
        // The address stands in logs and in the API.
        if self.url.contains('@') {
            return refused("url", "expected an address without user and password: use basic_auth");
        }
        if let Some(matcher) = self.matchers.iter().find(|matcher| !is_matcher(matcher)) {
            return refused(
                "matchers",
                &format!("expected matchers such as job=\"ebb-runner\", got {matcher}"),
            );
        }
        const TAKEN: [&str; 5] = ["__name__", "module", "digest", "replica", "instance"];
        let is_taken = |label: &str| TAKEN.contains(&label.strip_prefix("exported_").unwrap_or(label));
        for (place, label) in self.identity.iter().enumerate() {
            if !is_label_name(label) || is_taken(label) || self.identity[..place].contains(label) {
                let message =
                    format!("expected names of further labels such as host, each once, got {label:?}");
                return refused("identity", &message);
            }
        }
        for (name, value) in &self.headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return refused(
                    "headers",
                    &format!("expected names and values of HTTP headers, got {name:?}"),
                );
            }
        }
        if self.basic_auth.is_some() && self.authorization.is_some() {
            return refused("authorization", "expected at most one of basic_auth and authorization");
        }
        if let Some(message) = self.tls_config.refusal() {
            return refused("tls_config", message);
        }
        Ok(())
    }
}

/// An `Authorization` header.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Authorization {
    /// The scheme.
    #[serde(rename = "type", default = "bearer")]
    pub kind: String,
    /// File with the credentials; read at each request, so that they can be changed.
    pub credentials_file: PathBuf,
}

fn bearer() -> String {
    "Bearer".to_owned()
}

/// What a label matcher looks like, for JSON schemas.
const MATCHER_FORM: &str =
    r#"^\s*[A-Za-z_][A-Za-z0-9_]*\s*(=|!=|=~|!~)\s*("([^"\\\n]|\\.)*"|'([^'\\\n]|\\.)*')\s*$"#;

/// Whether text is one label matcher as PromQL reads it: a label, an operator, a quoted value. More than one would be
/// another question than remote read asks, which takes them one by one.
pub(super) fn is_matcher(text: &str) -> bool {
    let Some((label, rest)) = text.find(['=', '!']).map(|at| text.split_at(at)) else { return false };
    let value = ["=~", "!~", "!=", "="].iter().find_map(|operator| rest.strip_prefix(operator));
    is_label_name(trim(label)) && value.is_some_and(|value| is_quoted(trim(value)))
}

/// Without the white space that PromQL passes over.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// Whether text is one quoted text, from the first quote to the last, with escapes that PromQL knows.
fn is_quoted(text: &str) -> bool {
    let mut chars = text.chars();
    let Some(quote @ ('"' | '\'')) = chars.next() else { return false };
    loop {
        match chars.next() {
            None | Some('\n') => return false,
            Some('\\') => {
                let escaped = |char: char| char == quote || "abfnrtvxuU01234567\\".contains(char);
                if !chars.next().is_some_and(escaped) {
                    return false;
                }
            }
            Some(char) if char == quote => return chars.as_str().is_empty(),
            Some(_) => {}
        }
    }
}

const fn default_timeout() -> Span {
    Span::secs(10)
}

const fn default_bootstrap_timeout() -> Span {
    Span::secs(300)
}

#[cfg(test)]
mod tests {
    use super::is_matcher;

    #[test]
    fn a_matcher_is_one_label_one_operator_and_one_quoted_value() {
        let check = |text: &str, expected: bool| assert_eq!(is_matcher(text), expected, "{text}");
        for text in
            [r#"job="ebb""#, "job = 'e\"b'", r#"_a!~"a\"b|\d""#.replace(r"\d", r"\\d").as_str(), "zone!=\"\""]
        {
            check(text, true);
        }
        // Two matchers, or the end of the selector and another one behind it.
        for text in [r#"job="ebb",env="test""#, r#"job="ebb"} or {job="other""#, r#"job="a"b""#] {
            check(text, false);
        }
        // What PromQL refuses: every tick would be.
        for text in [
            "0job=\"ebb\"",
            "job=\"e\nbb\"",
            r#"job="\d""#,
            r#"job="ebb\""#,
            "job=\"ebb'",
            "=\"ebb\"",
            "job=\"",
        ] {
            check(text, false);
        }
    }
}
