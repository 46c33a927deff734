//! PURE: what a replica is asked for over time, and how much memory its instances hold because of it.
//!
//! Growth is exogenous: the same demands come whatever a policy does, so that policies are compared on paired runs.
//! An instance that was started after a demand does not know of it. That is all a restart changes.

/// Time in ticks of the evaluator since the start of the simulation.
pub(crate) type Tick = u32;

/// What happens to a replica at one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Demand {
    /// When. The sample of this tick shows it.
    pub at: Tick,
    /// Bytes that are taken and never given back.
    pub leak: i64,
    /// Bytes that are needed at the same time and given back to the guest's allocator, so that the next such need
    /// is met from them.
    pub need: i64,
    /// Work that is done, for what an instance holds because of its own past; see [`Holds`].
    pub work: f64,
}

/// What an instance holds because of the work that it has done itself, whatever others did before it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Holds {
    /// Nothing.
    #[default]
    Nothing,
    /// A cache that fills up: after each `work` it lacks 1/e of what it lacked before of `bytes`.
    Cache { bytes: f64, work: f64 },
    /// Something that grows with the root of the work: `bytes` after 1.
    Root { bytes: f64 },
    /// Something that doubles with each `work`, from `bytes` on.
    Doubling { bytes: f64, work: f64 },
}

impl Holds {
    fn bytes(self, worked: f64) -> i64 {
        let bytes = match self {
            Self::Nothing => 0.0,
            Self::Cache { bytes, work } => bytes * -(-worked / work).exp_m1(),
            Self::Root { bytes } => bytes * worked.sqrt(),
            // A host would have ended it by then.
            Self::Doubling { bytes, work } => bytes * ((worked / work).min(12.0).exp2() - 1.0),
        };
        bytes.round() as i64
    }
}

/// Everything that is asked of one replica, in order of time, at most one demand a tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Trace {
    /// Memory of an instance that was asked for nothing, in bytes.
    pub base: i64,
    holds: Holds,
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
                    last.work += demand.work;
                }
                _ => merged.push(demand),
            }
        }
        Self { base, holds: Holds::Nothing, demands: merged }
    }

    /// The same, with instances that hold something because of their own past.
    pub(crate) fn holding(self, holds: Holds) -> Self {
        Self { holds, ..self }
    }

    /// Whether what an instance holds follows from the demands alone.
    pub(crate) fn is_exogenous(&self) -> bool {
        self.holds == Holds::Nothing
    }

    /// The demands, in order of time.
    pub(crate) fn demands(&self) -> &[Demand] {
        &self.demands
    }
}

/// One instance's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance {
    holds: Holds,
    worked: f64,
    leaked: i64,
    /// Linear memory in bytes. It never falls.
    pub bytes: i64,
}

impl Instance {
    /// An instance that was asked for nothing yet.
    pub(crate) const fn new(trace: &Trace) -> Self {
        Self { holds: trace.holds, worked: 0.0, leaked: trace.base, bytes: trace.base }
    }

    /// Meets a demand.
    pub(crate) fn meet(&mut self, demand: &Demand) {
        self.leaked += demand.leak;
        self.worked += demand.work;
        let held = self.leaked + self.holds.bytes(self.worked);
        self.bytes = self.bytes.max(held + demand.need);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_add_up_and_needs_leave_a_high_water_mark() {
        let demand = |at, leak, need| Demand { at, leak, need, work: 0.0 };
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
        let demand = |leak, need| Demand { at: 1, leak, need, work: 0.0 };
        let trace = Trace::new(0, vec![demand(10, 50), demand(30, 5)]);
        assert_eq!(trace.demands(), [Demand { at: 1, leak: 40, need: 20, work: 0.0 }]);
        let mut instance = Instance::new(&trace);
        instance.meet(&trace.demands()[0]);
        assert_eq!(instance.bytes, 60);
    }

    #[test]
    fn a_cache_fills_up_with_the_work_of_its_own_instance() {
        let demands = (1..100).map(|at| Demand { at, work: 1.0, ..Demand::default() }).collect();
        let trace = Trace::new(50, demands).holding(Holds::Cache { bytes: 1000.0, work: 10.0 });
        let mut instance = Instance::new(&trace);
        trace.demands()[..10].iter().for_each(|demand| instance.meet(demand));
        assert_eq!(instance.bytes, 50 + 632);
        trace.demands()[10..].iter().for_each(|demand| instance.meet(demand));
        assert_eq!(instance.bytes, 50 + 1000);
        assert_eq!(Instance::new(&trace).bytes, 50);
    }
}
