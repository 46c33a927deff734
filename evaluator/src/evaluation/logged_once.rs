//! PURE: what was logged already, so that a fault that lasts is logged once rather than at every tick.

use std::collections::BTreeSet;

/// The faults of this tick and of the one before. No more are remembered than there are.
#[derive(Debug, Default)]
pub(super) struct LoggedOnce {
    before: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl LoggedOnce {
    /// Notes that the fault called `key` is there in this tick; whether it was not there in the one before. What changes from
    /// tick to tick, an age say, must not be part of the key.
    pub(super) fn first_time(&mut self, key: String) -> bool {
        let is_new = !self.before.contains(&key);
        self.now.insert(key) && is_new
    }

    /// Ends a tick: a fault that was not there in it is new when it comes again. Whether the last fault is gone with it.
    pub(super) fn end_tick(&mut self) -> bool {
        let had_any = !self.before.is_empty();
        self.before = std::mem::take(&mut self.now);
        had_any && self.before.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_lasts_is_logged_once_and_again_when_it_comes_again() {
        let mut logged = LoggedOnce::default();
        for tick in 0..3 {
            assert_eq!(logged.first_time("down".to_owned()), tick == 0);
            assert_eq!(logged.first_time("slow".to_owned()), tick == 0);
            assert!(!logged.first_time("slow".to_owned()), "twice in a tick");
            assert!(!logged.end_tick());
        }
        assert!(!logged.first_time("slow".to_owned()) && !logged.end_tick());
        assert!(logged.first_time("down".to_owned()) && !logged.end_tick());
        assert!(logged.end_tick(), "nothing is left");
        assert!(!logged.end_tick(), "that was so before");
    }

    #[test]
    fn of_many_faults_each_is_logged_once_too() {
        let mut logged = LoggedOnce::default();
        let mut tick = || {
            let count = (0..10_000).filter(|number: &i32| logged.first_time(number.to_string())).count();
            logged.end_tick();
            count
        };
        assert_eq!((tick(), tick(), tick()), (10_000, 0, 0));
    }

    #[test]
    fn faults_that_are_gone_are_not_remembered() {
        let mut logged = LoggedOnce::default();
        for number in 0..1000 {
            assert!(logged.first_time(number.to_string()));
            logged.end_tick();
        }
        assert_eq!((logged.before.len(), logged.now.len()), (1, 0));
    }
}
