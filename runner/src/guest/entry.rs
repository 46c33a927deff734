//! Where a program begins, for each kind of it: linked, instantiated, at work.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use wasmtime::{Engine, InstancePre, Store, TypedFunc};
use wasmtime_wasi::{
    I32Exit,
    p2::bindings::{Command, CommandPre},
};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};

use super::{
    end::{End, end_of},
    serve,
    state::GuestState,
};
use crate::exchange::{service::Service, state::Server, worker::Worker};

/// How often at least a guest's requests are looked after, for those that have begun since.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A program, linked and ready to be instantiated again and again.
pub(crate) enum Linked {
    /// A preview1 core module with a `_start` function.
    Core(InstancePre<GuestState>),
    /// A `wasi:cli/command` component.
    Component(CommandPre<GuestState>),
    /// A `wasi:http` component.
    Http {
        /// The component.
        pre: ProxyPre<GuestState>,
        /// How many requests an instance works on at once.
        concurrency: NonZeroU32,
        /// Where they come from.
        service: Arc<Service>,
    },
}

impl Linked {
    /// Requests that an instance works on at once; a command works on one thing.
    pub(crate) const fn concurrency(&self) -> NonZeroU32 {
        match self {
            Self::Core(_) | Self::Component(_) => NonZeroU32::MIN,
            Self::Http { concurrency, .. } => *concurrency,
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Self::Core(pre) => pre.module().engine(),
            Self::Component(pre) => pre.engine(),
            Self::Http { pre: ProxyPre::P2(pre), .. } => pre.engine(),
            Self::Http { pre: ProxyPre::P3(pre), .. } => pre.engine(),
        }
    }

    pub(super) async fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Entry> {
        match self {
            Self::Core(pre) => {
                let instance = pre.instantiate_async(&mut *store).await?;
                instance.get_typed_func(store, "_start").map(Entry::Core)
            }
            Self::Component(pre) => pre.instantiate_async(store).await.map(Entry::Component),
            Self::Http { pre, concurrency, service } => {
                let (concurrency, service) = (*concurrency, Arc::clone(service));
                pre.instantiate_async(store).await.map(|proxy| Entry::Http { proxy, concurrency, service })
            }
        }
    }
}

/// Where an instance that runs nothing yet will begin.
pub(super) enum Entry {
    Core(TypedFunc<(), ()>),
    Component(Command),
    Http { proxy: Proxy, concurrency: NonZeroU32, service: Arc<Service> },
}

impl Entry {
    /// What the instance `server` does from now on. One that serves takes requests.
    pub(super) fn begin(self, server: Server) -> Work {
        match self {
            Self::Core(start) => Work::Core(start),
            Self::Component(command) => Work::Component(command),
            Self::Http { proxy, concurrency, service } => {
                let worker = Worker::register(&service.queue, server, concurrency);
                let settings = service.settings();
                let pause = settings.request_timeout.min(LOOK_PAUSE_MAX);
                Work::Http { proxy, worker, pause, grace: settings.drain_timeout }
            }
        }
    }
}

/// What a running instance does.
pub(super) enum Work {
    Core(TypedFunc<(), ()>),
    Component(Command),
    Http {
        proxy: Proxy,
        worker: Arc<Worker>,
        /// How long at most until its requests are looked after again.
        pause: Duration,
        /// How long the others may go on when one is stuck.
        grace: Duration,
    },
}

impl Work {
    /// The requests of one that serves.
    pub(super) const fn worker(&self) -> Option<&Arc<Worker>> {
        match self {
            Self::Core(_) | Self::Component(_) => None,
            Self::Http { worker, .. } => Some(worker),
        }
    }

    /// Does it to its end.
    pub(super) async fn run(&self, store: &mut Store<GuestState>) -> End {
        match self {
            Self::Core(start) => end_of(start.call_async(store, ()).await),
            Self::Component(command) => end_of(match command.wasi_cli_run().call_run(store).await {
                Ok(Ok(())) => Ok(()),
                // `wasi:cli/run` tells success from failure, and nothing more.
                Ok(Err(())) => Err(I32Exit(1).into()),
                Err(error) => Err(error),
            }),
            Self::Http { proxy, worker, pause, grace } => {
                tokio::select! {
                    biased;
                    () = worker.until_stuck(*pause, *grace) => {
                        End::Crash("a request made no progress for request_timeout".to_owned())
                    }
                    end = serve::serve(store, proxy, worker) => end,
                }
            }
        }
    }
}
