//! PURE: what a replica is asked for over time, and how much memory its instances hold because of it.
//!
//! Growth is exogenous: the same demands come whatever a policy does, so that policies are compared on paired runs.
//! An instance that was started after a demand does not know of it. That is all a restart changes.

/// Time in ticks of the evaluator since the start of the simulation.
pub(crate) type Tick = u32;

/// What happens to a replica at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// When. The sample of this tick shows it.
    pub at: Tick,
    /// Bytes that are taken and never given back.
    pub leak: i64,
    /// Bytes that are needed at the same time and given back to the guest's allocator, so that the next such need
    /// is met from them.
    pub need: i64,
}

/// Everything that is asked of one replica, in order of time, at most one demand a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Memory of an instance that was asked for nothing, in bytes.
    pub base: i64,
    demands: Vec<Demand>,
}

impl Trace {
    /// The trace of `demands`, in any order.
    pub(crate) fn new(base: i64, mut demands: Vec<Demand>) -> Self {
        demands.sort_by_key(|demand| demand.at);
        let mut merged: Vec<Demand> = Vec::with_capacity(demands.len());
        for demand in demands {
            match merged.last_mut() {
                // What came first needed its memory before the second one's leak.
                Some(last) if last.at == demand.at => {
                    last.need = (last.need - demand.leak).max(demand.need);
                    last.leak += demand.leak;
                }
                _ => merged.push(demand),
            }
        }
        Self { base, demands: merged }
    }

    /// The demands, in order of time.
    pub(crate) fn demands(&self) -> &[Demand] {
        &self.demands
    }
}

/// One instance's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance {
    leaked: i64,
    /// Linear memory in bytes. It never falls.
    pub bytes: i64,
}

impl Instance {
    /// An instance that was asked for nothing yet.
    pub(crate) const fn new(trace: &Trace) -> Self {
        Self { leaked: trace.base, bytes: trace.base }
    }

    /// Meets a demand.
    pub(crate) fn meet(&mut self, demand: &Demand) {
        self.leaked += demand.leak;
        self.bytes = self.bytes.max(self.leaked + demand.need);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_add_up_and_needs_leave_a_high_water_mark() {
        let demand = |at, leak, need| Demand { at, leak, need };
        let trace =
            Trace::new(100, vec![demand(3, 0, 50), demand(1, 10, 0), demand(2, 0, 70), demand(4, 40, 0)]);
        let mut instance = Instance::new(&trace);
        let sizes: Vec<_> = trace
            .demands()
            .iter()
            .map(|demand| {
                instance.meet(demand);
                instance.bytes
            })
            .collect();
        assert_eq!(sizes, [110, 180, 180, 180]);
    }

    #[test]
    fn demands_of_one_tick_are_met_one_after_another() {
        let demand = |leak, need| Demand { at: 1, leak, need };
        let trace = Trace::new(0, vec![demand(10, 50), demand(30, 5)]);
        assert_eq!(trace.demands(), [Demand { at: 1, leak: 40, need: 20 }]);
        let mut instance = Instance::new(&trace);
        instance.meet(&trace.demands()[0]);
        assert_eq!(instance.bytes, 60);
    }
}
