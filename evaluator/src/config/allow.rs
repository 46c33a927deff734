//! `runners.allow:` → which addresses restarts may be ordered from.
//!
//! The address of an order comes out of a series' label, so whoever can write a series could point the
//! evaluator, and its token, anywhere. Only what the operator lists is spoken to.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Addresses that restarts may be ordered from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<AllowedRunner>")]
pub(crate) struct AllowList(Vec<AllowedRunner>);

/// Runners by host and port: `runner:9742`, `*.example.org:9742`, `10.0.0.0/8:9742`, `[::1]:9742`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct AllowedRunner {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    /// `*` in front of the rest of a name.
    Below(String),
    Network(IpNet),
}

impl JsonSchema for AllowList {
    fn schema_name() -> Cow<'static, str> {
        "AllowList".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": generator.subschema_for::<AllowedRunner>(),
            "minItems": 1,
        })
    }
}

impl JsonSchema for AllowedRunner {
    fn schema_name() -> Cow<'static, str> {
        "AllowedRunner".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Runners by host and port; *.example.org and networks such as 10.0.0.0/8 mean many.",
            "type": "string",
            "pattern": r"^(\*?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|\[?[0-9A-Fa-f:.]+/[0-9]{1,3}\]?):[0-9]{1,5}$",
            "examples": ["runner:9742", "*.example.org:9742", "10.0.0.0/8:9742", "[::1]:9742"],
        })
    }
}

impl TryFrom<Vec<AllowedRunner>> for AllowList {
    type Error = &'static str;

    fn try_from(allowed: Vec<AllowedRunner>) -> Result<Self, Self::Error> {
        if allowed.is_empty() {
            return Err("expected at least one address; to restart nothing, set dry_run: true");
        }
        Ok(Self(allowed))
    }
}

impl AllowList {
    /// Exactly these addresses.
    ///
    /// # Errors
    /// Names the first that is no `host:port`.
    pub(crate) fn exactly(addresses: &[String]) -> Result<Self, String> {
        addresses.iter().map(|address| address.parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing is allowed.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The addresses that are listed one by one.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = String> {
        let single = self.0.iter().filter(|allowed| matches!(allowed.host, Host::Name(_)));
        single.map(ToString::to_string)
    }

    /// Whether restarts may be ordered from the runner at `address`, `host:port`.
    pub(crate) fn allows(&self, address: &str) -> bool {
        let Some((host, port)) = split(address) else { return false };
        self.0.iter().any(|allowed| allowed.port == port && allowed.host.matches(host))
    }
}

impl Host {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Name(name) => name.eq_ignore_ascii_case(host),
            Self::Below(rest) => {
                host.len() > rest.len()
                    && host.is_char_boundary(host.len() - rest.len())
                    && host[host.len() - rest.len()..].eq_ignore_ascii_case(rest)
            }
            Self::Network(network) => host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address)),
        }
    }
}

/// `host:port` → the host, without the brackets of an IPv6 address, and the port. `None` when it is
/// anything else: a host with characters that would change the meaning of a URL is no host.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| host.contains(':'))?,
        None => Some(host).filter(|host| !host.contains(':'))?,
    };
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    // In one form: another would be a runner of its own.
    let number: u16 = port.parse().ok()?;
    let port = (number.to_string() == port).then_some(number)?;
    (!host.is_empty() && host.bytes().all(sane)).then_some((host, port))
}

impl FromStr for AllowedRunner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || {
            format!(
                "{text:?} names no runners: expected HOST:PORT, such as runner:9742, *.example.org:9742, \
                 10.0.0.0/8:9742 or [::1]:9742"
            )
        };
        if let Some((network, port)) = text.rsplit_once(':').filter(|(network, _)| network.contains('/')) {
            let network =
                network.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| refused())?;
            return Ok(Self { host: Host::Network(network), port: port.parse().map_err(|_| refused())? });
        }
        let (below, address) = match text.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = split(address).ok_or_else(refused)?;
        let host = host.to_owned();
        Ok(Self { host: if below { Host::Below(host) } else { Host::Name(host) }, port })
    }
}

impl TryFrom<String> for AllowedRunner {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AllowedRunner> for String {
    fn from(allowed: AllowedRunner) -> Self {
        allowed.to_string()
    }
}

impl fmt::Display for AllowedRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Below(rest) => write!(f, "*{rest}:{}", self.port),
            Host::Network(network) => write!(f, "{network}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &str, address: &str, expected: bool) {
        let list = AllowList::exactly(&[allowed.to_owned()]).unwrap();
        assert_eq!(list.allows(address), expected, "{allowed} allows {address}");
    }

    #[test]
    fn only_listed_addresses_are_allowed() {
        check("runner:9742", "runner:9742", true);
        check("runner:9742", "RUNNER:9742", true);
        check("runner:9742", "runner:9743", false);
        check("runner:9742", "runner2:9742", false);
        check("[::1]:9742", "[::1]:9742", true);
        check("[::1]:9742", "[::2]:9742", false);
    }

    #[test]
    fn names_are_allowed_by_their_end_and_addresses_by_their_network() {
        check("*.example.org:9742", "a.example.org:9742", true);
        check("*.example.org:9742", ".example.org:9742", false);
        check("*.example.org:9742", "a.example.org.evil.net:9742", false);
        check("10.0.0.0/8:9742", "10.1.2.3:9742", true);
        check("10.0.0.0/8:9742", "11.1.2.3:9742", false);
        check("10.0.0.0/8:9742", "10.evil.net:9742", false);
        check("fd00::/8:9742", "[fd12::1]:9742", true);
    }

    #[test]
    fn an_address_that_would_mean_another_url_is_refused() {
        for address in
            ["runner:9742/x", "runner:9742@evil", "evil#runner:9742", "a@runner:9742", "runner", ":9742", ""]
        {
            check("*:9742".replace('*', "runner").as_str(), address, false);
            check("*r:9742", address, false);
        }
    }

    #[test]
    fn what_names_no_runners_is_refused_with_examples() {
        for text in ["runner", "runner:x", "http://runner:9742", "10.0.0.0/99:9742", "*"] {
            assert!(text.parse::<AllowedRunner>().unwrap_err().contains("expected HOST:PORT"), "{text}");
        }
    }
}
