//! Which policy is best? A simulator on the evaluator's own rules, an optimum that knows the future, and an experiment
//! on real instances.
//!
//! | module | subject |
//! | --- | --- |
//! | [`trace`], [`workload`] | PURE: a seed → what each replica is asked for, whatever a policy does |
//! | [`optimum`] | PURE: the fewest restarts and the least memory that anyone could do with |
//! | [`mod@reference`] | PURE: what could be reached if all but the future were known |
//! | [`simulate`] | a fleet in virtual time, evaluated by the evaluator's own code |
//! | [`contender`] | the policies that are compared, each as a sweep of its knob |
//! | [`score`] | PURE: sweeps → restarts over the optimum's at equal memory |
//! | [`study`] | all of it: workloads × seeds × contenders |
//! | [`live`] | the experiment on real instances |
//! | [`report`] | what was found → `scores.json`, tables, plots |

pub mod contender;
pub mod live;
pub mod optimum;
pub mod reference;
pub mod report;
pub mod score;
pub mod simulate;
pub mod study;
pub mod trace;
pub mod trickle;
pub mod workload;
