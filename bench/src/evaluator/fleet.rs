//! PURE: a fleet that never was: what each runner's scrape would tell, scrape by scrape, by a seed.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// What a runner tells of each instance.
pub(crate) const MEMORY_METRIC: &str = "wasm_linear_memory_bytes";
pub(crate) const START_TIME_METRIC: &str = "wasm_instance_start_time_seconds";

/// Time between two scrapes of a runner, in milliseconds.
pub(crate) const SCRAPE_INTERVAL_MILLIS: i64 = 10_000;

/// Number of runners. Their scrapes are spread over the interval, as Prometheus spreads them.
pub(crate) const RUNNERS: i64 = 4;

const PAGE_BYTES: u64 = 65_536;

/// How instances of a module behave.
struct Module {
    /// Its instances, of every ten of the fleet.
    share: u64,
    name: &'static str,
    digest: &'static str,
    fresh_pages: u64,
    /// Mean time from one growth to the next.
    growth_every_seconds: f64,
    growth_pages_max: u64,
    /// Where an instance has what it needs and grows no more; a leak has no such point.
    pages_needed: u64,
    lifetime_hours_mean: f64,
}

const MODULES: [Module; 4] = [
    Module {
        share: 3,
        name: "cache",
        digest: "9c1f04a7be23",
        fresh_pages: 64,
        growth_every_seconds: 600.0,
        growth_pages_max: 32,
        pages_needed: 512,
        lifetime_hours_mean: 20.0,
    },
    Module {
        share: 1,
        name: "leaky",
        digest: "2fd4e1c67a2d",
        fresh_pages: 18,
        growth_every_seconds: 300.0,
        growth_pages_max: 8,
        pages_needed: u64::MAX,
        lifetime_hours_mean: 8.0,
    },
    Module {
        share: 3,
        name: "steady",
        digest: "e5b0c44298fc",
        fresh_pages: 160,
        growth_every_seconds: 1200.0,
        growth_pages_max: 2,
        pages_needed: 164,
        lifetime_hours_mean: 30.0,
    },
    Module {
        share: 3,
        name: "worker",
        digest: "77d5a1c3f09e",
        fresh_pages: 32,
        growth_every_seconds: 900.0,
        growth_pages_max: 16,
        pages_needed: 160,
        lifetime_hours_mean: 14.0,
    },
];

/// All instances of the fleet, at one moment each.
pub(crate) struct Fleet {
    pub(crate) slots: Vec<Slot>,
}

/// One replica's place on a runner and what lives there.
pub(crate) struct Slot {
    pub(crate) runner: i64,
    replica: u64,
    module: &'static Module,
    random: StdRng,
    started_at: i64,
    ends_at: i64,
    grows_at: i64,
    pages: u64,
}

/// What a scrape tells of a slot, as the two gauges' values.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) memory_bytes: f64,
    pub(crate) start_time_seconds: f64,
}

/// Time of a runner's `scrape`-th scrape since the epoch, in Unix milliseconds.
pub(crate) const fn scraped_at(scrape: i64, runner: i64) -> i64 {
    scrape * SCRAPE_INTERVAL_MILLIS + runner * (SCRAPE_INTERVAL_MILLIS / RUNNERS)
}

impl Fleet {
    /// `instances` instances that live since before `at` (Unix milliseconds).
    pub(crate) fn new(instances: usize, at: i64, seed: u64) -> Self {
        let slots = (0..instances as u64).map(|number| Slot::new(number, at, seed));
        Self { slots: slots.collect() }
    }
}

impl Slot {
    fn new(number: u64, at: i64, seed: u64) -> Self {
        // Modules are dealt out within each ten, and tens to the runners.
        let mut place = number % 10;
        let mut module = &MODULES[0];
        for candidate in &MODULES {
            module = candidate;
            if place < candidate.share {
                break;
            }
            place -= candidate.share;
        }
        let ten = number / 10;
        let runners = RUNNERS.unsigned_abs();
        let mut slot = Self {
            runner: (ten % runners).cast_signed(),
            replica: ten / runners * module.share + place,
            module,
            random: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number)),
            started_at: 0,
            ends_at: 0,
            grows_at: 0,
            pages: 0,
        };
        slot.start(at - 60_000);
        slot
    }

    /// Labels of gauge `name`, in order of their names.
    pub(crate) fn labels(&self, name: &str) -> Vec<(&'static str, String)> {
        vec![
            ("__name__", name.to_owned()),
            ("digest", self.module.digest.to_owned()),
            ("instance", format!("127.0.0.1:{}", 9742 + self.runner)),
            ("job", "ebb-runner".to_owned()),
            ("module", self.module.name.to_owned()),
            ("replica", self.replica.to_string()),
        ]
    }

    /// What a scrape at `at` tells; `at` never goes back.
    pub(crate) fn read(&mut self, at: i64) -> Reading {
        while self.ends_at <= at {
            self.start(self.ends_at);
        }
        while self.grows_at <= at {
            let grown = self.pages + self.random.random_range(1..=self.module.growth_pages_max);
            self.pages = grown.min(self.module.pages_needed).max(self.pages);
            self.grows_at += self.waiting_millis(self.module.growth_every_seconds);
        }
        Reading {
            memory_bytes: (self.pages * PAGE_BYTES) as f64,
            start_time_seconds: self.started_at as f64 / 1000.0,
        }
    }

    fn start(&mut self, at: i64) {
        self.started_at = at;
        self.pages = self.module.fresh_pages + self.random.random_range(0..=self.module.fresh_pages / 8);
        self.ends_at = at + self.waiting_millis(self.module.lifetime_hours_mean * 3600.0);
        self.grows_at = at + self.waiting_millis(self.module.growth_every_seconds);
    }

    /// An exponentially distributed time: what happens at random does not remember when it last happened.
    fn waiting_millis(&mut self, mean_seconds: f64) -> i64 {
        let uniform = 1.0 - self.random.random::<f64>();
        1 + (-uniform.ln() * mean_seconds * 1000.0) as i64
    }
}
