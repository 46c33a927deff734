//! A lifetime's turns: on its kind's threads for as long as it rests in time, among other busy ones while it
//! does not.
//!
//! A guest gives way at an epoch tick, when it has run for half a tick at least; a turn is thus at most one and a
//! half ticks long. Did busy guests take their turns among the others, everybody's every turn would come behind one
//! of each of theirs. So a guest that used up a turn goes on among the busy ones ([`Places::busy`]), and comes back
//! when it has rested in time for ten seconds.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::UpdateDeadline;

use super::end::Ended;

/// How long a guest rests in time before it is taken for one that does. A request a second that computes for long is
/// busy; who computed for long once is not for ever.
const PROBATION: Duration = Duration::from_secs(10);

/// Where a lifetime takes its turns.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    /// The threads of its kind.
    pub home: &'a Handle,
    /// The threads of those that do not rest in time.
    pub busy: &'a Handle,
    /// Where its host calls wait.
    pub host_calls: &'a Handle,
}

/// A lifetime that is running. Whoever holds the lock may poll it; nothing is left once it ended.
pub(super) type Life = Option<Pin<Box<dyn Future<Output = Ended> + Send>>>;

/// The turn that a guest is taking.
#[derive(Debug)]
pub(super) struct Turn {
    epoch: Instant,
    /// When it began, in nanoseconds since `epoch`.
    begun: AtomicU64,
    used_up: AtomicBool,
    /// How long it is at least.
    least: Duration,
}

impl Turn {
    /// `tick`: the engine's epoch tick.
    pub(super) fn new(tick: Duration) -> Self {
        Self {
            epoch: Instant::now(),
            begun: AtomicU64::new(0),
            used_up: AtomicBool::new(false),
            least: tick / 2,
        }
    }

    fn begin(&self) {
        self.begun.store(self.nanos(), Ordering::Relaxed);
        self.used_up.store(false, Ordering::Relaxed);
    }

    /// What a guest does that finds, while it runs, that the epoch has advanced. It has also if the guest rested
    /// meanwhile; then its turn has only begun.
    pub(super) fn at_tick(&self) -> UpdateDeadline {
        let ran = Duration::from_nanos(self.nanos().saturating_sub(self.begun.load(Ordering::Relaxed)));
        if ran < self.least {
            return UpdateDeadline::Continue(1);
        }
        self.used_up.store(true, Ordering::Relaxed);
        UpdateDeadline::Yield(1)
    }

    fn was_used_up(&self) -> bool {
        self.used_up.load(Ordering::Relaxed)
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Runs `life` to its end, wherever its turns belong. `None`: somebody else has seen its end.
pub(super) async fn run(life: Arc<Mutex<Life>>, turn: Arc<Turn>, busy: Handle) -> Option<Ended> {
    loop {
        if let Step::Ended(ended) = poll_fn(|context| at_home(&life, &turn, context)).await {
            return ended;
        }
        let among_busy = {
            let (life, turn) = (Arc::clone(&life), Arc::clone(&turn));
            let mut last_used_up = Instant::now();
            poll_fn(move |context| among_busy(&life, &turn, &mut last_used_up, context))
        };
        match AbortOnDropHandle::new(busy.spawn(among_busy)).await {
            Ok(Step::Ended(ended)) => return ended,
            Ok(Step::Moves) => {}
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The threads are going, and everything with them.
                Err(_) => return std::future::pending().await,
            },
        }
    }
}

enum Step {
    Ended(Option<Ended>),
    Moves,
}

fn at_home(life: &Mutex<Life>, turn: &Turn, context: &mut Context<'_>) -> Poll<Step> {
    match take_turn(life, turn, context) {
        Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
        Poll::Pending if turn.was_used_up() => Poll::Ready(Step::Moves),
        Poll::Pending => Poll::Pending,
    }
}

fn among_busy(
    life: &Mutex<Life>,
    turn: &Turn,
    last_used_up: &mut Instant,
    context: &mut Context<'_>,
) -> Poll<Step> {
    match take_turn(life, turn, context) {
        Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
        Poll::Pending if turn.was_used_up() => {
            *last_used_up = Instant::now();
            Poll::Pending
        }
        Poll::Pending if last_used_up.elapsed() > PROBATION => Poll::Ready(Step::Moves),
        Poll::Pending => Poll::Pending,
    }
}

fn take_turn(life: &Mutex<Life>, turn: &Turn, context: &mut Context<'_>) -> Poll<Option<Ended>> {
    let mut life =
        life.lock().expect("a panic of another thread that polled this lifetime ends it here, too");
    turn.begin();
    poll_life(&mut life, context)
}

/// Polls a lifetime, on whichever thread asks. `None`: somebody else has seen its end.
pub(super) fn poll_life(life: &mut Life, context: &mut Context<'_>) -> Poll<Option<Ended>> {
    let Some(running) = life.as_mut() else { return Poll::Ready(None) };
    let ended = std::task::ready!(running.as_mut().poll(context));
    *life = None;
    Poll::Ready(Some(ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_that_ran_for_half_a_tick_gives_way() {
        let turn = Turn::new(Duration::from_secs(3600));
        turn.begin();
        assert!(matches!(turn.at_tick(), UpdateDeadline::Continue(1)));
        assert!(!turn.was_used_up());

        let turn = Turn::new(Duration::ZERO);
        turn.begin();
        assert!(matches!(turn.at_tick(), UpdateDeadline::Yield(1)));
        assert!(turn.was_used_up());
        turn.begin();
        assert!(!turn.was_used_up(), "a new turn");
    }
}
