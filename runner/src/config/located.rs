//! Checks whose refusals point at the offending value itself.
//!
//! serde_yaml gives an error the place of the value whose visitor raised it. A check that runs after
//! deserialization would therefore blame the section around; these run it inside the visitor.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        self,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

/// A scalar (text, a number or a truth value), checked by `check` as it is written: `1.10` stays `1.10`.
pub(super) fn scalar<'de, D, T>(
    deserializer: D,
    expected: &'static str,
    check: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct Visitor<F, T>(&'static str, F, PhantomData<T>);

    impl<F: Fn(&str) -> Result<T, String>, T> de::Visitor<'_> for Visitor<F, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Visitor(expected, check, PhantomData))
}

/// A mapping of the shape of `Raw`, checked by `Raw → T`.
pub(super) fn mapping<'de, Raw, T, D>(deserializer: D) -> Result<T, D::Error>
where
    Raw: Deserialize<'de>,
    T: TryFrom<Raw, Error = String>,
    D: Deserializer<'de>,
{
    struct Visitor<Raw, T>(PhantomData<(Raw, T)>);

    impl<'de, Raw: Deserialize<'de>, T: TryFrom<Raw, Error = String>> de::Visitor<'de> for Visitor<Raw, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            Raw::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(de::Error::custom)
        }
    }

    deserializer.deserialize_map(Visitor(PhantomData))
}

/// A sequence, checked as a whole by `check`.
pub(super) fn sequence<'de, T, D>(
    deserializer: D,
    check: impl Fn(&[T]) -> Result<(), String>,
) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Visitor<F, T>(F, PhantomData<T>);

    impl<'de, F: Fn(&[T]) -> Result<(), String>, T: Deserialize<'de>> de::Visitor<'de> for Visitor<F, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, [] for an empty one")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, sequence: A) -> Result<Vec<T>, A::Error> {
            let items = Vec::<T>::deserialize(SeqAccessDeserializer::new(sequence))?;
            (self.0)(&items).map_err(de::Error::custom)?;
            Ok(items)
        }
    }

    // Not `deserialize_seq`, for which nothing at all is an empty list.
    deserializer.deserialize_any(Visitor(check, PhantomData))
}
