//! Scrapes one after another, as fast as they come: what no single one shows.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    client::Client,
    metrics::judge_pairs,
    readings::{Reading, Readings, Slot},
    report::{Findings, Mismatch},
    sentences::Number,
};

/// Between two scrapes.
const PAUSE: Duration = Duration::from_millis(5);

/// Time for that.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Scrapes at the same time: what is wrong for a moment only is seen by one of them.
const WATCHERS: usize = 4;

/// Scrapes in the background.
pub(crate) struct Watch {
    stop: watch::Sender<bool>,
    watchers: JoinSet<Watcher>,
}

impl Watch {
    pub(crate) fn start(client: &Client) -> Self {
        let (stop, stopped) = watch::channel(false);
        let watchers = (0..WATCHERS).map(|_| run(client.clone(), stopped.clone())).collect();
        Self { stop, watchers }
    }

    /// Ends it after a last look at what came of the last order, and judges what it saw.
    pub(crate) async fn judge(self, findings: &mut Findings) {
        tokio::time::sleep(LAST_LOOK).await;
        self.stop.send_replace(true);
        for watcher in self.watchers.join_all().await {
            watcher.judge(findings);
        }
    }
}

async fn run(client: Client, stopped: watch::Receiver<bool>) -> Watcher {
    let mut watcher = Watcher::default();
    while !*stopped.borrow() {
        // The client notes it if one fails.
        if let Ok((_, readings)) = client.scrape().await {
            watcher.observe(readings);
        }
        tokio::time::sleep(PAUSE).await;
    }
    watcher
}

/// What a slot has shown.
struct Seen {
    last: Reading,
    /// The generation took over while this looked, and was read once.
    has_just_begun: bool,
    /// The last reading fell, from this one; whether the next one is of another generation decides what was wrong.
    fell_from: Option<Reading>,
}

/// PURE: scrapes in their order → what is wrong with them.
#[derive(Default)]
struct Watcher {
    slots: BTreeMap<Slot, Seen>,
    scrapes: usize,
    restarts: usize,
    torn: Option<Mismatch>,
    fell: Option<Mismatch>,
    came_back: Option<Mismatch>,
    unpaired: Option<Readings>,
}

impl Watcher {
    fn observe(&mut self, readings: Readings) {
        self.scrapes += 1;
        for (slot, new) in &readings.slots {
            match self.slots.get_mut(slot) {
                Some(seen) => {
                    let mut seen = std::mem::replace(seen, Seen::first(new));
                    self.follow(slot, &mut seen, new);
                    self.slots.insert(slot.clone(), seen);
                }
                None => drop(self.slots.insert(slot.clone(), Seen::first(new))),
            }
        }
        if !(readings.unpaired.is_empty() && readings.doubled.is_empty()) {
            self.unpaired = Some(readings);
        }
    }

    fn follow(&mut self, slot: &Slot, seen: &mut Seen, new: &Reading) {
        let mismatch =
            |expected: String, from: &Reading| Mismatch::new(expected, format!("{slot}: {from}, then {new}"));
        let last = std::mem::replace(&mut seen.last, new.clone());
        if new.generation != last.generation {
            self.restarts += 1;
            if new.generation < last.generation {
                let expected = format!("none before {}", last.generation);
                self.came_back = Some(mismatch(expected, &last));
            }
            if let Some(from) = seen.fell_from.take() {
                // Its last reading was of the next one's memory.
                self.torn = Some(mismatch("memory and start time to change at once".to_owned(), &from));
            }
            seen.has_just_begun = true;
            return;
        }
        if let Some(from) = seen.fell_from.take() {
            self.fell = Some(mismatch(format!("at least {} bytes", from.memory_bytes), &from));
        }
        if new.memory_bytes < last.memory_bytes {
            if seen.has_just_begun {
                // Its first reading was of the memory before.
                self.torn = Some(mismatch("memory and start time to change at once".to_owned(), &last));
            } else {
                seen.fell_from = Some(last);
            }
        }
        seen.has_just_begun = false;
    }

    fn judge(self, findings: &mut Findings) {
        let fell = self.fell.or_else(|| {
            let (slot, seen) = self.slots.iter().find(|(_, seen)| seen.fell_from.is_some())?;
            let from = seen.fell_from.as_ref()?;
            let expected = format!("at least {} bytes", from.memory_bytes);
            Some(Mismatch::new(expected, format!("{slot}: {from}, then {}", seen.last)))
        });
        if self.scrapes == 0 {
            return;
        }
        findings.judge(Number::G9, fell.map_or(Ok(()), Err));
        findings.judge(Number::G10, self.came_back.map_or(Ok(()), Err));
        if self.restarts == 0 && self.torn.is_none() {
            findings.not_applicable(Number::G8, "no restart was seen");
        } else {
            findings.judge(Number::G8, self.torn.map_or(Ok(()), Err));
        }
        if let Some(readings) = self.unpaired {
            judge_pairs(&readings, findings);
        }
    }
}

impl Seen {
    fn first(reading: &Reading) -> Self {
        Self { last: reading.clone(), has_just_begun: false, fell_from: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Generations and sizes of one slot, scrape by scrape → the numbers of what failed.
    #[track_caller]
    fn check(scrapes: &[(u64, u64)], expected: &[&str]) {
        let mut watcher = Watcher::default();
        for (generation, memory_bytes) in scrapes {
            let reading =
                Reading { digest: "d".into(), generation: *generation, memory_bytes: *memory_bytes };
            let slots = [(Slot { module: "m".into(), replica: 0 }, reading)].into();
            watcher.observe(Readings { slots, ..Readings::default() });
        }
        let mut findings = Findings::default();
        watcher.judge(&mut findings);
        let report = findings.report("h:1", None, "not looked at");
        let failed: Vec<_> = report.failures().map(|line| line.sentence.number.to_string()).collect();
        assert_eq!(failed, expected, "{scrapes:?}");
    }

    #[test]
    fn what_changes_and_what_falls_is_seen() {
        check(&[(1, 5), (1, 5), (1, 7), (2, 3), (2, 4)], &[]);
        check(&[(1, 5), (1, 4), (1, 4)], &["G9"]);
        check(&[(1, 5), (1, 4)], &["G9"]);
        check(&[(1, 5), (2, 3), (1, 5)], &["G10"]);
        // The start time changed before the memory did, and after it.
        check(&[(1, 5), (2, 5), (2, 3)], &["G8"]);
        check(&[(1, 5), (1, 3), (2, 3)], &["G8"]);
    }
}
