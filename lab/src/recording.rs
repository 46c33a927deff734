//! PURE: what was recorded of a real app → what each minute of a day asks of an instance.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::trace::{Demand, Tick};

/// Of a day.
pub(crate) const MINUTES: u32 = 1440;

/// Of linear memory, in bytes.
pub(crate) const PAGE: i64 = 65_536;

/// An app that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    /// The storage service: it reads each file into memory before it writes it.
    Storage,
    /// CPython, in an app that keeps what it is sent.
    Python,
    /// A published example of axum, which keeps nothing.
    Axum,
}

impl App {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Storage, Self::Python, Self::Axum];

    /// The name of its file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Python => "python",
            Self::Axum => "axum",
        }
    }

    /// What was recorded of it.
    pub(crate) const fn recorded(self) -> &'static str {
        match self {
            Self::Storage => include_str!("../recorded/storage.csv"),
            Self::Python => include_str!("../recorded/python.csv"),
            Self::Axum => include_str!("../recorded/axum.csv"),
        }
    }
}

/// What was recorded of an app.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recording {
    /// What an instance starts with, in bytes.
    pub base: i64,
    /// Of each minute of a day.
    minutes: Vec<Demand>,
}

impl Recording {
    /// Reads a recording. What the instance that was never started anew holds beyond what a minute needs, it never gives back.
    pub(crate) fn parse(text: &str) -> Self {
        let (base, rows) = rows(text);
        let (mut leaked, mut held) = (base, base);
        let mut demand = |(need, kept): (i64, i64)| {
            let leak = (kept - held.max(leaked + need)).max(0);
            leaked += leak;
            held = kept;
            Demand { leak, need, ..Demand::default() }
        };
        Self { base, minutes: rows.into_iter().map(&mut demand).collect() }
    }

    /// What a minute like those of that hour asks for, drawn at random. None where that is nothing.
    pub(crate) fn draw(&self, random: &mut ChaCha8Rng, at: Tick) -> Option<Demand> {
        let hour = at % MINUTES / 60 * 60;
        let demand = self.minutes[(hour + random.random_range(0..60)) as usize];
        (demand != Demand::default()).then_some(Demand { at, ..demand })
    }
}

/// What an instance starts with, and after each minute what one started for it has grown by, and what one holds that never was.
fn rows(text: &str) -> (i64, Vec<(i64, i64)>) {
    let number = |text: &str| text.parse::<i64>().expect("a number") * PAGE;
    let mut rows = text.lines().skip(1).map(|line| {
        let (fresh, kept) = line.split_once(',').expect("two columns");
        (number(fresh), number(kept))
    });
    let (base, _) = rows.next().expect("a start");
    (base, rows.map(|(fresh, kept)| (fresh - base, kept)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Instance, Trace};

    /// What an instance holds after each minute that is never started anew.
    fn held(recording: &Recording) -> Vec<i64> {
        let mut instance = Instance::new(&Trace::new(recording.base, Vec::new()));
        let mut after = |demand: &Demand| {
            instance.meet(demand);
            instance.bytes
        };
        recording.minutes.iter().map(&mut after).collect()
    }

    #[test]
    fn an_instance_that_is_never_started_anew_holds_what_was_recorded() {
        for app in App::ALL {
            let (_, rows) = rows(app.recorded());
            assert_eq!(rows.len(), MINUTES as usize, "{app:?}");
            for (minute, (held, (_, kept))) in
                held(&Recording::parse(app.recorded())).into_iter().zip(&rows).enumerate()
            {
                assert!((held - kept).abs() * 10 <= *kept, "{app:?}, minute {minute}: {held} {kept}");
            }
        }
    }

    #[test]
    fn what_is_never_given_back_adds_up_and_what_is_needed_for_a_moment_does_not() {
        let leaks = Recording::parse("#\n10,10\n11,11\n12,13\n11,14\n");
        let leaked: Vec<_> = leaks.minutes.iter().map(|minute| minute.leak / PAGE).collect();
        assert_eq!((leaked, leaks.base / PAGE), (vec![0, 1, 1], 10));
        let needs = Recording::parse("#\n10,10\n11,11\n12,12\n11,12\n");
        assert!(needs.minutes.iter().all(|minute| minute.leak == 0), "{needs:?}");
    }
}
