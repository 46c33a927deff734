//! What a slot does next. Pure: `(state, event, now) → (state, action)`; no clock, no Wasm, no I/O.
//!
//! ```text
//! Starting ──started──▶ Running ──ordered──▶ Restarting ──replaced──▶ Running
//!     │                    │                     └──replacement failed──▶ Running (the old one)
//!     └──start failed──┐   │ended
//!                      ▼   ▼
//!                     Backoff ──elapsed──▶ Starting            any ──stop──▶ Stopped
//! ```
//!
//! What fails over a request is started again at once. Whatever else ends by itself is started again, later
//! each time: the wait doubles from `backoff_min` up to
//! `backoff_max`, and falls back to `backoff_min` once a lifetime has lasted `reset_after`.

use std::time::Duration;

/// A point in time, as the time since some fixed start. Whoever calls chooses the start.
type Moment = Duration;

/// A slot with this many failures in a row is called a crash loop.
const CRASH_LOOP_FAILURES: u32 = 5;

/// How long to wait before starting again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The wait after the first failure.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A lifetime at least this long makes its end a first failure again.
    pub reset_after: Duration,
}

impl Default for BackoffPolicy {
    /// From half a second to half a minute; a minute is long.
    fn default() -> Self {
        let [min, max, reset_after] = [500, 30_000, 60_000].map(Duration::from_millis);
        Self { min, max, reset_after }
    }
}

/// Why a lifetime ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A trap, a non-zero exit code, or no start at all.
    Crash,
    /// Exit code 0.
    Exit,
}

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A new lifetime is being prepared; none is live.
    Starting {
        /// Lifetimes in a row that ended too soon.
        failures: u32,
    },
    /// A lifetime is live.
    Running {
        /// Since when.
        since: Moment,
        /// Lifetimes in a row that ended too soon before this one.
        failures: u32,
    },
    /// A lifetime is live and its replacement is being prepared.
    Restarting {
        /// Since when the live one is running.
        since: Moment,
        /// As in `Running`.
        failures: u32,
    },
    /// No lifetime is live; the next one starts at `until`.
    Backoff {
        /// When the next one starts.
        until: Moment,
        /// Lifetimes in a row that ended too soon.
        failures: u32,
        /// How the last one ended.
        cause: Cause,
    },
    /// The slot is closed for good.
    Stopped,
}

/// What happened to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lifetime being prepared is now live.
    Started,
    /// The lifetime being prepared could not be started.
    StartFailed,
    /// The live lifetime ended by itself.
    Ended(Cause),
    /// The live lifetime ended over a request that it was given. Waiting would not help: without requests
    /// the next one does not fail either.
    Failed(Cause),
    /// A restart was ordered.
    RestartOrdered,
    /// The replacement is live, its predecessor gone.
    Replaced,
    /// The replacement could not be started; the predecessor is still live.
    ReplacementFailed,
    /// The wait is over, or somebody asked to cut it short.
    BackoffElapsed,
    /// The slot shall close.
    StopOrdered,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing but wait for the next event.
    Watch,
    /// Start a lifetime; it is a restart for this cause.
    Start(Cause),
    /// Start a replacement, then end the live lifetime.
    Replace,
    /// Wait until then, and report [`Event::BackoffElapsed`].
    WaitUntil(Moment),
    /// End what is live and close the slot.
    Stop,
}

impl State {
    /// The state of a slot before its first lifetime.
    pub const NEW: Self = Self::Starting { failures: 0 };

    /// Lifetimes in a row that ended too soon.
    #[must_use]
    pub const fn failures(self) -> u32 {
        match self {
            Self::Starting { failures }
            | Self::Running { failures, .. }
            | Self::Restarting { failures, .. }
            | Self::Backoff { failures, .. } => failures,
            Self::Stopped => 0,
        }
    }

    /// The state as the API names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting { .. } => "starting",
            Self::Running { .. } => "running",
            Self::Restarting { .. } => "restarting",
            Self::Backoff { .. } => "backoff",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the slot fails again and again.
    #[must_use]
    pub const fn is_crash_loop(self) -> bool {
        self.failures() >= CRASH_LOOP_FAILURES
    }
}

/// The next state and what to do in it.
///
/// `jitter`: a random number in `[0, 1)`; it spreads the waits of slots that fail together over the upper
/// half of the wait. An event that cannot happen in `state` changes nothing.
#[must_use]
pub fn step(state: State, event: Event, now: Moment, jitter: f64, policy: &BackoffPolicy) -> (State, Action) {
    let back_off = |failures: u32, cause: Cause| {
        let until = now + backoff(failures, jitter, policy);
        (State::Backoff { until, failures, cause }, Action::WaitUntil(until))
    };
    match (state, event) {
        (State::Stopped, _) | (_, Event::StopOrdered) => (State::Stopped, Action::Stop),
        (State::Starting { failures }, Event::Started) => {
            (State::Running { since: now, failures }, Action::Watch)
        }
        (State::Starting { failures }, Event::StartFailed) => back_off(failures + 1, Cause::Crash),
        (State::Running { since, failures } | State::Restarting { since, failures }, Event::Ended(cause)) => {
            let lasted = now.saturating_sub(since);
            back_off(if lasted >= policy.reset_after { 1 } else { failures + 1 }, cause)
        }
        (
            State::Running { since, failures } | State::Restarting { since, failures },
            Event::Failed(cause),
        ) => {
            let lasted = now.saturating_sub(since);
            let failures = if lasted >= policy.reset_after { 0 } else { failures };
            (State::Starting { failures }, Action::Start(cause))
        }
        (State::Running { since, failures }, Event::RestartOrdered) => {
            (State::Restarting { since, failures }, Action::Replace)
        }
        (State::Restarting { failures, .. }, Event::Replaced) => {
            (State::Running { since: now, failures }, Action::Watch)
        }
        (State::Restarting { since, failures }, Event::ReplacementFailed) => {
            (State::Running { since, failures }, Action::Watch)
        }
        (State::Backoff { failures, cause, .. }, Event::BackoffElapsed) => {
            (State::Starting { failures }, Action::Start(cause))
        }
        (State::Backoff { until, .. }, _) => (state, Action::WaitUntil(until)),
        (_, _) => (state, Action::Watch),
    }
}

/// The wait after `failures` in a row: `min · 2^(failures − 1)`, at most `max`, of which the upper half is
/// scaled by `jitter`.
fn backoff(failures: u32, jitter: f64, policy: &BackoffPolicy) -> Duration {
    // 2^31 times any wait that a person would configure exceeds `max`, so a larger exponent says nothing.
    let doublings = failures.saturating_sub(1).min(31);
    let whole = policy.min.saturating_mul(1 << doublings).min(policy.max);
    whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BackoffPolicy = BackoffPolicy {
        min: Duration::from_millis(500),
        max: Duration::from_secs(30),
        reset_after: Duration::from_secs(60),
    };
    const T: Moment = Duration::from_secs(1000);
    /// With jitter 1 the waits are the round numbers of the policy.
    const FULL: f64 = 1.0;

    fn check(state: State, event: Event, expected: (State, Action)) {
        assert_eq!(step(state, event, T, FULL, &POLICY), expected, "{state:?} {event:?}");
    }

    fn running(since: Moment, failures: u32) -> State {
        State::Running { since, failures }
    }

    #[test]
    fn a_new_slot_runs_once_started() {
        check(State::NEW, Event::Started, (running(T, 0), Action::Watch));
    }

    #[test]
    fn a_start_that_fails_is_tried_again_after_a_wait() {
        let until = T + POLICY.min;
        check(
            State::NEW,
            Event::StartFailed,
            (State::Backoff { until, failures: 1, cause: Cause::Crash }, Action::WaitUntil(until)),
        );
    }

    #[test]
    fn an_exit_with_code_zero_is_started_again_as_an_exit() {
        let until = T + POLICY.min;
        let backoff = State::Backoff { until, failures: 1, cause: Cause::Exit };
        check(running(T, 0), Event::Ended(Cause::Exit), (backoff, Action::WaitUntil(until)));
        check(backoff, Event::BackoffElapsed, (State::Starting { failures: 1 }, Action::Start(Cause::Exit)));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        // 0.5 s · 2^(n−1): 0.5, 1, 2, 4, 8, 16, then 32 is cut to 30.
        for (failures, seconds) in [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (40, 30.0)] {
            assert_eq!(backoff(failures, FULL, &POLICY), Duration::from_secs_f64(seconds), "{failures}");
        }
        assert_eq!(backoff(u32::MAX, FULL, &POLICY), POLICY.max);
    }

    #[test]
    fn jitter_spreads_a_wait_over_its_upper_half() {
        assert_eq!(backoff(2, 0.0, &POLICY), Duration::from_millis(500));
        assert_eq!(backoff(2, 0.5, &POLICY), Duration::from_millis(750));
    }

    #[test]
    fn a_lifetime_that_lasted_makes_its_end_a_first_failure_again() {
        let until = T + POLICY.min;
        let lasted = running(T - POLICY.reset_after, 6);
        let backoff = State::Backoff { until, failures: 1, cause: Cause::Crash };
        check(lasted, Event::Ended(Cause::Crash), (backoff, Action::WaitUntil(until)));
    }

    #[test]
    fn a_lifetime_that_ended_soon_lengthens_the_wait() {
        let soon = running(T - Duration::from_secs(59), 2);
        let until = T + Duration::from_secs(2);
        let backoff = State::Backoff { until, failures: 3, cause: Cause::Crash };
        check(soon, Event::Ended(Cause::Crash), (backoff, Action::WaitUntil(until)));
    }

    #[test]
    fn five_failures_in_a_row_are_a_crash_loop() {
        let after = |failures| State::Backoff { until: T, failures, cause: Cause::Crash };
        assert!(!after(4).is_crash_loop());
        assert!(after(5).is_crash_loop());
    }

    #[test]
    fn an_ordered_restart_replaces_the_live_lifetime() {
        let restarting = State::Restarting { since: Duration::ZERO, failures: 3 };
        check(running(Duration::ZERO, 3), Event::RestartOrdered, (restarting, Action::Replace));
        check(restarting, Event::Replaced, (running(T, 3), Action::Watch));
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_lifetime_running() {
        let restarting = State::Restarting { since: Duration::ZERO, failures: 0 };
        check(restarting, Event::ReplacementFailed, (running(Duration::ZERO, 0), Action::Watch));
    }

    #[test]
    fn an_order_does_not_cut_a_wait_short() {
        let backoff = State::Backoff { until: T, failures: 1, cause: Cause::Crash };
        check(backoff, Event::RestartOrdered, (backoff, Action::WaitUntil(T)));
    }

    #[test]
    fn what_fails_over_a_request_starts_again_at_once() {
        for state in [running(T, 2), State::Restarting { since: T, failures: 2 }] {
            let starting = State::Starting { failures: 2 };
            check(state, Event::Failed(Cause::Crash), (starting, Action::Start(Cause::Crash)));
        }
    }

    #[test]
    fn what_fails_over_a_request_after_a_long_life_has_not_failed_before() {
        let starting = State::Starting { failures: 0 };
        let since = T - POLICY.reset_after;
        check(running(since, 7), Event::Failed(Cause::Crash), (starting, Action::Start(Cause::Crash)));
        let later = since + Duration::from_nanos(1);
        let starting = State::Starting { failures: 7 };
        check(running(later, 7), Event::Failed(Cause::Crash), (starting, Action::Start(Cause::Crash)));
    }

    #[test]
    fn a_stop_ends_every_state_and_nothing_leaves_it() {
        for state in [
            State::NEW,
            running(T, 0),
            State::Restarting { since: T, failures: 0 },
            State::Backoff { until: T, failures: 1, cause: Cause::Exit },
        ] {
            check(state, Event::StopOrdered, (State::Stopped, Action::Stop));
        }
        check(State::Stopped, Event::BackoffElapsed, (State::Stopped, Action::Stop));
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_lifetime_long() {
        let future = running(T + Duration::from_secs(500), 1);
        let until = T + Duration::from_secs(1);
        let backoff = State::Backoff { until, failures: 2, cause: Cause::Crash };
        check(future, Event::Ended(Cause::Crash), (backoff, Action::WaitUntil(until)));
    }
}
