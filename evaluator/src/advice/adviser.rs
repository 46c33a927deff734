//! Advice from what the evaluation remembers, for whoever looks: worked out in the background, and kept for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use ebb_core::replay::{Recording, advice::Advice};
use ebb_units::Millis;
use tokio::sync::{mpsc, oneshot};

use super::sweep::{SEEN_MIN, advise};
use crate::config::Config;

/// Asks the evaluation what it remembers, which it tells between two ticks.
pub(crate) type RecordRequest = oneshot::Sender<Recording>;

/// For so long advice is good enough: it rests on days.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// While nothing was remembered yet.
const KEPT_FOR_AT_FIRST: Duration = Duration::from_secs(30);

/// What there is to say.
#[derive(Clone, Debug)]
pub(crate) enum Advised {
    /// It is being worked out.
    Soon,
    /// Too little is remembered.
    Nothing,
    /// This.
    Advice(Arc<Advice>),
}

#[derive(Debug, Default)]
struct Kept {
    /// When it was worked out, by which config, and what.
    newest: Option<(Instant, Arc<Config>, Option<Arc<Advice>>)>,
    is_at_work: bool,
}

/// Works it out, and keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Adviser {
    record: mpsc::Sender<RecordRequest>,
    kept: Arc<Mutex<Kept>>,
}

impl Adviser {
    /// Asks the evaluation through `record`.
    pub(crate) fn new(record: mpsc::Sender<RecordRequest>) -> Self {
        Self { record, kept: Arc::default() }
    }

    /// What there is to say under `config`. What is old is said once more while it is worked out anew.
    pub(crate) fn advised(&self, config: &Arc<Config>) -> Advised {
        let mut kept = self.kept();
        let is_good = kept.newest.as_ref().is_some_and(|(at, by, advice)| {
            let for_how_long = if advice.is_some() { KEPT_FOR } else { KEPT_FOR_AT_FIRST };
            at.elapsed() < for_how_long && Arc::ptr_eq(by, config)
        });
        if !is_good && !kept.is_at_work {
            kept.is_at_work = true;
            tokio::spawn(self.clone().work(Arc::clone(config)));
        }
        match &kept.newest {
            Some((_, by, Some(advice))) if Arc::ptr_eq(by, config) => Advised::Advice(Arc::clone(advice)),
            Some((_, by, None)) if Arc::ptr_eq(by, config) => Advised::Nothing,
            _ => Advised::Soon,
        }
    }

    async fn work(self, config: Arc<Config>) {
        let (answer, answered) = oneshot::channel();
        let asked = self.record.send(answer).await;
        let recording = if asked.is_ok() { answered.await.ok() } else { None };
        let by = Arc::clone(&config);
        let (done, advice) = oneshot::channel();
        // One thread of its own: ticks go on meanwhile, and a stop does not wait for it.
        let work = move || {
            let advised = || {
                let recording = recording?;
                let (from, to) = (recording.first_at()?, Millis::from(SystemTime::now()));
                let is_enough = to.since(from) >= SEEN_MIN;
                is_enough.then(|| Arc::new(advise(&recording, &config, (from, to), None, None, 1)))
            };
            let _ = done.send(advised());
        };
        let started = thread::Builder::new().name("ebb-advice".to_owned()).spawn(work);
        let advice = if started.is_ok() { advice.await.ok().flatten() } else { None };
        let mut kept = self.kept();
        kept.is_at_work = false;
        kept.newest = Some((Instant::now(), by, advice));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
