//! Keeps a slot alive for a host that gives one async function: it makes an instance, and dropping what it returns ends that
//! instance.
//!
//! Where a restart is ordered, the next instance is made first, then takes the slot over, then the old one is dropped. Where it
//! cannot be made, the old one stays. An instance that ends by itself is followed by another one, later each time
//! ([`lifecycle`]).

use std::{
    any::Any,
    fmt::Display,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ebb_units::{ByteCount, Generation, Replica};
use futures::FutureExt as _;
use tokio::sync::oneshot;

use crate::{
    chance::chance,
    instances::Module,
    lifecycle::{self, Action, BackoffPolicy, Cause, Event, State},
    meter::Meter,
    restart::{Refusal, RestartOrder, Restarted},
    slot::{Command, Live, Slot, Version},
};
#[cfg(feature = "wasmtime")]
use {crate::limiter::Limiter, ebb_units::Digest};

/// How long whoever ordered a restart waits for what was replaced to be gone. After that, the answer says that it drains.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// An instance that is to be made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Next {
    /// The slot that it is for.
    pub replica: Replica,
    /// Its name among the instances of that slot: its start, in Unix milliseconds.
    pub generation: Generation,
    /// What it holds. To be kept for as long as its memory is there: by that, a restart is seen to be done.
    pub meter: Arc<Meter>,
    /// Says that it ended by itself. To be kept for as long as it lives: dropped, it says that the instance crashed.
    pub ending: Ending,
    memory_limit: ByteCount,
    module: Arc<Module>,
    #[cfg(feature = "wasmtime")]
    digest: Digest,
    #[cfg(feature = "wasmtime")]
    ready: Arc<AtomicBool>,
}

impl Next {
    /// What it may hold.
    #[must_use]
    pub const fn memory_limit(&self) -> ByteCount {
        self.memory_limit
    }

    /// Counts a request of it for memory that was denied or failed. The limiter does so by itself.
    pub fn count_grow_failure(&self) {
        self.module.grow_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A limiter for its store, which keeps its meter.
    #[cfg(feature = "wasmtime")]
    #[must_use]
    pub fn limiter(&self) -> Limiter {
        Limiter::new(self.memory_limit)
            .keeping(Arc::clone(&self.meter))
            .counting(Arc::clone(&self.module.grow_failures))
    }

    /// The same, which profiles its growth as well: see [`Limiter::profiling`] for what the store must do.
    #[cfg(feature = "wasmtime")]
    #[must_use]
    pub fn profiling_limiter(&self, engine: &wasmtime::Engine) -> Limiter {
        self.limiter().profiling(engine, self.module.growth_of(&self.digest), Arc::clone(&self.ready))
    }
}

/// Says that an instance ended by itself.
#[derive(Debug)]
pub struct Ending(oneshot::Sender<(Event, String)>);

impl Ending {
    /// It left as it should.
    pub fn exited(self) {
        // Whoever is replaced meanwhile is not waited for.
        let _ = self.0.send((Event::Ended(Cause::Exit), "exited".to_owned()));
    }

    /// It trapped, or could not go on.
    pub fn crashed(self, why: impl Display) {
        let _ = self.0.send((Event::Ended(Cause::Crash), why.to_string()));
    }

    /// It trapped over a request. The next one is started at once: without that request, it does not fail.
    pub fn failed(self, why: impl Display) {
        let _ = self.0.send((Event::Failed(Cause::Crash), why.to_string()));
    }
}

/// What lives in the slot.
struct Kept<I> {
    live: Arc<Live>,
    ended: oneshot::Receiver<(Event, String)>,
    /// Only to be dropped.
    _instance: I,
}

impl<I> Kept<I> {
    /// How it ends by itself.
    async fn end(&mut self) -> (Event, String) {
        (&mut self.ended).await.unwrap_or_else(|_| {
            (Event::Ended(Cause::Crash), "it ended without a word: its Ending was dropped".to_owned())
        })
    }
}

/// Keeps an instance of `module` alive in `slot`, for as long as this future is polled; when it is dropped, so is the instance,
/// and the slot is closed. `start` makes an instance; dropping what it returns ends that. It must come to an end: the slot waits
/// for it. One that panics has failed.
///
/// Generations are starts by the wall clock. Where that may be set back while the host does not run, the host keeps its
/// newest generation and begins with [`Slot::new_after`].
///
/// ```
/// use std::{convert::Infallible, sync::Arc};
/// use ebb_host::{instances::{Instances, Module}, keeper, lifecycle::BackoffPolicy, slot::Version};
/// use ebb_units::{ByteCount, Digest};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let instances = Arc::new(Instances::default());
/// let version = Version { digest: Digest::of(b"(module)"), memory_limit: ByteCount::mib(64) };
/// let module = instances.add(Module::new("leaky".parse().expect("it is a name"), "command", version));
/// let slot = module.add_slot();
/// tokio::spawn(keeper::keep(Arc::clone(&module), Arc::clone(&slot), BackoffPolicy::default(), |next| async move {
///     next.meter.set_bytes(ByteCount::mib(1));
///     // What stands for an instance: a store, a task, a handle of a process.
///     Ok::<_, Infallible>(next.ending)
/// }));
/// while slot.live().is_none() {
///     tokio::task::yield_now().await;
/// }
/// # }
/// ```
pub async fn keep<I, E: Display, F: Future<Output = Result<I, E>>>(
    module: Arc<Module>,
    slot: Arc<Slot>,
    backoff: BackoffPolicy,
    start: impl FnMut(Next) -> F,
) {
    // Monotonic: waits must not jump when the wall clock is set.
    let epoch = Instant::now();
    let mut keeper = Keeper { module, slot: Closing(slot), start, kept: None, order: None };
    let mut state = State::NEW;
    let mut event = keeper.start().await;
    keeper.slot.0.set_started();
    loop {
        let action;
        (state, action) = lifecycle::step(state, event, epoch.elapsed(), chance(), &backoff);
        keeper.slot.0.set_state(state);
        event = match action {
            Action::Watch => keeper.watch().await,
            Action::Start(cause) => {
                keeper.module.count_restart(&keeper.slot.0, cause.into());
                keeper.start().await
            }
            Action::Replace => keeper.replace().await,
            Action::WaitUntil(until) => keeper.wait(until.saturating_sub(epoch.elapsed())).await,
            Action::Stop => return,
        };
    }
}

struct Keeper<I, S> {
    module: Arc<Module>,
    slot: Closing,
    start: S,
    kept: Option<Kept<I>>,
    order: Option<RestartOrder>,
}

/// A slot that is closed when its keeper is gone.
struct Closing(Arc<Slot>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
        self.0.set_live(None);
        self.0.set_state(State::Stopped);
    }
}

impl<I, E: Display, F: Future<Output = Result<I, E>>, S: FnMut(Next) -> F> Keeper<I, S> {
    async fn start(&mut self) -> Event {
        match self.make().await {
            Ok(kept) => {
                self.slot.0.set_live(Some(Arc::clone(&kept.live)));
                self.kept = Some(kept);
                Event::Started
            }
            Err(cause) => {
                self.slot.0.set_last_end(cause);
                Event::StartFailed
            }
        }
    }

    /// Makes an instance. It is nobody's yet.
    ///
    /// # Errors
    /// Why there is none, in words.
    async fn make(&mut self) -> Result<Kept<I>, String> {
        let version = self.module.version();
        let (ending, ended) = oneshot::channel();
        let meter = Arc::new(Meter::default());
        let generation = self.slot.0.next_generation(now_unix_ms());
        let ready = Arc::new(AtomicBool::new(false));
        let next = Next {
            replica: self.slot.0.replica,
            generation,
            meter: Arc::clone(&meter),
            ending: Ending(ending),
            memory_limit: version.memory_limit,
            module: Arc::clone(&self.module),
            #[cfg(feature = "wasmtime")]
            digest: version.digest.clone(),
            #[cfg(feature = "wasmtime")]
            ready: Arc::clone(&ready),
        };
        let started = AssertUnwindSafe(async { (self.start)(next).await }).catch_unwind().await;
        let instance = started
            .map_err(|panic| format!("it panicked: {}", message(&*panic)))?
            .map_err(|cause| format!("{cause:#}"))?;
        ready.store(true, Ordering::Relaxed);
        let live = Arc::new(Live { generation, version: Version::clone(&version), meter, own: () });
        Ok(Kept { live, ended, _instance: instance })
    }

    /// Waits until the instance ends, or is to be replaced.
    async fn watch(&mut self) -> Event {
        let kept = self.kept.as_mut().expect("the lifecycle watches only what it started");
        let (end, how) = {
            let mut ended = pin!(kept.end());
            loop {
                let command = tokio::select! {
                    biased;
                    end = &mut ended => break end,
                    command = self.slot.0.next_order() => command,
                };
                match command {
                    Command::Restart(order) => match self.slot.0.check_current(order.expected) {
                        Ok(()) => {
                            self.order = Some(order);
                            return Event::RestartOrdered;
                        }
                        Err(refusal) => self.slot.0.answer(order, Err(refusal)),
                    },
                    Command::StartNow(reply) => started_now(&self.slot.0, reply),
                }
            }
        };
        self.slot.0.set_live(None);
        self.slot.0.set_last_end(how);
        self.kept = None;
        end
    }

    async fn replace(&mut self) -> Event {
        let order = self.order.take().expect("a replacement follows an order");
        let mut old = self.kept.take().expect("a replacement replaces something");
        let made = {
            let slot = Arc::clone(&self.slot.0);
            let mut made = pin!(self.make());
            tokio::select! {
                biased;
                made = &mut made => made,
                end = old.end() => {
                    // It is gone before its successor is there, and nobody may see it live.
                    slot.set_live(None);
                    slot.set_last_end(end.1.clone());
                    old.ended = ended_already(end);
                    made.await
                }
            }
        };
        let kept = match made {
            Ok(kept) => kept,
            Err(cause) => {
                self.kept = Some(old);
                self.slot.0.answer(order, Err(Refusal::CouldNotStart(cause)));
                return Event::ReplacementFailed;
            }
        };
        if let Ok((_, how)) = old.ended.try_recv() {
            self.slot.0.set_last_end(how);
        }
        let (new, new_bytes) = (kept.live.generation, kept.live.meter.bytes());
        self.slot.0.set_live(Some(Arc::clone(&kept.live)));
        self.kept = Some(kept);
        let old_live = Arc::clone(&old.live);
        let old_bytes = old_live.meter.bytes();
        drop(old);
        let drained = Drained { old: old_live.generation, meter: Arc::downgrade(&old_live.meter) };
        drop(old_live);
        let draining = !drained.within(ANSWER_WITHIN).await;
        let restarted = Restarted {
            old: drained.old,
            new,
            reclaimed: old_bytes.saturating_sub(new_bytes),
            released: ByteCount(0),
            duration: order.received.elapsed(),
            draining,
        };
        self.module.count_restart(&self.slot.0, order.reason);
        self.module.observe_restart(&restarted);
        let RestartOrder { reply, permit, .. } = order;
        if draining {
            // The room for its replacement is not free before.
            tokio::spawn(async move {
                drained.within(Duration::MAX).await;
                drop(permit);
            });
        } else {
            drop(permit);
        }
        self.slot.0.order_done();
        // Whoever gave the order may have gone; it was carried out all the same.
        let _ = reply.send(Ok(restarted));
        Event::Replaced
    }

    /// Waits to start again. An order to restart finds nothing to restart.
    async fn wait(&mut self, wait: Duration) -> Event {
        let mut elapsed = pin!(tokio::time::sleep(wait));
        loop {
            let command = tokio::select! {
                biased;
                () = &mut elapsed => return Event::BackoffElapsed,
                command = self.slot.0.next_order() => command,
            };
            match command {
                Command::Restart(order) => self.slot.0.answer(order, Err(Refusal::NothingRunning)),
                Command::StartNow(reply) => {
                    started_now(&self.slot.0, reply);
                    return Event::BackoffElapsed;
                }
            }
        }
    }
}

/// What was panicked with.
fn message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with no message")
}

/// Tells of an end once more.
fn ended_already(end: (Event, String)) -> oneshot::Receiver<(Event, String)> {
    let (say, ended) = oneshot::channel();
    say.send(end).expect("its receiver is here");
    ended
}

/// An instance that was replaced, and may still have something to finish.
struct Drained {
    old: Generation,
    meter: Weak<Meter>,
}

impl Drained {
    /// Whether its memory is gone, or goes in time.
    async fn within(&self, time: Duration) -> bool {
        /// How often is looked.
        const EVERY: Duration = Duration::from_millis(5);
        let begun = Instant::now();
        while self.meter.strong_count() > 0 {
            if begun.elapsed() >= time {
                return false;
            }
            tokio::time::sleep(EVERY).await;
        }
        true
    }
}

fn started_now(slot: &Slot, reply: oneshot::Sender<()>) {
    slot.order_done();
    let _ = reply.send(());
}

pub(crate) fn now_unix_ms() -> u64 {
    // A clock before 1970 gives generation 0, and increasing ones from there.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ebb_units::Digest;

    use super::*;
    use crate::restart::Reason;

    /// Starts nothing but what it is told to: each start waits for a word, and its memory is so large.
    fn kept(
        words: tokio::sync::mpsc::UnboundedReceiver<Result<u64, &'static str>>,
    ) -> (Arc<Module>, Arc<Slot>) {
        let version = Version { digest: Digest::of(b"leaky"), memory_limit: ByteCount::mib(64) };
        let module = Arc::new(Module::new("leaky".parse().unwrap(), "command", version));
        let slot = module.add_slot();
        let words = Arc::new(tokio::sync::Mutex::new(words));
        let start = move |next: Next| {
            let words = Arc::clone(&words);
            async move {
                let Some(word) = words.lock().await.recv().await else { std::future::pending().await };
                next.meter.set_bytes(ByteCount(word?));
                Ok::<_, &str>(next.ending)
            }
        };
        let backoff = BackoffPolicy { min: Duration::from_millis(1), ..BackoffPolicy::default() };
        tokio::spawn(keep(Arc::clone(&module), Arc::clone(&slot), backoff, start));
        (module, slot)
    }

    async fn live(slot: &Slot, is_sought: impl Fn(Option<&Live>) -> bool) -> Option<Arc<Live>> {
        tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let live = slot.live();
                if is_sought(live.as_deref()) {
                    return live;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the slot comes to that in half a minute")
    }

    async fn restarted(module: &Module, slot: &Slot) -> Result<Restarted, Refusal> {
        module.order_restart(slot, None, Reason::Threshold, Instant::now())?.await.expect("it is answered")
    }

    #[tokio::test]
    async fn an_order_replaces_what_lives_and_a_failed_one_leaves_it() {
        let (say, words) = tokio::sync::mpsc::unbounded_channel();
        let (module, slot) = kept(words);
        for word in [Err("no memory"), Ok(500), Err("no disk"), Ok(100)] {
            say.send(word).unwrap();
        }
        let first = live(&slot, |live| live.is_some()).await.unwrap();
        assert_eq!(slot.progress().last_end.as_deref(), Some("no memory"));
        let refused = restarted(&module, &slot).await;
        assert_eq!(refused, Err(Refusal::CouldNotStart("no disk".to_owned())));
        assert_eq!(slot.live().unwrap().generation, first.generation);
        let done = restarted(&module, &slot).await.unwrap();
        assert_eq!((done.old, done.reclaimed.0), (first.generation, 400));
        assert!(done.new > done.old && slot.live().unwrap().generation == done.new);
        // By order, and after the start that failed.
        assert_eq!((module.restarts()[Reason::Threshold as usize], slot.own_ends()), (1, 1));
    }

    /// What starts, says how it ends, and is told what to do by the test: `None` panics.
    fn told(
        mut starts: tokio::sync::mpsc::UnboundedReceiver<Option<oneshot::Receiver<()>>>,
    ) -> (Arc<Module>, Arc<Slot>, tokio::sync::mpsc::UnboundedReceiver<Ending>) {
        let version = Version { digest: Digest::of(b"leaky"), memory_limit: ByteCount::mib(64) };
        let module = Arc::new(Module::new("leaky".parse().unwrap(), "command", version));
        let slot = module.add_slot();
        let (begun, endings) = tokio::sync::mpsc::unbounded_channel();
        let start = move |next: Next| {
            let (begun, how) = (begun.clone(), starts.try_recv().expect("as many starts as were told"));
            async move {
                let may_go_on = how.expect("this start is told to panic");
                // A test that is over lets nobody start.
                may_go_on.await.map_err(|_| "not today")?;
                begun.send(next.ending).expect("the test listens");
                Ok::<_, &str>(())
            }
        };
        let backoff = BackoffPolicy { min: Duration::from_millis(1), ..BackoffPolicy::default() };
        tokio::spawn(keep(Arc::clone(&module), Arc::clone(&slot), backoff, start));
        (module, slot, endings)
    }

    fn at_once() -> Option<oneshot::Receiver<()>> {
        let (go_on, waits) = oneshot::channel();
        go_on.send(()).unwrap();
        Some(waits)
    }

    #[tokio::test]
    async fn a_start_that_panics_has_failed_and_leaves_what_lives() {
        let (say, starts) = tokio::sync::mpsc::unbounded_channel();
        for start in [None, at_once(), None, at_once()] {
            say.send(start).unwrap();
        }
        let (module, slot, _endings) = told(starts);
        let first = live(&slot, |live| live.is_some()).await.unwrap();
        let panicked = "it panicked: this start is told to panic";
        assert_eq!(slot.progress().last_end.as_deref(), Some(panicked));
        assert_eq!(restarted(&module, &slot).await, Err(Refusal::CouldNotStart(panicked.to_owned())));
        assert_eq!(slot.live().unwrap().generation, first.generation);
        assert!(restarted(&module, &slot).await.unwrap().new > first.generation);
    }

    #[tokio::test]
    async fn what_ends_while_its_replacement_starts_is_seen_to_be_gone() {
        for replacement_starts in [true, false] {
            let (say, starts) = tokio::sync::mpsc::unbounded_channel();
            let (go_on, waits) = oneshot::channel();
            for start in [at_once(), Some(waits), at_once()] {
                say.send(start).unwrap();
            }
            let (module, slot, mut endings) = told(starts);
            let first = live(&slot, |live| live.is_some()).await.unwrap();
            let order = module.order_restart(&slot, None, Reason::Threshold, Instant::now()).unwrap();
            while !matches!(slot.progress().state, State::Restarting { .. }) {
                tokio::task::yield_now().await;
            }
            endings.recv().await.unwrap().exited();
            live(&slot, |live| live.is_none()).await;
            assert_eq!(slot.progress().last_end.as_deref(), Some("exited"));
            if replacement_starts {
                go_on.send(()).unwrap();
                assert!(order.await.unwrap().unwrap().new > first.generation);
            } else {
                drop(go_on);
                let refused = order.await.unwrap();
                assert_eq!(refused, Err(Refusal::CouldNotStart("not today".to_owned())));
            }
            let next = live(&slot, |live| live.is_some()).await.unwrap();
            assert!(next.generation > first.generation);
            assert_eq!(slot.own_ends(), u64::from(!replacement_starts));
        }
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_followed_by_another() {
        let ends: [(fn(Ending), _); 3] = [
            (Ending::exited, "exited"),
            (|ending| ending.crashed("unreachable"), "unreachable"),
            (|ending| ending.failed("out of bounds"), "out of bounds"),
        ];
        for (end, how) in ends {
            let version = Version { digest: Digest::of(b"leaky"), memory_limit: ByteCount::mib(64) };
            let module = Arc::new(Module::new("leaky".parse().unwrap(), "command", version));
            let slot = module.add_slot();
            let mut end = Some(end);
            let start = move |next: Next| {
                let end = end.take();
                async move {
                    match end {
                        Some(end) => end(next.ending),
                        None => return Ok(Some(next.ending)),
                    }
                    Ok::<_, &str>(None)
                }
            };
            let backoff = BackoffPolicy { min: Duration::from_millis(1), ..BackoffPolicy::default() };
            let keeper = tokio::spawn(keep(Arc::clone(&module), Arc::clone(&slot), backoff, start));
            live(&slot, |live| live.is_some() && slot.own_ends() == 1).await;
            assert_eq!(slot.progress().last_end.as_deref(), Some(how));
            keeper.abort();
            live(&slot, |live| live.is_none()).await;
            assert_eq!(restarted(&module, &slot).await, Err(Refusal::NothingRunning));
        }
    }
}
