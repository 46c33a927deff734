//! A lifetime that is being prepared, on the threads for that.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use ebb_units::{Generation, Replica};
use tokio::{runtime::Handle, task::JoinError};
use tokio_util::task::AbortOnDropHandle;

use super::module::Module;
use crate::{
    guest::{Prepared, StartError},
    program::Program,
};

/// A lifetime being prepared; as a future, what came of it. Dropping this gives it up, without waiting until it is gone.
pub(super) struct Preparation(AbortOnDropHandle<Result<Prepared, StartError>>);

impl Preparation {
    /// Begins to prepare an instance of `program` on `threads`.
    pub(super) fn begin(
        module: &Module,
        program: &Arc<Program>,
        replica: Replica,
        generation: Generation,
        threads: &Handle,
    ) -> Self {
        let timeout = module.settings().start_timeout;
        let grow_failures = Arc::clone(&module.host.grow_failures);
        let growth = program.guest.growth_profile.then(|| module.host.growth_of(&program.digest));
        let prepare = Arc::clone(program).prepare(replica, generation, grow_failures, growth, timeout);
        Self(AbortOnDropHandle::new(threads.spawn(prepare)))
    }

    /// Ends it, and waits until the pool has its room again.
    pub(super) async fn give_up(self, threads: &Handle) {
        self.0.abort();
        if let Ok(Ok(prepared)) = self.0.await {
            // It was done already. Dropped like any other lifetime.
            let _ = threads.spawn_blocking(move || drop(prepared)).await;
        }
    }
}

impl Future for Preparation {
    type Output = Result<Prepared, StartError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let prepared = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(prepared.unwrap_or_else(|error| Err(StartError::Host(host_failure(error)))))
    }
}

/// In words: why a task did not end.
pub(super) fn host_failure(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic_message(&*panic),
        Err(_) => "its task was cancelled".to_owned(),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned()
}
