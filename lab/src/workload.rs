//! PURE: a seed → what a fleet is asked for. One seed reproduces everything.

use std::f64::consts::TAU;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp, Gamma, LogNormal, Pareto, Poisson};
use serde::Serialize;

use crate::{
    recording::{App, Recording},
    trace::{Demand, Holds, Tick, Trace},
};

/// How the instances of a fleet grow. One tick is a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Every replica leaks a random amount each minute, some much faster than others.
    Leaks,
    /// A request a minute needs a heavy-tailed amount of memory for a moment.
    HighWater,
    /// Three times a day, and at random, something large happens.
    Bursts,
    /// Nothing grows; replicas differ in what they hold from the start.
    NoGrowth,
    /// A quarter of the replicas each of the four above, in one module.
    Mixture,
    /// All replicas leak at the same slow rate.
    SlowLeak,
    /// All replicas leak at the same rate, so slowly that the lookback sees next to nothing of it: 10 KiB an hour.
    Leak10K,
    /// Likewise, 30 KiB an hour.
    Leak30K,
    /// Likewise, 100 KiB an hour.
    Leak100K,
    /// Leaks; half-way all of them become four times as fast.
    Shift,
    /// Leaks; half-way all of them become half as fast again.
    Faster,
    /// Leaks and heavy-tailed requests that follow day and night.
    Daily,
    /// Leaks of 8 MiB an hour in office hours.
    Office,
    /// Leaks of 30 MiB an hour in office hours.
    BusyOffice,
    /// As [`Workload::Office`] from Monday to Friday, the second Wednesday being a holiday.
    Weekly,
    /// A slow leak, and a batch at two in the morning that takes an hour and needs much.
    NightlyBatch,
    /// Leaks and requests as [`Workload::Daily`]'s; half-way summer time begins.
    SummerTime,
    /// A cache that fills up within minutes; it costs less than a restart.
    Cache,
    /// A cache that takes hours to fill up, and then costs less than a restart would save.
    SlowCache,
    /// A cache that costs more than a restart.
    LargeCache,
    /// [`Workload::Cache`] and a leak.
    LeakingCache,
    /// A small cache in office hours.
    OfficeCache,
    /// [`Workload::Cache`], every other replica; the others as [`Workload::Office`].
    CachesAndOffice,
    /// One route in ten thousand requests leaks, much at once.
    RareRoute,
    /// What grows with the root of the requests.
    Root,
    /// What doubles every six hours.
    Doubling,
    /// The storage service, as recorded: each minute is one of that hour of the recorded day, drawn at random.
    Storage,
    /// Likewise CPython, in an app that keeps what it is sent.
    Python,
    /// Likewise axum, in an app that keeps nothing.
    Axum,
    /// Leaks; on the fifth day, a crowd that asks twenty times as much comes for two hours.
    FlashCrowd,
}

impl Workload {
    /// All of them.
    pub(crate) const ALL: [Self; 30] = [
        Self::Leaks,
        Self::HighWater,
        Self::Bursts,
        Self::NoGrowth,
        Self::Mixture,
        Self::SlowLeak,
        Self::Leak10K,
        Self::Leak30K,
        Self::Leak100K,
        Self::Shift,
        Self::Faster,
        Self::Daily,
        Self::Office,
        Self::BusyOffice,
        Self::Weekly,
        Self::NightlyBatch,
        Self::SummerTime,
        Self::Cache,
        Self::SlowCache,
        Self::LargeCache,
        Self::LeakingCache,
        Self::OfficeCache,
        Self::CachesAndOffice,
        Self::RareRoute,
        Self::Root,
        Self::Doubling,
        Self::FlashCrowd,
        Self::Storage,
        Self::Python,
        Self::Axum,
    ];

    /// The workload's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Leaks => "leaks",
            Self::HighWater => "high_water",
            Self::Bursts => "bursts",
            Self::NoGrowth => "no_growth",
            Self::Mixture => "mixture",
            Self::SlowLeak => "slow_leak",
            Self::Leak10K => "leak_10k",
            Self::Leak30K => "leak_30k",
            Self::Leak100K => "leak_100k",
            Self::Shift => "shift",
            Self::Faster => "faster",
            Self::Daily => "daily",
            Self::Office => "office",
            Self::BusyOffice => "busy_office",
            Self::Weekly => "weekly",
            Self::NightlyBatch => "nightly_batch",
            Self::SummerTime => "summer_time",
            Self::Cache => "cache",
            Self::SlowCache => "slow_cache",
            Self::LargeCache => "large_cache",
            Self::LeakingCache => "leaking_cache",
            Self::OfficeCache => "office_cache",
            Self::CachesAndOffice => "caches_and_office",
            Self::RareRoute => "rare_route",
            Self::Root => "root",
            Self::Doubling => "doubling",
            Self::FlashCrowd => "flash_crowd",
            Self::Storage => App::Storage.name(),
            Self::Python => App::Python.name(),
            Self::Axum => App::Axum.name(),
        }
    }

    /// Whether policies are compared on it at equal memory. Where nothing grows there is nothing to compare, and the slowest
    /// leaks take months.
    pub(crate) const fn is_scored(self) -> bool {
        matches!(
            self,
            Self::Leaks
                | Self::HighWater
                | Self::Bursts
                | Self::Mixture
                | Self::SlowLeak
                | Self::Shift
                | Self::Daily
        )
    }

    /// What a fleet of `replicas` is asked for in `ticks` minutes.
    pub(crate) fn fleet(self, replicas: u32, ticks: Tick, seed: u64) -> Vec<Trace> {
        (0..replicas)
            .map(|replica| {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                // Streams of one seed are independent of each other, and of how many replicas there are.
                random.set_stream(u64::from(replica));
                let parts = [Self::Leaks, Self::HighWater, Self::Bursts, Self::NoGrowth];
                let kind = match self {
                    Self::Mixture => parts[replica as usize % parts.len()],
                    Self::CachesAndOffice if replica % 2 == 0 => Self::Cache,
                    Self::CachesAndOffice => Self::Office,
                    kind => kind,
                };
                Replica { random, ticks }.trace(kind)
            })
            .collect()
    }
}

const MIB: f64 = 1_048_576.0;
const MINUTES_PER_DAY: f64 = 1440.0;
const BASE_MIB: f64 = 2.0;
/// The load outside of office hours.
const NIGHT: f64 = 0.02;

/// The load from nine to five.
fn office(minute: f64) -> f64 {
    let hour = minute % MINUTES_PER_DAY / 60.0;
    if (9.0..17.0).contains(&hour) { 1.0 } else { NIGHT }
}

/// A replica whose demands are drawn.
struct Replica {
    random: ChaCha8Rng,
    ticks: Tick,
}

impl Replica {
    fn trace(&mut self, workload: Workload) -> Trace {
        let half = f64::from(self.ticks) / 2.0;
        let day = |minute: f64| 0.5 + 0.5 * (TAU * minute / MINUTES_PER_DAY).sin();
        let always = |_| 1.0;
        let mut base = BASE_MIB;
        let demands = match workload {
            Workload::Leaks => self.leaks(4.0, 0.7, always, always),
            Workload::HighWater => self.requests(always),
            Workload::Bursts => self.bursts(),
            Workload::NoGrowth => {
                base = self.random.random_range(1.0..4.0);
                Vec::new()
            }
            Workload::SlowLeak => self.leaks(1.0, 0.0, always, always),
            Workload::Leak10K => self.leaks(10.0 / 1024.0, 0.0, always, always),
            Workload::Leak30K => self.leaks(30.0 / 1024.0, 0.0, always, always),
            Workload::Leak100K => self.leaks(100.0 / 1024.0, 0.0, always, always),
            Workload::Shift => self.leaks(4.0, 0.7, |minute| if minute > half { 4.0 } else { 1.0 }, always),
            Workload::Faster => self.leaks(4.0, 0.7, |minute| if minute > half { 1.5 } else { 1.0 }, always),
            Workload::Daily => {
                let mut demands = self.leaks(8.0, 0.7, always, day);
                demands.extend(self.requests(day));
                demands
            }
            Workload::Office => self.leaks(8.0, 0.7, always, office),
            Workload::BusyOffice => self.leaks(30.0, 0.7, always, office),
            Workload::Weekly => self.leaks(8.0, 0.7, always, |minute| {
                let day = (minute / MINUTES_PER_DAY) as u32;
                let works = day % 7 < 5 && day != 9;
                if works { office(minute) } else { NIGHT }
            }),
            Workload::NightlyBatch => {
                let mut demands = self.leaks(1.0, 0.0, always, always);
                demands.extend(self.batches());
                demands
            }
            Workload::SummerTime => {
                let shifted = |minute: f64| day(if minute > half { minute + 60.0 } else { minute });
                let mut demands = self.leaks(8.0, 0.7, always, shifted);
                demands.extend(self.requests(shifted));
                demands
            }
            Workload::Cache
            | Workload::SlowCache
            | Workload::LargeCache
            | Workload::Root
            | Workload::Doubling => self.work(always),
            Workload::LeakingCache => {
                let mut demands = self.leaks(4.0, 0.7, always, always);
                demands.extend(self.work(always));
                demands
            }
            Workload::OfficeCache => self.work(office),
            Workload::RareRoute => {
                self.arrivals(1.0 / 1000.0, always, |random, _| (random.random_range(4.0..16.0), 0.0))
            }
            Workload::FlashCrowd => {
                let crowd =
                    |minute: f64| (5.5 * MINUTES_PER_DAY..5.5 * MINUTES_PER_DAY + 120.0).contains(&minute);
                self.leaks(4.0, 0.7, always, |minute| if crowd(minute) { 20.0 } else { 1.0 })
            }
            Workload::Storage => self.recorded(App::Storage, &mut base),
            Workload::Python => self.recorded(App::Python, &mut base),
            Workload::Axum => self.recorded(App::Axum, &mut base),
            Workload::Mixture | Workload::CachesAndOffice => {
                unreachable!("a replica of a mixture is of one of its parts")
            }
        };
        let cache = |mib: f64, work| Holds::Cache { bytes: mib * MIB, work };
        let holds = match workload {
            Workload::Cache | Workload::LeakingCache => cache(36.0, 10.0),
            Workload::OfficeCache => cache(12.0, 60.0),
            Workload::SlowCache => cache(36.0, 180.0),
            Workload::LargeCache => cache(256.0, 60.0),
            Workload::Root => Holds::Root { bytes: MIB },
            Workload::Doubling => Holds::Doubling { bytes: MIB / 4.0, work: 360.0 },
            _ => Holds::Nothing,
        };
        Trace::new(bytes(base), demands).holding(holds)
    }

    /// Days like the one that was recorded of `app`, from the `base` that it starts with.
    fn recorded(&mut self, app: App, base: &mut f64) -> Vec<Demand> {
        let recording = Recording::parse(app.recorded());
        *base = recording.base as f64 / MIB;
        (1..self.ticks).filter_map(|at| recording.draw(&mut self.random, at)).collect()
    }

    /// Each minute, as much work as requests come: ten on average are a minute's.
    fn work(&mut self, load: impl Fn(f64) -> f64) -> Vec<Demand> {
        const REQUESTS: f64 = 10.0;
        let requests = |random: &mut ChaCha8Rng, minute| {
            Poisson::new(REQUESTS * load(minute)).expect("a positive rate").sample(random)
        };
        (1..self.ticks)
            .map(|at| Demand {
                at,
                work: requests(&mut self.random, f64::from(at)) / REQUESTS,
                ..Demand::default()
            })
            .collect()
    }

    /// From two in the morning on, for an hour, a request a minute that needs 16 to 64 MiB.
    fn batches(&mut self) -> Vec<Demand> {
        let batch = |at: &Tick| (120..180).contains(&(at % 1440));
        (1..self.ticks)
            .filter(batch)
            .map(|at| Demand { at, need: bytes(self.random.random_range(16.0..64.0)), ..Demand::default() })
            .collect()
    }

    /// Ten requests a minute on average, each of which leaks (exponentially distributed): `mib_per_hour` together on
    /// average, times a factor of the replica's own (log-normal with deviation `spread`), times `scale` at that minute.
    fn leaks(
        &mut self,
        mib_per_hour: f64,
        spread: f64,
        scale: impl Fn(f64) -> f64,
        load: impl Fn(f64) -> f64,
    ) -> Vec<Demand> {
        const REQUESTS: f64 = 10.0;
        let own = LogNormal::new(0.0, spread).expect("a deviation").sample(&mut self.random);
        let mean = mib_per_hour * own / 60.0 / REQUESTS;
        let mut demands = Vec::new();
        for at in 1..self.ticks {
            let minute = f64::from(at);
            let rate = REQUESTS * load(minute);
            let requests = if rate > 0.0 {
                Poisson::new(rate).expect("a positive rate").sample(&mut self.random)
            } else {
                0.0
            };
            if requests > 0.0 {
                // The sum of so many exponentially distributed amounts.
                let sum = Gamma::new(requests, mean * scale(minute)).expect("positive shape and scale");
                demands.push(Demand { at, leak: bytes(sum.sample(&mut self.random)), ..Demand::default() });
            }
        }
        demands
    }

    /// Once a minute on average, a request that needs 100 KiB or more: half of all below 180 KiB, one in a thousand
    /// above 32 MiB, none above 256 MiB.
    fn requests(&mut self, load: impl Fn(f64) -> f64) -> Vec<Demand> {
        let size = Pareto::new(0.1_f64, 1.2).expect("positive scale and shape");
        self.arrivals(1.0, load, |random, _| (0.0, size.sample(random).min(256.0)))
    }

    /// Every eight hours on average, 16 to 64 MiB.
    fn bursts(&mut self) -> Vec<Demand> {
        self.arrivals(1.0 / 480.0, |_| 1.0, |random, _| (0.0, random.random_range(16.0..64.0)))
    }

    /// Poisson arrivals, `per_minute` times `load` at that minute (at most 1), each with (leak, need) in MiB.
    fn arrivals(
        &mut self,
        per_minute: f64,
        load: impl Fn(f64) -> f64,
        size: impl Fn(&mut ChaCha8Rng, f64) -> (f64, f64),
    ) -> Vec<Demand> {
        let pause = Exp::new(per_minute).expect("a positive rate");
        let mut demands = Vec::new();
        let mut minute = 0.0;
        loop {
            minute += pause.sample(&mut self.random);
            if minute >= f64::from(self.ticks) - 1.0 {
                return demands;
            }
            if self.random.random::<f64>() < load(minute) {
                let (leak, need) = size(&mut self.random, minute);
                demands.push(Demand {
                    at: tick_after(minute),
                    leak: bytes(leak),
                    need: bytes(need),
                    work: 0.0,
                });
            }
        }
    }
}

fn bytes(mib: f64) -> i64 {
    (mib * MIB).round() as i64
}

fn tick_after(minute: f64) -> Tick {
    minute as Tick + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_reproduces_everything_and_another_changes_it() {
        for workload in Workload::ALL {
            let fleet = workload.fleet(4, 2000, 7);
            assert_eq!(fleet, workload.fleet(4, 2000, 7));
            // One that never asks for anything is always the same.
            let asks = workload != Workload::Axum;
            assert_eq!(fleet != workload.fleet(4, 2000, 8), asks, "{workload:?}");
            assert_eq!(fleet[..2], workload.fleet(2, 2000, 7), "{workload:?}: replicas depend on each other");
        }
    }

    #[test]
    fn nothing_is_asked_for_before_the_start_or_after_the_end() {
        for workload in Workload::ALL {
            for trace in workload.fleet(4, 3000, 1) {
                assert!(trace.demands().iter().all(|demand| (1..3000).contains(&demand.at)), "{workload:?}");
                assert!(trace.demands().windows(2).all(|pair| pair[0].at < pair[1].at), "{workload:?}");
                let recorded = matches!(workload, Workload::Storage | Workload::Python);
                let grows = recorded || trace.base == bytes(BASE_MIB);
                assert_eq!(trace.demands().is_empty(), !grows, "{workload:?}");
            }
            if workload == Workload::Mixture {
                break;
            }
        }
    }

    #[test]
    fn leaks_have_the_rate_that_is_documented() {
        let leaked: i64 = Workload::SlowLeak
            .fleet(20, 10_080, 3)
            .iter()
            .flat_map(|trace| trace.demands().iter())
            .map(|demand| demand.leak)
            .sum();
        // 20 replicas, 168 hours, 1 MiB an hour.
        let expected = bytes(20.0 * 168.0);
        assert!((leaked - expected).abs() < expected / 50, "{leaked} {expected}");
    }
}
