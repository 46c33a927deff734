use ebb_units::{ByteCount, Generation, SeriesId, Span};

use super::*;
use crate::{
    decide::{assessment::Assessment, pending::Eligibility},
    history::{Sample, Window},
    policy::{GuardRails, MaxAge, Pressure},
};

const MIB: u64 = 1 << 20;
const MINUTE: i64 = 60_000;
const BEGIN: i64 = 1_000_000 * MINUTE;
const END: Millis = Millis(BEGIN + 48 * 60 * MINUTE);

/// Two instances that were started two days ago with 2 MiB and grow by 1 MiB an hour: 50 MiB by now.
fn history() -> History {
    let mut history = History::default();
    let window = Window::ending_at(END, Elapsed(48 * 60 * MINUTE));
    let population = Population { module: "m".into(), digest: "d".into() };
    for replica in 0..2 {
        let slot = SlotId { population: population.clone(), runner: "r:1".into(), replica };
        let samples = (0..=48 * 60).map(|minute| Sample {
            at: Millis(BEGIN + minute * MINUTE),
            generation: Generation(BEGIN.unsigned_abs()),
            bytes: 2 * MIB + (minute.unsigned_abs() * MIB) / 60,
        });
        history.observe(&SeriesId::from(slot), window, samples);
    }
    history
}

struct Case {
    policy: Policy,
    max_bytes: Option<u64>,
    limit_mib: u64,
    available_mib: u64,
    obstacle: Option<Obstacle>,
}

const CASE: Case =
    Case { policy: Policy::None, max_bytes: None, limit_mib: 74, available_mib: 96, obstacle: None };

fn outlook(case: &Case) -> Outlook {
    let history = history();
    let guard_rails = GuardRails {
        min_age: Span::secs(60),
        min_lifetimes: 2,
        max_bytes: case.max_bytes.map(ByteCount),
        min_reclaim: ByteCount(MIB),
    };
    let rule = Rule { policy: case.policy, guard_rails };
    let (population, slots) = history.populations().next().unwrap();
    let growth = [(population.clone(), (GrowthTrend::of(slots.values()), Pace::of(slots.values())))].into();
    let limits = [(("r:1".into(), "m".into()), MemoryLimit { at: END, bytes: case.limit_mib * MIB })].into();
    let host = HostMemory { at: END, total_bytes: 1 << 30, available_bytes: case.available_mib * MIB };
    let hosts = [("r:1".into(), host)].into();
    let eligible = |_: &SlotId, _| Eligibility::Eligible;
    let stale_after = Elapsed::secs(300);
    let assessment = Assessment::new(&history, |_| &rule, &Hosts::default(), eligible, END, stale_after);
    let growing = Growing {
        history: &history,
        growth: &growth,
        limits: &limits,
        hosts: &hosts,
        restart_takes: Elapsed::secs(60),
    };
    growing.outlook(&assessment.instances, |_| &rule, |_| case.obstacle)
}

/// Hours to the limit and to the end of the host's memory, without restarts and with them, and what is in their way.
fn told(case: &Case) -> [(i64, Option<i64>, Option<Obstacle>); 2] {
    let outlook = outlook(case);
    assert_eq!(outlook.instances.len(), 2);
    let hours = |left: TimeLeft| (left.median.as_seconds() / 3600.0).round() as i64;
    [outlook.instances.values().next().unwrap(), outlook.hosts.values().next().unwrap()]
        .map(|found| (hours(found.without_restarts), found.with_restarts.map(hours), found.obstacle))
}

#[test]
fn without_a_size_of_restart_nothing_keeps_it_from_running_out() {
    let obstacle = Some(Obstacle::NoThreshold);
    assert_eq!(told(&CASE), [(24, Some(24), obstacle), (48, Some(48), obstacle)]);
}

#[test]
fn a_restart_below_the_limit_keeps_it_from_being_reached() {
    let case = Case { max_bytes: Some(60 * MIB), ..CASE };
    assert_eq!(told(&case), [(24, None, None), (48, None, None)]);
    let by_age = Case { policy: Policy::MaxAge(MaxAge { max_age: Span::secs(60 * 3600) }), ..CASE };
    assert_eq!(told(&by_age), [(24, None, None), (48, None, None)]);
}

#[test]
fn a_size_of_restart_above_the_limit_does_not_help() {
    let case = Case { max_bytes: Some(74 * MIB - 1), available_mib: 400, ..CASE };
    assert_eq!(told(&case), [(24, Some(24), Some(Obstacle::ThresholdAboveLimit)), (200, None, None)]);
}

#[test]
fn restarts_that_are_not_done_do_not_help() {
    for obstacle in [Obstacle::DryRun, Obstacle::NotAllowed, Obstacle::Held, Obstacle::Suspended] {
        let case = Case { max_bytes: Some(60 * MIB), obstacle: Some(obstacle), ..CASE };
        assert!(told(&case).iter().all(|(_, with, why)| with.is_some() && *why == Some(obstacle)));
    }
}

#[test]
fn a_policy_that_looks_at_the_host_keeps_it_from_running_out() {
    let policy = Policy::LargestFirst(Pressure { available_below: ByteCount(MIB) });
    let obstacle = Some(Obstacle::NoThreshold);
    assert_eq!(told(&Case { policy, ..CASE }), [(24, Some(24), obstacle), (48, None, None)]);
}

#[test]
fn a_host_that_is_too_small_for_what_instances_hold_runs_out_all_the_same() {
    // Restarted from 400 MiB down to 2: they hold 201 MiB each on average, 302 more than now.
    let case = Case { max_bytes: Some(400 * MIB), limit_mib: 4000, ..CASE };
    assert_eq!(told(&case)[1], (48, Some(48), Some(Obstacle::HostTooSmall)));
    let case = Case { available_mib: 302 + 600, ..case };
    assert_eq!(told(&case)[1].1, None);
}
