//! The task that owns a slot: asks [`lifecycle`] what to do next, and does it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ebb_host::{
    lifecycle::{self, Action, Cause, Event, State},
    restart::{Refusal, RestartOrder, Restarted},
    slot::{Command, Live},
};
use ebb_service::logging::Chain;
use ebb_units::{ByteCount, Generation};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    drain::{self, Draining},
    generations::Generations,
    module::{self, Module, Occupant, Slot},
    preparation::{Preparation, host_failure},
};
use crate::{
    exchange::state::Server,
    guest::{End, Ended, Prepared, Running, turns::Places},
    kind::Kind,
    program::Program,
    threads::Handles,
};

/// A slot's owner.
pub(super) struct Supervisor {
    pub(super) slot: Arc<Slot>,
    pub(super) module: Arc<Module>,
    pub(super) threads: Handles,
    pub(super) generations: Arc<Generations>,
    /// The slot shall close; what serves finishes what it has begun.
    pub(super) stop: CancellationToken,
    /// Everything ends now.
    pub(super) halt: CancellationToken,
}

/// A lifetime that is about to take the slot over, empty or not.
struct Replacement {
    prepared: Prepared,
    program: Arc<Program>,
    generation: Generation,
}

/// A supervisor's memory between two steps.
struct SupervisorState {
    running: Option<(Generation, Running)>,
    order: Option<RestartOrder>,
    last: Option<Generation>,
    /// The last lifetime that was replaced, finishing its requests. At most one: meanwhile the slot takes no
    /// order.
    draining: Option<tokio::task::JoinHandle<()>>,
}

impl Supervisor {
    /// Keeps the slot alive until `stop`, and leaves nothing behind.
    pub(super) async fn run(self) {
        // Monotonic: the lifecycle's waits must not jump when the wall clock is set.
        let epoch = Instant::now();
        let mut state = SupervisorState { running: None, order: None, last: None, draining: None };
        let mut phase = State::NEW;
        let mut event = self.start(&mut state).await;
        self.slot.set_started();
        loop {
            let policy = self.module.settings().backoff;
            let (next, action) =
                lifecycle::step(phase, event, epoch.elapsed(), rand::random::<f64>(), &policy);
            phase = next;
            self.slot.set_state(phase);
            event = match action {
                Action::Watch => self.watch(&mut state).await,
                Action::Start(cause) => {
                    self.module.host.count_restart(&self.slot, cause.into());
                    self.start(&mut state).await
                }
                Action::Replace => self.replace(&mut state).await,
                Action::WaitUntil(until) => {
                    let wait = until.saturating_sub(epoch.elapsed());
                    self.log_wait(phase, wait);
                    self.wait(wait).await
                }
                Action::Stop => break,
            };
        }
        self.slot.close();
        self.generations.close(state.last);
        if let Some((_, running)) = state.running {
            if let Kind::Http(service) = &self.module.kind {
                running.stop_accepting();
                drain::drain(&running, service.settings().drain_timeout, &self.halt).await;
            }
            self.slot.set_live(None);
            if let Ok(ended) = running.stop(&self.threads.starts).await {
                drain::dispose(&self.threads, ended).await;
            }
        }
        if let Some(draining) = state.draining {
            // Had it panicked, that would have been printed.
            let _ = draining.await;
        }
    }

    /// Starts a lifetime in the empty slot.
    async fn start(&self, state: &mut SupervisorState) -> Event {
        let generation = self.generations.next(state.last, now_unix_ms());
        let program = self.module.settings().program;
        let prepared = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Event::StopOrdered,
            prepared = self.prepare(&program, generation) => prepared,
        };
        match prepared {
            Ok(prepared) => {
                self.launch(state, Replacement { prepared, program, generation });
                debug!(module = %self.module.name(), replica = self.slot.replica.0, generation = generation.0,
                    "instance started");
                Event::Started
            }
            Err(cause) => {
                let cause = Chain(&cause).to_string();
                warn!(module = %self.module.name(), replica = self.slot.replica.0, error = cause,
                    "instance could not be started");
                self.slot.set_last_end(cause);
                Event::StartFailed
            }
        }
    }

    /// Waits for the live lifetime to end by itself, for an order, or for the stop.
    async fn watch(&self, state: &mut SupervisorState) -> Event {
        let (generation, running) =
            state.running.as_mut().expect("the lifecycle watches only what it started");
        let generation = *generation;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Event::StopOrdered,
                ended = running.ended() => {
                    self.slot.set_live(None);
                    let had_requests = running.had_requests();
                    state.running = None;
                    return ended_by_itself(self.conclude(generation, ended).await, had_requests);
                }
                order = self.slot.next_order() => match order {
                    Command::Restart(order) => match self.slot.check_current(order.expected) {
                        Ok(()) => {
                            state.order = Some(order);
                            return Event::RestartOrdered;
                        }
                        Err(refusal) => self.slot.answer(order, Err(refusal)),
                    },
                    Command::StartNow(reply) => {
                        self.slot.order_done();
                        let _ = reply.send(());
                    }
                },
            }
        }
    }

    /// Waits to start again. An order to restart finds nothing to restart.
    async fn wait(&self, wait: Duration) -> Event {
        let elapsed = tokio::time::sleep(wait);
        tokio::pin!(elapsed);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Event::StopOrdered,
                () = &mut elapsed => return Event::BackoffElapsed,
                order = self.slot.next_order() => match order {
                    Command::Restart(order) => self.slot.answer(order, Err(Refusal::NothingRunning)),
                    Command::StartNow(reply) => {
                        self.slot.order_done();
                        let _ = reply.send(());
                        return Event::BackoffElapsed;
                    }
                },
            }
        }
    }

    /// Prepares a replacement, ends the live lifetime, runs the replacement.
    ///
    /// Two lifetimes of a command overlap only while the replacement has not begun its program, so what a
    /// command holds on its own (a lock file, a port) is free again before its replacement reaches for it. The
    /// replacement of one that serves takes over first, and the old one finishes what it has begun.
    ///
    /// If the live lifetime ends by itself meanwhile, there is nothing left to replace: the replacement is
    /// given up, and the slot starts again like after any other end.
    async fn replace(&self, state: &mut SupervisorState) -> Event {
        let order = state.order.take().expect("a replacement follows an order");
        let generation = self.generations.next(state.last, now_unix_ms());
        let program = self.module.settings().program;
        let (old, mut running) = state.running.take().expect("a replacement replaces something");
        let mut preparation = self.prepare(&program, generation);
        let prepared = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                state.running = Some((old, running));
                self.slot.answer(order, Err(Refusal::Closing));
                return Event::StopOrdered;
            }
            ended = running.ended() => {
                self.slot.set_live(None);
                let cause = self.conclude(old, ended).await;
                preparation.give_up(&self.threads.starts).await;
                self.slot.answer(order, Err(Refusal::NothingRunning));
                return ended_by_itself(cause, running.had_requests());
            }
            prepared = &mut preparation => prepared,
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(cause) => {
                let cause = Chain(&cause).to_string();
                warn!(module = %self.module.name(), replica = self.slot.replica.0, error = cause,
                    reason = order.reason.as_str(), "restart: the new instance could not be started, the old one stays");
                state.running = Some((old, running));
                self.slot.answer(order, Err(Refusal::CouldNotStart(cause)));
                return Event::ReplacementFailed;
            }
        };
        let replacement = Replacement { prepared, program, generation };
        match &self.module.kind {
            Kind::Command => self.replace_command(state, order, old, running, replacement).await,
            Kind::Http(service) => {
                let drain_timeout = service.settings().drain_timeout;
                self.replace_serving(state, order, old, running, replacement, drain_timeout);
            }
        }
        Event::Replaced
    }

    /// Ends a command, then runs its replacement.
    async fn replace_command(
        &self,
        state: &mut SupervisorState,
        order: RestartOrder,
        old: Generation,
        running: Running,
        replacement: Replacement,
    ) {
        let new = replacement.generation;
        let new_bytes = replacement.prepared.meter().bytes();
        let old_meter = Arc::clone(running.meter());
        let ended = running.stop(&self.threads.starts).await;
        let old_bytes = old_meter.bytes();
        self.launch(state, replacement);
        let released = match ended {
            Ok(ended) if matches!(ended.end, End::Stopped) => drain::release(&self.threads, ended).await,
            // It ended by itself before it could be stopped. Its replacement runs, so nothing follows.
            ended => {
                self.conclude(old, ended).await;
                ByteCount(0)
            }
        };
        let restarted = Restarted {
            old,
            new,
            reclaimed: old_bytes.saturating_sub(new_bytes),
            released,
            duration: order.received.elapsed(),
            draining: false,
        };
        self.module.host.count_restart(&self.slot, order.reason);
        drain::note_restart(&self.module, self.slot.replica, order.reason, &restarted);
        self.slot.answer(order, Ok(restarted));
    }

    /// Runs the replacement of an instance that serves, and lets the old one finish what it has begun.
    fn replace_serving(
        &self,
        state: &mut SupervisorState,
        order: RestartOrder,
        old: Generation,
        running: Running,
        replacement: Replacement,
        drain_timeout: Duration,
    ) {
        let new = replacement.generation;
        let new_bytes = replacement.prepared.meter().bytes();
        // The replacement first: there is no moment without an instance that takes requests.
        self.launch(state, replacement);
        running.stop_accepting();
        self.module.host.count_restart(&self.slot, order.reason);
        let RestartOrder { reason, received, reply, permit, .. } = order;
        let draining = Draining {
            slot: Arc::clone(&self.slot),
            module: Arc::clone(&self.module),
            threads: self.threads.clone(),
            running,
            old,
            new,
            new_bytes,
            reason,
            received,
            reply,
            permit,
        };
        state.draining = Some(tokio::spawn(draining.finish(drain_timeout, self.halt.clone())));
    }

    fn prepare(&self, program: &Arc<Program>, generation: Generation) -> Preparation {
        Preparation::begin(&self.module, program, self.slot.replica, generation, &self.threads.starts)
    }

    /// Makes a prepared lifetime the slot's live one, and runs it.
    fn launch(
        &self,
        state: &mut SupervisorState,
        Replacement { prepared, program, generation }: Replacement,
    ) {
        // Before anybody can see it.
        self.generations.keep(generation);
        let (meter, handles) = (Arc::clone(prepared.meter()), Arc::clone(prepared.handles()));
        let home = match &self.module.kind {
            Kind::Command => &self.threads.guests,
            Kind::Http(_) => &self.threads.http,
        };
        let host_calls = program.host_calls_or(home);
        self.slot.set_live(Some(Arc::new(Live {
            generation,
            version: module::version(&program),
            meter,
            own: Occupant { program, handles },
        })));
        let server = Server { replica: self.slot.replica, generation };
        let places = Places { home, busy: &self.threads.busy, host_calls: &host_calls };
        state.running = Some((generation, prepared.launch(&places, server)));
        state.last = Some(generation);
    }

    /// Takes note of how a lifetime ended by itself.
    async fn conclude(&self, generation: Generation, ended: Result<Ended, JoinError>) -> Cause {
        let (module, replica) = (self.module.name(), self.slot.replica.0);
        match ended {
            Ok(mut ended) => {
                let end = std::mem::replace(&mut ended.end, End::Stopped);
                drain::dispose(&self.threads, ended).await;
                match end {
                    End::Crash(how) => {
                        warn!(%module, replica, generation = generation.0, error = how, "instance crashed");
                        self.slot.set_last_end(how);
                        Cause::Crash
                    }
                    End::Exit | End::Stopped => {
                        info!(%module, replica, generation = generation.0, "instance exited");
                        self.slot.set_last_end("exit code 0".to_owned());
                        Cause::Exit
                    }
                }
            }
            Err(error) => {
                let how = format!("the host failed: {}", host_failure(error));
                error!(%module, replica, generation = generation.0, error = how, "instance crashed");
                self.slot.set_last_end(how);
                Cause::Crash
            }
        }
    }

    fn log_wait(&self, state: State, wait: Duration) {
        let (module, replica) = (self.module.name(), self.slot.replica.0);
        let (failures, wait_ms) = (state.failures(), wait.as_millis());
        if state.is_crash_loop() {
            error!(%module, replica, failures, wait_ms, "crash loop: waiting to start again");
        } else {
            info!(%module, replica, failures, wait_ms, "waiting to start again");
        }
    }
}

/// What an end means for the slot. A request brought it about if there was one: then the next request gets
/// a fresh lifetime at once. Whatever ends without having been asked for anything has to wait.
fn ended_by_itself(cause: Cause, had_requests: bool) -> Event {
    if had_requests { Event::Failed(cause) } else { Event::Ended(cause) }
}

fn now_unix_ms() -> u64 {
    // A clock before 1970 gives generation 0, and increasing ones from there.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
