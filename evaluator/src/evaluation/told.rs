//! PURE: what was logged already, so that a fault that lasts is said once rather than at every tick.

use std::collections::BTreeSet;

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeSet<String>);

impl Told {
    /// Whether `text` was not said yet. Of what was said the newest hundred or so are remembered.
    pub(super) fn is_new(&mut self, text: &str) -> bool {
        const TEXTS_MAX: usize = 100;
        if self.0.contains(text) {
            return false;
        }
        if self.0.len() == TEXTS_MAX {
            self.0.clear();
        }
        self.0.insert(text.to_owned())
    }

    /// All of it may be said again; whether anything was said.
    pub(super) fn forget(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_said_once_until_it_is_forgotten() {
        let mut told = Told::default();
        assert!(!told.forget());
        assert!(told.is_new("down") && told.is_new("slow") && !told.is_new("down") && !told.is_new("slow"));
        assert!(told.forget() && !told.forget());
        assert!(told.is_new("down"));
    }

    #[test]
    fn texts_without_end_do_not_fill_the_memory() {
        let mut told = Told::default();
        for number in 0..100_000 {
            assert!(told.is_new(&number.to_string()));
        }
        assert!(told.0.len() <= 100);
    }
}
