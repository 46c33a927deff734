//! How many handles an instance holds: files, folders, sockets, bodies, header fields and whatever else of the host it
//! has a number for.
//!
//! Wasmtime keeps them in a table that only the guest's own thread can see, so they are counted when the guest calls the
//! host, before the call: the figure is as of the last call's beginning. The table's capacity is their limit.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use wasmtime::component::ResourceTable;

/// Handles that are counted at every call. Were there more, counting would cost more than most calls do; it is then done
/// at every second call, third, and so on.
const COUNTED_AT_ONCE: u32 = 512;

/// The handles of one instance.
#[derive(Debug, Default)]
pub(crate) struct Handles(AtomicU32);

impl Handles {
    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps [`Handles`].
#[derive(Debug, Default)]
pub(super) struct HandleCounter {
    handles: Arc<Handles>,
    /// Calls until the next count.
    calls_left: u32,
}

impl HandleCounter {
    pub(super) fn shared(&self) -> Arc<Handles> {
        Arc::clone(&self.handles)
    }

    /// Counts what is in `table`, unless it did so lately and that takes long.
    pub(super) fn count(&mut self, table: &mut ResourceTable) {
        if let Some(left) = self.calls_left.checked_sub(1) {
            self.calls_left = left;
            return;
        }
        let count = u32::try_from(table.iter_mut().count()).unwrap_or(u32::MAX);
        self.handles.0.store(count, Ordering::Relaxed);
        self.calls_left = count / COUNTED_AT_ONCE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_what_is_closed_is_not() {
        let (mut table, mut counter) = (ResourceTable::new(), HandleCounter::default());
        let handles = counter.shared();
        let mut held: Vec<_> = (0..COUNTED_AT_ONCE).map(|n| table.push(n).unwrap()).collect();
        counter.count(&mut table);
        assert_eq!(handles.count(), COUNTED_AT_ONCE);
        table.delete(held.pop().unwrap()).unwrap();
        counter.count(&mut table);
        assert_eq!(handles.count(), COUNTED_AT_ONCE, "of many, not at every call");
        counter.count(&mut table);
        assert_eq!(handles.count(), COUNTED_AT_ONCE - 1);
    }
}
