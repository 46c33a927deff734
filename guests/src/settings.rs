//! Environment variables → checked settings. An invalid value stops the guest at once with exit code 2.
//!
//! A guest that ran on with a default in place of a misspelt number would make an experiment lie.

use crate::random::SplitMix64;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::process::exit;
use std::str::FromStr;

/// One rejected environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    name: String,
    value: Option<String>,
    expected: String,
}

impl Display for InvalidSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, value, expected } = self;
        match value {
            Some(value) => write!(f, "invalid {name}={value:?}: expected {expected}"),
            None => write!(f, "{name} is not set: expected {expected}"),
        }
    }
}

/// Where settings come from: the process' environment, or a table in tests.
pub struct Settings<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// The largest size a 32-bit linear memory can have, in bytes; larger settings could never be met.
const ADDRESS_SPACE_BYTES: u64 = 1 << 32;

impl Settings<'_> {
    /// A size in bytes, written as a plain integer.
    ///
    /// # Errors
    /// [`InvalidSetting`] for anything else, and above what a 32-bit memory can hold.
    pub fn bytes(&self, name: &str, default: u64) -> Result<u64, InvalidSetting> {
        let accepted = |bytes: &u64| *bytes <= ADDRESS_SPACE_BYTES;
        self.parsed(name, default, "a whole number of bytes, at most 4294967296 (4 GiB)", accepted)
    }

    /// The same, and not below `min`.
    ///
    /// # Errors
    /// [`InvalidSetting`] as for [`Settings::bytes`], and below `min`, for the default too.
    pub fn bytes_from(&self, name: &str, min: u64, default: u64) -> Result<u64, InvalidSetting> {
        let bytes = self.bytes(name, default)?;
        if bytes < min {
            return Err(InvalidSetting {
                name: name.to_owned(),
                value: Some(bytes.to_string()),
                expected: format!("at least {min} bytes, which this guest has at its start"),
            });
        }
        Ok(bytes)
    }

    /// A duration in milliseconds, written as a plain integer.
    ///
    /// # Errors
    /// [`InvalidSetting`] for anything else.
    pub fn milliseconds(&self, name: &str, default: u64) -> Result<u64, InvalidSetting> {
        self.parsed(name, default, "a whole number of milliseconds", |_| true)
    }

    /// A probability, 0 to 1, ends included.
    ///
    /// # Errors
    /// [`InvalidSetting`] outside that range.
    pub fn probability(&self, name: &str, default: f64) -> Result<f64, InvalidSetting> {
        self.parsed(name, default, "a probability from 0 to 1", |p| (0.0..=1.0).contains(p))
    }

    /// Two settings of one kind as a range, ends included.
    ///
    /// `one`: reads each end, such as [`Settings::bytes`].
    ///
    /// # Errors
    /// [`InvalidSetting`] when an end is invalid, or the first end is above the second.
    pub fn range(
        &self,
        one: fn(&Self, &str, u64) -> Result<u64, InvalidSetting>,
        (min_name, max_name): (&str, &str),
        default: RangeInclusive<u64>,
    ) -> Result<RangeInclusive<u64>, InvalidSetting> {
        let min = one(self, min_name, *default.start())?;
        let max = one(self, max_name, *default.end())?;
        if min > max {
            return Err(InvalidSetting {
                name: min_name.to_owned(),
                value: Some(min.to_string()),
                expected: format!("at most {max_name}, which is {max}"),
            });
        }
        Ok(min..=max)
    }

    /// The guest's random source: `SEED` (0) and the replica the runner names, so that replicas differ.
    ///
    /// With `SEED_PER_START=1` the start time goes in too, so that every life of a replica differs.
    ///
    /// # Errors
    /// [`InvalidSetting`] when one of these variables is invalid, or the start time is needed and missing.
    pub fn random(&self) -> Result<SplitMix64, InvalidSetting> {
        let seed = self.parsed("SEED", 0, "a whole number", |_: &u64| true)?;
        let replica = self.replica()?;
        let per_start = self.parsed("SEED_PER_START", 0, "0 or 1", |flag: &u8| *flag <= 1)?;
        let mut path = vec![u64::from(replica)];
        if per_start == 1 {
            path.push(self.required("EBB_GENERATION", "the start time in Unix milliseconds")?);
        }
        Ok(SplitMix64::derived(seed, &path))
    }

    /// The number of the replica that this is, as the runner names it.
    ///
    /// # Errors
    /// [`InvalidSetting`] when it is no number.
    pub fn replica(&self) -> Result<u32, InvalidSetting> {
        self.parsed("EBB_REPLICA", 0, "a replica's number", |_: &u32| true)
    }

    fn parsed<T: FromStr>(
        &self,
        name: &str,
        default: T,
        expected: &str,
        accepted: impl Fn(&T) -> bool,
    ) -> Result<T, InvalidSetting> {
        let Some(value) = (self.lookup)(name) else {
            return Ok(default);
        };
        let parsed = value.parse().ok().filter(accepted);
        parsed.ok_or_else(|| InvalidSetting {
            name: name.to_owned(),
            value: Some(value),
            expected: expected.to_owned(),
        })
    }

    fn required(&self, name: &str, expected: &str) -> Result<u64, InvalidSetting> {
        if (self.lookup)(name).is_none() {
            return Err(InvalidSetting { name: name.to_owned(), value: None, expected: expected.to_owned() });
        }
        self.parsed(name, 0, expected, |_| true)
    }
}

/// Reads a guest's settings from the environment, or ends the guest: message on stderr, exit code 2.
///
/// WASI 0.2 hands the host success or failure only, so hosts commonly show 1 for any code but 0.
pub fn from_environment<T>(read: fn(&Settings<'_>) -> Result<T, InvalidSetting>) -> T {
    // A value that is not Unicode counts as present, so that it is rejected rather than ignored.
    let lookup = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    read(&Settings { lookup: &lookup }).unwrap_or_else(|invalid| {
        eprintln!("{invalid}");
        exit(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads with `variables` as the whole environment; an error comes back as its message.
    fn read<T>(
        variables: &[(&str, &str)],
        read: impl Fn(&Settings<'_>) -> Result<T, InvalidSetting>,
    ) -> Result<T, String> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        read(&Settings { lookup: &lookup }).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn an_absent_variable_takes_its_default() {
        assert_eq!(read(&[], |s| s.bytes("START_BYTES", 5)), Ok(5));
    }

    #[test]
    fn sizes_are_plain_bytes_up_to_the_address_space() {
        let bytes = |value| read(&[("B", value)], |s| s.bytes("B", 0));
        assert_eq!(bytes("65536"), Ok(65_536));
        assert_eq!(bytes("4294967296"), Ok(1 << 32));
        for rejected in ["", "64KiB", "-1", "1.5", " 1", "4294967297"] {
            let expected = "expected a whole number of bytes, at most 4294967296 (4 GiB)";
            assert_eq!(bytes(rejected), Err(format!("invalid B={rejected:?}: {expected}")));
        }
    }

    #[test]
    fn a_size_below_its_minimum_is_rejected() {
        let bytes = |value| read(&[("B", value)], |s| s.bytes_from("B", 100, 200));
        assert_eq!(bytes("100"), Ok(100));
        let message = "invalid B=\"99\": expected at least 100 bytes, which this guest has at its start";
        assert_eq!(bytes("99"), Err(message.to_owned()));
    }

    #[test]
    fn probabilities_lie_between_zero_and_one() {
        let probability = |value| read(&[("P", value)], |s| s.probability("P", 0.5));
        assert_eq!(probability("0"), Ok(0.0));
        assert_eq!(probability("1"), Ok(1.0));
        for rejected in ["1.01", "-0.1", "NaN", "often"] {
            let message = format!("invalid P={rejected:?}: expected a probability from 0 to 1");
            assert_eq!(probability(rejected), Err(message));
        }
    }

    #[test]
    fn a_range_that_descends_names_both_ends() {
        let range = |variables: &[_]| read(variables, |s| s.range(Settings::bytes, ("MIN", "MAX"), 1..=9));
        assert_eq!(range(&[("MIN", "9")]), Ok(9..=9));
        assert_eq!(
            range(&[("MIN", "10")]),
            Err("invalid MIN=\"10\": expected at most MAX, which is 9".to_owned()),
        );
    }

    #[test]
    fn replicas_differ_and_lives_of_one_replica_differ_only_on_request() {
        let first = |variables: &[_]| read(variables, |s| s.random().map(|mut random| random.next_u64()));
        let plain = first(&[]).expect("every variable has a default");
        assert_eq!(first(&[("EBB_REPLICA", "0"), ("EBB_GENERATION", "17")]), Ok(plain));
        assert_ne!(first(&[("EBB_REPLICA", "1")]), Ok(plain));
        assert_ne!(first(&[("SEED", "1")]), Ok(plain));
        assert_ne!(first(&[("SEED_PER_START", "1"), ("EBB_GENERATION", "17")]), Ok(plain));
    }

    #[test]
    fn a_seed_per_start_needs_the_start_time() {
        assert_eq!(
            read(&[("SEED_PER_START", "1")], |s| s.random().map(drop)),
            Err("EBB_GENERATION is not set: expected the start time in Unix milliseconds".to_owned()),
        );
        assert_eq!(
            read(&[("SEED_PER_START", "yes")], |s| s.random().map(drop)),
            Err("invalid SEED_PER_START=\"yes\": expected 0 or 1".to_owned()),
        );
    }
}
