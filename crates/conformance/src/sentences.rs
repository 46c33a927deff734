//! The sentences of `docs/host-protocol.md` that can be seen from outside, in its order.

use std::fmt;

use serde::{Serialize, Serializer};

/// How much a sentence asks for, as RFC 2119 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Without it, the evaluator does not work with the host, or does harm.
    Must,
    /// Without it, something is lost.
    Should,
}

/// A sentence of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// Its number in `docs/host-protocol.md`.
    pub number: Number,
    /// How much it asks for.
    pub level: Level,
    /// What it says, in short.
    pub title: &'static str,
}

macro_rules! sentences {
    ($($number:ident $level:ident $title:literal)*) => {
        /// The number of a sentence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Number {
            $(#[doc = $title] $number),*
        }

        /// All of them.
        pub const SENTENCES: &[Sentence] =
            &[$(Sentence { number: Number::$number, level: Level::$level, title: $title }),*];
    };
}

sentences! {
    H1 Must "answers come in HTTP/1.0 or 1.1"
    H2 Must "no answer is a redirect"
    H3 Should "answers carry Date"
    H4 Should "answers come within 5 seconds"
    E1 Must "GET /metrics answers in text format 0.0.4"
    E2 Must "the text begins with a comment"
    E3 Must "the text is valid"
    E4 Must "the text has at most 64 MiB"
    E5 Must "a line has at most 64 KiB"
    E7 Must "OpenMetrics is valid where it is served"
    E8 Must "both formats have the same series"
    E9 Should "samples have no timestamps"
    M1 Must "wasm_linear_memory_bytes is exported"
    M2 Must "wasm_instance_start_time_seconds is exported"
    M3 Should "both are declared as gauges"
    M4 Must "both have the labels module, digest and replica"
    M5 Must "both have the same labels for the same instance"
    M6 Must "a module's name is safe in a path"
    M7 Must "a digest is 1 to 64 hexadecimal digits"
    M8 Should "a digest is 12 lowercase digits"
    M11 Must "a replica is a decimal number"
    M12 Must "a module and a replica name one instance"
    M13 Must "no label has a name that Prometheus gives"
    M14 Should "there are no further labels"
    M16 Must "memory is a whole number of bytes"
    O1 Should "optional metrics have their types and labels"
    O2 Should "the host's memory is told by both gauges"
    G1 Must "a start time is that of a generation"
    G2 Must "a generation is the time of the start"
    G3 Must "a start time is its generation / 1000, to the millisecond"
    G4 Must "generations of a slot increase"
    G8 Must "memory and start time are of one lifetime"
    G9 Must "the memory of a generation does not fall"
    G10 Must "a generation that was replaced does not come back"
    G11 Must "the memory of a new generation begins anew"
    L1 Should "GET /api/v1/instances answers with a list"
    L2 Should "its elements name slots, generations and memory"
    L3 Should "it says the same as /metrics"
    R3 Must "each reason is accepted"
    R4 Must "an order without a body is understood"
    R5 Must "the live generation is restarted: 200 or 202"
    R6 Must "the answer has new_generation, reclaimed_bytes and duration_seconds"
    R7 Should "the answer has module, replica and old_generation"
    R8 Must "the answer has at most 64 KiB"
    R9 Must "reclaimed_bytes is not less than what was reclaimed, unless 0"
    R10 Must "the first scrape after the answer shows the new generation"
    R11 Must "another generation is refused: 412"
    R12 Must "any 64-bit number is a generation"
    R13 Must "a generation is restarted once: of several orders, one is done"
    R14 Must "the others are refused: 409, 412 or 429"
    R15 Must "a refused order changes nothing"
    R16 Must "a malformed If-Match is refused: 400"
    R17 Should "a malformed body or an unknown reason is refused: 400"
    R18 Must "an unknown module or replica is refused: 404"
    R21 Should "429 carries Retry-After"
    R22 Must "503 leaves the old instance where it is"
    R23 Should "a refusal is {\"error\": \"…\"}"
    R24 Must "only POST restarts"
    A2 Must "without the token nothing is restarted: 401 or 403"
    A3 Should "no token: 401"
    A4 Should "wrong token: 403"
    A5 Must "without the token nothing is said about what exists"
    A6 Should "`bearer` may be written in any case"
    A7 Must "GET /metrics needs no token"
    A8 Must "a token that nobody asked for is ignored"
    A9 Should "an order with an Origin header is refused: 403"
}

impl Number {
    /// The sentence of this number.
    #[must_use]
    pub const fn sentence(self) -> &'static Sentence {
        &SENTENCES[self as usize]
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = include_str!("../../../docs/host-protocol.md");

    /// Number, text, and whether it is checked, of each row `| M1 | A host MUST … | yes |`.
    fn rows() -> Vec<(&'static str, &'static str, bool)> {
        let is_number = |cell: &str| {
            let digits = cell.trim_start_matches(|char: char| char.is_ascii_uppercase());
            digits.len() + 1 == cell.len() && digits.parse::<u32>().is_ok()
        };
        let cells = PROTOCOL.lines().filter_map(|line| {
            let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
            let (number, rest) = line.split_once(" | ")?;
            let (text, seen) = rest.rsplit_once(" | ")?;
            is_number(number).then_some((number, text, seen))
        });
        cells
            .map(|(number, text, seen)| {
                assert!(["yes", "no"].contains(&seen), "{number}: {seen}");
                (number, text, seen == "yes")
            })
            .collect()
    }

    #[test]
    fn what_the_protocol_says_is_seen_from_outside_is_checked_and_nothing_else() {
        let seen: Vec<_> = rows().iter().filter(|row| row.2).map(|row| row.0.to_owned()).collect();
        let checked: Vec<_> = SENTENCES.iter().map(|sentence| sentence.number.to_string()).collect();
        assert_eq!(seen, checked);
    }

    #[test]
    fn every_sentence_asks_for_as_much_as_the_protocol_does() {
        let rows = rows();
        for sentence in SENTENCES {
            let number = sentence.number.to_string();
            let (_, text, _) = rows.iter().find(|row| row.0 == number).unwrap();
            let word = if text.contains("MUST") { Level::Must } else { Level::Should };
            assert_eq!(word, sentence.level, "{number}: {text}");
            assert!(text.contains("MUST") || text.contains("SHOULD"), "{number}: {text}");
        }
    }

    #[test]
    fn numbers_of_a_group_are_consecutive() {
        let mut last = ("", 0);
        for (number, ..) in rows() {
            let (group, count) = (&number[..1], number[1..].parse::<u32>().unwrap());
            let expected = if group == last.0 { last.1 + 1 } else { 1 };
            assert_eq!(count, expected, "{number}");
            last = (group, count);
        }
    }

    #[test]
    fn a_number_leads_to_its_sentence() {
        for sentence in SENTENCES {
            assert_eq!(sentence.number.sentence(), sentence);
        }
    }
}
